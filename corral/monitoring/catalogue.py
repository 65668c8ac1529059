"""Writes the catalogue of series, alerts and dashboards: `python -m corral.monitoring.catalogue PAGE`.

    python -m corral.monitoring.catalogue docs/monitoring-catalogue.md

A test fails when the committed page differs from what this gives.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from corral.paths import CHECKOUT
from corral.render.gate_metrics import SETTINGS

_SHIPPED = CHECKOUT / "monitoring"
_OF_CARDS = re.compile(r"\bgpu_(?!server_)\w+|corral:gpu_|energy_joules|power_watts")


def page() -> str:
    """Return the page as it is committed."""
    return "\n".join([
        "<!-- Written by `make docs` from monitoring/ and corral/render/gate_metrics.py; change it there. -->",
        "",
        "# Catalogue of the monitoring",
        "",
        "[monitoring.md](monitoring.md) says how it works. Metrics of the gpu-servers and cards stand in",
        "[gpu-server/metrics.md](gpu-server/metrics.md).",
        "",
        "## Alerts",
        "",
        "| alert | severity | after | meaning |",
        "| --- | --- | --- | --- |",
        *_alerts(),
        "",
        "## Recorded series",
        "",
        "Named `corral:LEVEL_METRIC:OPERATION`. Without an NVIDIA card those marked GPU are empty.",
        "",
        "| series | | expression |",
        "| --- | --- | --- |",
        *_recorded(),
        "",
        "## Metrics of the gate",
        "",
        "What is kept of LiteLLM's. `server` is the gpu-server that the gate picked.",
        "",
        "| metric | labels |",
        "| --- | --- |",
        *_gate(),
        "",
        "## Metrics of the routing",
        "",
        "[routing.md](routing.md#seeing-why) lists them: `corral_routing_*`.",
        "",
        "## Metrics of probes, dumps and budgets",
        "",
        "| metric | labels | |",
        "| --- | --- | --- |",
        *_others(),
        "",
        "## Dashboards",
        "",
        "Without an NVIDIA card panels marked GPU are empty.",
        "",
        *_dashboards(),
        "",
    ])  # fmt: skip


_OTHERS = (
    ("corral_key_spend_dollars", "api_key_alias", "what a key has spent of its budget (PostgreSQL's exporter)"),
    ("corral_key_budget_dollars", "api_key_alias", "what it may spend"),
    (
        "probe_success",
        "instance",
        "1 where an address of `monitoring.probes` answered as it should (blackbox exporter)",
    ),
    ("probe_ssl_earliest_cert_expiry", "instance", "when its certificate ends, in seconds since 1970"),
    (
        "corral_backup_last_dump_timestamp_seconds",
        "host",
        "when the gate's database was dumped last (litellm/scripts/nightly.sh)",
    ),
)


def needs_gpu(expression: str) -> bool:
    """Return whether an expression has data only where a gpu-server sees an NVIDIA card."""
    return _OF_CARDS.search(expression) is not None


def _rules(file: str) -> Iterator[dict[str, Any]]:
    text = (_SHIPPED / "prometheus" / "rules" / file).read_text(encoding="utf-8")
    yield from (rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"])


def _alerts() -> Iterator[str]:
    for rule in _rules("alerts.yml"):
        name, meaning = rule["alert"], rule["annotations"]["summary"]
        for label in ("server", "model", "host", "gpu", "api_key_alias", "integration", "instance"):
            meaning = meaning.replace(f"{{{{ $labels.{label} }}}}", f"*{label.split('_')[-1]}*")
        meaning = meaning.replace("{{ $value | humanizeDuration }}", "*time*")
        meaning = meaning.replace("{{ $value | humanizePercentage }}", "*share*").replace("{{ $value }}", "*value*")
        meaning = meaning.replace("{{ $labels.", "*").replace(" }}", "*")
        yield f"| [{name}](runbooks/{name}.md) | {rule['labels']['severity']} | {rule.get('for', '-')} | {meaning} |"


def _recorded() -> Iterator[str]:
    for rule in _rules("recording.yml"):
        expression = " ".join(rule["expr"].split()).replace("|", "\\|")
        yield f"| `{rule['record']}` | {'GPU' if needs_gpu(rule['expr']) else ''} | `{expression}` |"


def _gate() -> Iterator[str]:
    for group in SETTINGS["prometheus_metrics_config"]:
        labels = ", ".join(f"`{'server' if label == 'model_id' else label}`" for label in group["include_labels"])
        yield from (f"| `{metric}` | {labels} |" for metric in group["metrics"])


def _others() -> Iterator[str]:
    yield from (f"| `{metric}` | `{label}` | {meaning} |" for metric, label, meaning in _OTHERS)


def _dashboards() -> Iterator[str]:
    for file in sorted((_SHIPPED / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        panels = "; ".join(
            panel["title"] + (" (GPU)" if all(needs_gpu(target["expr"]) for target in panel["targets"]) else "")
            for panel in board["panels"]
        )
        yield f"- **{board['title']}** ({board['description'].rstrip('.')}): {panels}."


def main(argv: list[str] | None = None) -> None:
    """Write the file that is named."""
    parser = argparse.ArgumentParser(prog="python -m corral.monitoring.catalogue", description="Write the catalogue.")
    parser.add_argument("page", type=Path, help="where the page goes")
    parser.parse_args(argv).page.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
