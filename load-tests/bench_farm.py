"""`make bench`: how long a farm takes to start and stop, what the gate adds to a first token, what each part weighs.

Starts a farm of its own in a temporary folder. Every figure stands beside a baseline of the same run: starts beside
the bare import of LiteLLM's proxy, first tokens beside the same request straight to llama-server's wrapper.
Prints a Markdown table and writes `bench-results/farm.json`.

    make bench                      everything; a cold start fetches some 500 MB of packages
    make bench ARGS=--no-cold       without the cold start
    make bench ARGS="--rounds 5"    more rounds
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

CHECKOUT = Path(__file__).resolve().parent.parent
CORRAL = CHECKOUT / ".venv" / "bin" / "corral"
PROMPT = [{"role": "user", "content": "Say hello."}]


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(*command: str | Path, cwd: Path = CHECKOUT, **environment: str) -> str:
    """Run a command; return what it printed. Its failure ends the benchmark with its words."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout


def first_token_s(client: httpx.Client, url: str, key: str) -> float:
    """Return the time to the first byte of content of one streamed chat, in s."""
    began = time.perf_counter()
    body = {"model": "chat", "messages": PROMPT, "max_tokens": 2, "temperature": 0, "stream": True}
    with client.stream("POST", url, json=body, headers={"Authorization": f"Bearer {key}"}) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if '"content":"' in line.replace(": ", ":") and '"content":""' not in line.replace(": ", ":"):
                return time.perf_counter() - began
    sys.exit(f"{url} streamed no content")


def secret(state: Path, name: str) -> str:
    """Return one secret of the farm."""
    found = re.search(rf"^{name}=(.*)$", (state / ".env").read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"{name} is not in {state / '.env'}")
    return found[1]


def cold(temporary: Path) -> dict[str, float]:
    """Time `make up` in a fresh clone with an empty HOME, so with empty caches."""
    clone, home = temporary / "clone", temporary / "home"
    home.mkdir()
    run("git", "clone", "--quiet", CHECKOUT, clone)
    environment = {"HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), "CORRAL_STATE": str(clone / ".corral")}
    taken = seconds(lambda: run("make", "up", cwd=clone, **environment))
    run("make", "down", cwd=clone, **environment)
    shutil.rmtree(clone)
    return {"make up, cold (fresh clone, empty caches)": taken}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Starts and stops to measure.")] = 3,
    requests: Annotated[int, typer.Option(min=1, max=1000, help="First tokens to measure, each way.")] = 30,
    with_cold: Annotated[bool, typer.Option("--cold/--no-cold", help="Also a start in a fresh clone.")] = True,
) -> None:
    """Measure a farm of its own and print a table."""
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as folder:
        temporary = Path(folder)
        state = temporary / "state"
        environment = {"CORRAL_STATE": str(state)}
        result: dict[str, Any] = {"cores": os.cpu_count(), "rounds": rounds, "requests": requests}
        times: dict[str, list[float]] = {"up": [], "down": [], "import": []}
        if with_cold:
            result["cold"] = cold(temporary)
        run(CORRAL, "up", **environment)  # makes the database; the rounds below are warm
        try:
            for _ in range(rounds):
                times["down"].append(seconds(lambda: run(CORRAL, "down", **environment)))
                times["import"].append(
                    seconds(
                        lambda: run(
                            CHECKOUT / ".venv/bin/python",
                            "-c",
                            "import litellm.proxy.proxy_server",
                            LITELLM_LOCAL_MODEL_COST_MAP="True",
                        )
                    )
                )
                times["up"].append(seconds(lambda: run(CORRAL, "up", **environment)))
            status = json.loads(run(CORRAL, "status", "--json", **environment))
            result["memory_mib"] = {part["name"]: part["memory_mib"] for part in status["parts"]}
            result["first_token_s"] = first_tokens(state, status, requests)
        finally:
            run(CORRAL, "down", **environment)
        result["seconds"] = {name: statistics.median(values) for name, values in times.items()}
    written = CHECKOUT / "bench-results"
    written.mkdir(exist_ok=True)
    (written / "farm.json").write_text(json.dumps(result, indent=1))
    print(table(result))
    print(f"\nwritten to {written / 'farm.json'}", file=sys.stderr)


def first_tokens(state: Path, status: dict[str, Any], requests: int) -> dict[str, list[float]]:
    """Return times to the first token through the gate and straight to chat-1, taken in turns, in s."""
    key, server_key = secret(state, "LITELLM_MASTER_KEY"), secret(state, "GPU_SERVER_KEY")
    ports = {part["name"]: part["port"] for part in status["parts"]}
    found: dict[str, list[float]] = {"gate": [], "direct": []}
    with httpx.Client(trust_env=False, timeout=60) as client:
        for number in range(requests + 3):
            gate = first_token_s(client, f"{status['endpoint']}/chat/completions", key)
            direct = first_token_s(client, f"http://127.0.0.1:{ports['chat-1']}/v1/chat/completions", server_key)
            if number >= 3:  # the first ones fill prompt caches and connections
                found["gate"].append(gate)
                found["direct"].append(direct)
    return found


def table(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    base = result["seconds"]["import"]
    rows = [("| what | figure | against the baseline |"), ("|---|---|---|")]
    rows += [f"| {name} | {value:.1f} s | {value / base:.1f} x |" for name, value in result.get("cold", {}).items()]
    for name, title in (("up", "`make up`, warm"), ("down", "`make down`")):
        rows.append(f"| {title} | {result['seconds'][name]:.1f} s | {result['seconds'][name] / base:.2f} x |")
    rows.append(f"| baseline: importing LiteLLM's proxy, nothing else running | {base:.1f} s | 1 |")
    gate, direct = (statistics.median(result["first_token_s"][way]) for way in ("gate", "direct"))
    rows.append(f"| first token through the gate (median) | {gate * 1000:.0f} ms | {gate / direct:.2f} x |")
    rows.append(f"| baseline: first token straight from the gpu-server | {direct * 1000:.0f} ms | 1 |")
    memory = result["memory_mib"]
    total = sum(memory.values())
    rows += [f"| memory of {name} | {mib} MiB | {mib / total:.0%} |" for name, mib in memory.items()]
    rows.append(f"| memory of the farm | {total} MiB | 100% |")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.run(main)
