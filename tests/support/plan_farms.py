"""Farms to plan, and the headers of their models."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from corral.farm import FarmFile, load_farm
from corral.gguf.header import Header
from corral.plan.figures import Edit, Finding, Plan
from corral.plan.known import Known
from corral.plan.plan import plan
from corral.planner.memory import MIB
from support.gguf_headers import header_of
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, nomic_embed_v15_q8_0, small

FARMS = Path(__file__).parents[2] / "farms"
REFERENCE = FARMS / "reference.yaml"

# Qwen2.5-7B-Instruct's sizes, all matrices in q4_k: 4.3 GB.
QWEN = Sizes(
    "qwen2", layers=28, embedding=3584, feed_forward=18_944, heads=28, kv_heads=4, vocabulary=152_064, type="q4_k"
)  # fmt: skip


@cache
def reference_known() -> Known:
    llama = header_of(llama_31_8b_q5_k_m())
    return Known({"llama": llama, "llama-uncensored": llama, "nomic-embed": header_of(nomic_embed_v15_q8_0())})


@cache
def small_header() -> Header:
    """Some 45 MiB of weights, 2 KiB of f16 cache a token."""
    return header_of(small(Sizes()))


def one_gpu_farm(
    *, gpus: Sequence[int] = (1024,), model: dict[str, Any] | None = None, host: dict[str, Any] | None = None,
    servers: Sequence[dict[str, Any]] = ({"gpus": [0], "ports": 8080},), more_models: dict[str, Any] | None = None,
) -> FarmFile:  # fmt: skip
    """A farm of one host, whose servers are of the model `m` unless they say another."""
    source = {"path": "m.gguf"}
    return FarmFile.model_validate(
        {
            "hosts": {"box": {"gpus": [{"memory_mib": size} for size in gpus], **(host or {})}},
            "models": {
                "m": {"source": source, **(model or {})},
                **{name: {"source": source, **one} for name, one in (more_models or {}).items()},
            },
            "servers": [{"model": "m", "host": "box", **one} for one in servers],
        }
    )


def planned(farm: FarmFile, margin_mib: int = 64, **options: Any) -> Plan:
    """The plan of a farm whose models are all the small one."""
    known = Known({name: small_header() for name in farm.models})
    return plan(farm, known, margin_mib * MIB, **options)


def found(plan: Plan, code: str) -> Finding:
    """The one finding of a kind."""
    (finding,) = (finding for finding in plan.findings if finding.code == code)
    return finding


def codes(plan: Plan, level: str = "error") -> list[str]:
    return [finding.code for finding in plan.findings if finding.level == level]


def edited_file(source: Path, edits: Iterable[Edit], target: Path) -> FarmFile:
    """Write a farm file with these values replaced, as a person would, and load it."""
    document = yaml.safe_load(source.read_text())
    for edit in edits:
        part = document
        for step in edit.path[:-1]:
            part = part[step]
        part[edit.path[-1]] = list(edit.value) if isinstance(edit.value, tuple) else edit.value
    target.write_text(yaml.safe_dump(document))
    return load_farm(target).value
