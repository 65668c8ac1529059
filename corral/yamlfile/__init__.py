"""Reads a YAML file into a frozen Pydantic model, or says all that is wrong with it: file:line:column, and the mend.

    farm = load(Path("corral.yaml"), Farm, checks=cross_checks)

An error's text has one line for each problem of the file:

    corral.yaml:12:5: models.llama.contxt: unknown key; did you mean `context`? (known: source, context, slots)
"""

from corral.yamlfile.loader import Loaded, load, load_with_positions, loads
from corral.yamlfile.nodes import Place, Positions
from corral.yamlfile.problems import KeyPath, Problem, YamlFileErrors
from corral.yamlfile.schema import json_schema
from corral.yamlfile.secrets import looks_secret

__all__ = [
    "KeyPath",
    "Loaded",
    "Place",
    "Positions",
    "Problem",
    "YamlFileErrors",
    "json_schema",
    "load",
    "load_with_positions",
    "loads",
    "looks_secret",
]
