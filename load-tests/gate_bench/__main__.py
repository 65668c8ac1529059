r"""`make bench-gate`: every way from a client to a llama-server, side by side on one fast fake of it.

Ways that are not installed here are left out, and said. Rounds go to all ways in turns. Prints Markdown; writes
`bench-results/gate.json` and, with `--plot`, a picture.

    make bench-gate                                     about 10 minutes
    make bench-gate ARGS=--real                         the same chats through each gate to real servers
    make bench-gate ARGS="--only direct --only 'LiteLLM tuned' --rounds 1"
    make bench-gate ARGS="--only \"Corral's gate\" --profile gate.folded"     where a request's CPU goes
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from bench_gpu_server import ready
from rich.console import Console

from gate_bench import profile, real
from gate_bench.figures import Measured, Rounds
from gate_bench.report import DIRECT, markdown, plot
from gate_bench.ways import Way, all_ways
from support.ports import free_port
from support.postgres import running_postgres
from support.waiting import wait_until

PROFILE_S = 30
CHECKOUT = Path(__file__).resolve().parents[2]
said = Console(stderr=True)


@contextmanager
def fake_server() -> Iterator[int]:
    """Run the fake in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "gate_bench.fake", "--port", str(port)])
    try:
        wait_until(lambda: ready(port), 20, "the fake llama-server")
        yield port
    finally:
        process.kill()
        process.wait(10)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each goes to all ways.")] = 3,
    scale: Annotated[float, typer.Option(min=0.05, help="Length of a round.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Titles of ways; the direct one is always among them.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="An SVG to draw.")] = None,
    folded: Annotated[
        Path | None,
        typer.Option("--profile", help="After the rounds, what py-spy sees of the only way: folded stacks."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Only the loads of whole answers: more rounds in a time.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = CHECKOUT / "bench-results",
    on_real: Annotated[
        bool, typer.Option("--real", help="Two real llama-servers in place of the fake; no other option than --rounds.")
    ] = False,
) -> None:
    """Measure what each way from a client to a llama-server costs."""
    out.mkdir(exist_ok=True)
    _check(only, scale, on_real=on_real, picture=picture, folded=folded, whole=whole)
    if on_real:
        found = real.measured(rounds, said.print)
        print(real.markdown(found))
        (out / "gate-real.json").write_text(json.dumps({title: dict(one.rounds) for title, one in found.items()}))
        return
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as name, ExitStack() as stack:
        folder, ways = Path(name), dict[str, Way]()
        database = cache(lambda: stack.enter_context(running_postgres(folder)))  # only if a way needs it
        known = all_ways(folder, stack.enter_context(fake_server()), database)
        if unknown := set(only or ()) - set(known):
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: no such way; there are {', '.join(known)}")
        for title, opened in known.items():
            if only and title not in (DIRECT, *only):
                continue
            said.print(f"starting: {title}")
            way = stack.enter_context(opened())
            if way is None:
                said.print(f"left out, not installed here: {title}")
            else:
                ways[title], measured[title] = way, Measured()
        Rounds(0.1).warm(ways.values())
        for number in range(rounds):
            for title in list(ways) if number % 2 == 0 else list(reversed(ways)):
                said.print(f"round {number + 1} of {rounds}: {title}")
                Rounds(scale).measure(ways[title], measured[title], whole_only=whole)
        if folded is not None:
            (looked_at,) = (way for title, way in ways.items() if title != DIRECT)
            said.print(f"looking at its process for {PROFILE_S} s")
            print(_profiled(looked_at, folded), end="\n\n")
    result = {"cores": os.cpu_count(), "rounds": rounds, "scale": scale}
    ways_data = {title: dict(one.rounds) for title, one in measured.items()}
    (out / "gate.json").write_text(json.dumps({**result, "ways": ways_data}, indent=1))
    print(markdown(measured))
    if picture is not None:
        plot(measured, picture)


def _check(
    only: list[str] | None, scale: float, *, on_real: bool, picture: Path | None, folded: Path | None, whole: bool
) -> None:
    if picture and whole:
        raise typer.BadParameter("--plot draws what --whole leaves out: give one of them")
    if on_real and (only or picture or folded or whole or scale != 1.0):
        raise typer.BadParameter("--real goes with --rounds and --out alone")
    if folded and len(set(only or ()) - {DIRECT}) != 1:
        raise typer.BadParameter("--profile looks at one way: name it with --only")


def _profiled(way: Way, folded: Path) -> str:
    profile.record(way, folded, PROFILE_S, lambda: Rounds(1.0).ask_whole(way))
    return profile.markdown(profile.parts(folded.read_text().splitlines()))


if __name__ == "__main__":
    typer.run(main)
