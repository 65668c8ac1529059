"""Farm files for tests."""

import json
from typing import Any

from corral.farm import FarmFile
from corral.farm.checks import problems
from corral.yamlfile import YamlFileErrors, loads


def serving(models: dict[str, Any], first_port: int = 8080) -> str:
    """Return a farm file of one machine that serves each of these models once; JSON is YAML."""
    servers = [{"model": name, "host": "here", "ports": first_port + place} for place, name in enumerate(models)]
    return json.dumps({"hosts": {"here": {"runtime": "processes"}}, "models": models, "servers": servers})


def farm_of(text: str) -> FarmFile:
    """Return the farm of a text that is in order."""
    return loads(text, "farm.yaml", FarmFile, problems)


def faults(text: str) -> list[str]:
    """Return what is said of a text, one line for each problem; nothing if it is a farm."""
    try:
        farm_of(text)
    except YamlFileErrors as errors:
        return errors.lines()
    return []
