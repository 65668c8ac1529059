"""Our measure held against a tool that is not ours: NVIDIA's AIPerf, on the same farm.

On a machine that others use, two runs differ by more than two tools do. So both tools ask through one relay that reads
the streams as they come, and each is compared with what the relay saw of the very same requests: k6's time to first
byte, and AIPerf's time to first token; and the time of whole answers.

    python3 -m venv .aiperf && .aiperf/bin/pip install aiperf      not with Corral: it brings 800 MB
    .venv/bin/python load-tests/referee.py --aiperf .aiperf/bin/aiperf

AIPerf wants a tokenizer though the server counts; it is given the one that comes with LiteLLM. Prints Markdown and
writes `bench-results/referee.json`.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from corral.capacity.workload import request_for  # noqa: E402
from corral.loadtest import k6, keys, samples, workload  # noqa: E402
from corral.loadtest.aim import Aim, farm_here  # noqa: E402
from corral.options import farm_file, state_dir  # noqa: E402
from corral.progress import for_console  # noqa: E402
from support.tap import Tap, tapped  # noqa: E402

TOKENIZERS = Path(next(iter(find_spec("litellm").submodule_search_locations))) / "litellm_core_utils" / "tokenizers"


def without_web_proxy() -> dict[str, str]:
    """Return the environment without proxy servers for the web."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def by_k6(farm: Aim, tap: Tap, key: str, folder: Path, streams: int, seconds: int) -> dict[str, float]:
    """Run streams.js through the relay; return its figures beside the relay's, means in s."""
    (folder / "targets.json").write_text(json.dumps({**farm.targets, "gate": tap.url}))
    settings = {
        "TARGETS": str(folder / "targets.json"), "API_KEY": key, "STREAMS": str(streams), "DURATION_S": str(seconds),
    }  # fmt: skip
    k6.run("streams", folder, settings, quiet=True)
    values = samples.read(folder / k6.RAW_FILE)
    return compared(
        tap,
        [each.value / 1000 for each in values if each.metric == "ttft_ms"],
        [each.value / 1000 for each in values if each.metric == "duration_ms"],
    )


def by_aiperf(program: Path, farm: Aim, tap: Tap, key: str, folder: Path, streams: int, count: int) -> dict[str, float]:
    """Run AIPerf through the relay with requests of our mixture; return its figures beside the relay's, means in s."""
    model = next(each for each in farm.targets["models"] if each["mode"] == "chat")
    chance, shipped = random.Random(2), workload.read(None)
    bodies = [request_for(model, shipped, chance).body for _ in range(count)]
    lines = [{"text": body["messages"][0]["content"], "output_length": body["max_tokens"]} for body in bodies]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command: list[str | Path] = [
        program, "profile", "--model", model["name"], "--url", tap.url, "--endpoint-type", "chat", "--streaming",
        "--api-key", key, "--input-file", folder / "requests.jsonl", "--custom-dataset-type", "single_turn",
        "--concurrency", str(streams), "--request-count", str(count), "--use-server-token-count",
        "--tokenizer", "builtin", "--output-artifact-dir", folder / "aiperf", "--ui", "none",
    ]  # fmt: skip
    environment = {**without_web_proxy(), "TIKTOKEN_CACHE_DIR": str(TOKENIZERS), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{program} ended with {ran.returncode}:\n{(ran.stdout + ran.stderr)[-3000:]}")
    found: list[dict[str, Any]] = [
        json.loads(line)["metrics"] for line in (folder / "aiperf" / "profile_export.jsonl").read_text().splitlines()
    ]
    return compared(
        tap,
        [each["time_to_first_token"]["value"] / 1000 for each in found],
        [each["request_latency"]["value"] / 1000 for each in found],
    )


def compared(tap: Tap, first_s: list[float], whole_s: list[float]) -> dict[str, float]:
    """Return the means of a tool beside those of the relay, and forget what the relay saw."""
    result = {
        "requests": float(len(whole_s)), "relay_requests": float(len(tap.whole_s)),
        "ttft_s": statistics.fmean(first_s), "relay_ttft_s": statistics.fmean(tap.first_tokens_s),
        "whole_s": statistics.fmean(whole_s), "relay_whole_s": statistics.fmean(tap.whole_s),
    }  # fmt: skip
    tap.first_tokens_s.clear()
    tap.whole_s.clear()
    return result


def table(result: dict[str, dict[str, float]]) -> str:
    """Return the figures as Markdown."""
    rows = [
        "| tool | requests | TTFT | relay's | ratio | whole answer | relay's | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tool, found in result.items():
        cells = [tool, f"{found['requests']:.0f}"]
        for name in ("ttft_s", "whole_s"):
            own, relay = found[name], found[f"relay_{name}"]
            cells += [f"{own * 1000:.0f} ms", f"{relay * 1000:.0f} ms", f"{own / relay:.3f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(
    aiperf: Annotated[Path, typer.Option(help="The AIPerf program.", exists=True, dir_okay=False)],
    streams: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 2,
    requests: Annotated[int, typer.Option(min=2, help="Requests of AIPerf.")] = 30,
    seconds: Annotated[int, typer.Option(min=5, help="Length of k6's run.")] = 60,
    state: Annotated[Path, typer.Option(envvar="CORRAL_STATE", help="The farm's state folder.")] = Path(".corral"),
) -> None:
    """Measure and print."""
    result: dict[str, dict[str, float]] = {}
    with (
        farm_here(state_dir(state), farm_file(None), for_console(Console(stderr=True))) as farm,
        keys.one(farm.manager()) as key,
        tapped(farm.targets["gate"]) as tap,
        tempfile.TemporaryDirectory(prefix="corral-referee-") as temporary,
    ):
        folder = Path(temporary)
        result["k6 (corral load-test)"] = by_k6(farm, tap, key, folder, streams, seconds)
        result["AIPerf"] = by_aiperf(aiperf.absolute(), farm, tap, key, folder, streams, requests)
    written = CHECKOUT / "bench-results"
    written.mkdir(exist_ok=True)
    (written / "referee.json").write_text(json.dumps(result, indent=1))
    print(table(result))


if __name__ == "__main__":
    typer.run(main)
