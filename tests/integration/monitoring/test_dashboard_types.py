"""The dashboards' JSON against the types that Grafana publishes for it, by TypeScript's compiler.

The SDK that writes the dashboards is made from the same schema; this is what Grafana's own pages are compiled with.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.paths import CHECKOUT
from litellm_embedded.install import npm_step
from litellm_embedded.node import find_node

pytestmark = pytest.mark.integration

GRAFANA = CHECKOUT / "monitoring" / "grafana"
SCHEMA = GRAFANA / "schema"
PANEL = {"type": "timeseries", "title": "t", "targets": [{"refId": "A", "expr": "up"}], "fieldConfig": {}}
# What the types must refuse: else the compiler could be content with anything.
WRONG = {
    "a kind that there is none of": {**PANEL, "type": "timeserie"},
    "an option that is misspelt": {**PANEL, "options": {"legend": {"displaymode": "list"}}},
    "a value that an option does not have": {**PANEL, "options": {"legend": {"displayMode": "lists"}}},
    "another kind's option": {**PANEL, "type": "stat", "options": {"legend": {}}},
    "a query without its letter": {**PANEL, "targets": [{"expr": "up"}]},
}


def program() -> Iterator[str]:
    """Give the dashboards, and what must be refused, as a program."""
    yield "import type { WrittenDashboard, WrittenPanel } from 'shapes';"
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board.pop("panels"):
            yield f"export const {file.stem}_{panel['id']}: WrittenPanel = {json.dumps(panel)};"
        yield f"export const {file.stem}: WrittenDashboard = {json.dumps(board)};"
    for number, (what, panel) in enumerate(WRONG.items()):
        yield f"// @ts-expect-error {what}"
        yield f"export const wrong_{number}: WrittenPanel = {json.dumps(panel)};"


def test_grafanas_own_types_accept_the_dashboards(tmp_path: Path) -> None:
    types = npm_step("Grafana's types", SCHEMA)
    if not types.is_done():
        types.do()
    (tmp_path / "dashboards.ts").write_text("\n".join(program()))
    packages = f"{SCHEMA}/node_modules/@grafana/schema"
    settings = {
        "noEmit": True, "strict": True, "skipLibCheck": True, "target": "ES2022", "module": "ESNext",
        "moduleResolution": "bundler", "types": [],
        "paths": {
            "shapes": [f"{SCHEMA}/shapes.ts"],
            "@grafana/schema": [f"{packages}/dist/esm/index.d.mts"],
            "@grafana/schema/*": [f"{packages}/*"],
        },
    }  # fmt: skip
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "files": ["dashboards.ts"]}))
    compiler = SCHEMA / "node_modules" / "typescript" / "bin" / "tsc"
    command = [find_node().executable, compiler, "--project", tmp_path, "--pretty", "false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
