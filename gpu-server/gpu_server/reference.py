"""Writes docs/gpu-server/ from the code: `python -m gpu_server.reference DIRECTORY`.

A page each for states and causes, settings, and metrics. A test fails when the pages differ from what this gives.
"""

import argparse
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gpu_server import states
from gpu_server.admission import Admission
from gpu_server.gpu import MEANINGS, GpuMonitor, Sample, Xid
from gpu_server.metrics import Meter, Sources
from gpu_server.poller import Reading
from gpu_server.routes import routes_for
from gpu_server.settings import Settings

_HEAD = "<!-- Written by `make docs` from the code (gpu_server/reference.py); change it there. -->\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {"states.md": _states(), "settings.md": _settings(), "metrics.md": _metrics()}


def _table(head: str, rows: Iterable[Iterable[str]]) -> str:
    columns = head.split("|")
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines) + "\n"


# ---- states --------------------------------------------------------------------------------------------------------


def _states() -> str:
    _title, _, machine = inspect.cleandoc(states.__doc__ or "").partition("\n\n")
    limits = [
        ("stable", f"{states.STABLE_S:g} s", "a death so soon after readiness, or before it, is a quick one"),
        ("quick deaths to `failed`", str(states.QUICK_DEATHS_TO_FAIL), "in a row"),
        ("retry when `failed`", f"{states.FAILED_RETRY_S:g} s", "then one try each"),
        (
            "backoff",
            ", ".join(f"{states.backoff_s(deaths, 0.5):.3g}" for deaths in range(1, states.QUICK_DEATHS_TO_FAIL))
            + " s",
            "after the first, second, ... quick death, spread by a quarter either way",
        ),
    ]
    causes = [(f"`{cause.value}`", _comment(states.Cause, cause.name)) for cause in states.Cause]
    return "\n".join([
        _HEAD,
        "# States of a gpu-server\n",
        "`/health`, `/status` and `gpu_server_state` give one of "
        + ", ".join(f"`{name}`" for name in get_args(states.StateName))
        + ". `draining` is said while work is finished and llama-server is brought to its end.\n",
        machine + "\n",
        "## Times\n",
        _table("what|value|meaning", limits),
        "## Causes\n",
        "Why llama-server was lost: the label `cause` of `gpu_server_restarts_total`, and `lost_to` in the log.\n",
        _table("cause|meaning", causes),
    ])  # fmt: skip


def _comment(owner: type, name: str) -> str:
    """Return the comment behind a member of an enumeration: where its meaning is written."""
    found = re.search(rf"^ +{name} = .*?# (.*)$", inspect.getsource(owner), re.MULTILINE)
    if found is None:
        raise LookupError(f"{owner.__name__}.{name} has no comment that says what it means")
    return found.group(1)


# ---- settings --------------------------------------------------------------------------------------------------------


def _settings() -> str:
    rows = [
        (f"`{name.upper()}`", _kind(info), _default(info), (info.description or "").replace("<", "&lt;"))
        for name, info in Settings.model_fields.items()
    ]
    return "\n".join([
        _HEAD,
        "# Settings of a gpu-server\n",
        ("Environment variables, read once at the start. A wrong, misspelt or contradictory one stops the start with a "
        "line that names it; `gpu-server --check` only checks them.\n"),
        _table("setting|type|default|meaning", rows),
    ])  # fmt: skip


def _kind(info: FieldInfo) -> str:
    kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not type(None)]
    if get_origin(info.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in kinds)
    names = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", SecretStr: "secret"}
    bounds = [
        f"{sign} {getattr(rule, attribute):g}"
        for rule in info.metadata
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(rule, attribute, None) is not None
    ]
    return " ".join([names[kinds[0]], ", ".join(bounds)]).strip()


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.default
    if default is None or default == "" or isinstance(default, SecretStr):
        return "unset"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# ---- metrics ---------------------------------------------------------------------------------------------------------


def _metrics() -> str:
    server = CollectorRegistry()
    sources = Sources(
        snapshot=states.Snapshot,
        losses=dict,
        reading=lambda: Reading(),
        admission=Admission(1, 1),
        engine="binary",
    )
    Meter(server, "model", routes_for("chat"), sources)
    card = CollectorRegistry()
    card.register(_card())
    return "\n".join([
        _HEAD,
        "# Metrics of a gpu-server\n",
        ("`GET /metrics`, without the key. A scrape reads what is known and asks neither llama-server nor the driver. "
        "Base units; latencies carry the OpenTelemetry GenAI names and boundaries; the time per output token has finer "
        "ones, from 1 ms on, for fast cards.\n"),
        _table("metric|type|labels|meaning", _rows(server.collect())),
        ("`gpu_server_llama_*` beyond these are llama-server's own counters under their names, from the last poll "
        "(`llamacpp:tokens_predicted_total` becomes `gpu_server_llama_tokens_predicted_total`).\n"),
        "## The card\n",
        ("From NVML, every 5 s; missing without an NVIDIA GPU, and so is what a card does not tell. "
        "`gpu_xid_errors_total` appears with the first Xid.\n"),
        _table("metric|type|labels|meaning", _rows(card.collect())),
    ])  # fmt: skip


def _card() -> GpuMonitor:
    """Return the collector of a card that tells everything."""
    monitor = GpuMonitor(None, lambda _cause: None, SimpleNamespace())
    gauges = dict.fromkeys(MEANINGS, 0.0)
    monitor.samples = [Sample("GPU-0", "card", gauges, {"sm": 0.0}, {"sw_power_cap": False}, {"corrected": 0.0})]
    monitor.xids[Xid("GPU-0", 79)] = 1
    return monitor


def _rows(families: Iterable[Metric]) -> list[tuple[str, str, str, str]]:
    rows = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = _labels(family)
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append((f"`{name}`", family.type, shown, family.documentation))
    return sorted(rows)


def _labels(family: Any) -> list[str]:
    found: Mapping[str, None] = dict.fromkeys(label for sample in family.samples for label in sample.labels)
    return [label for label in found if label != "le"]


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
