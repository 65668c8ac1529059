"""`corral top`."""

import asyncio
import contextlib
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from corral.options import DEFAULT_STATE, FileOption, StateOption, state_dir
from corral.paths import StateDir
from corral.top.places import Places, find
from corral.top.sample import client, take
from corral.top.screen import screen
from corral.top.view import History, ServerRow

ONCE_S = 1.0
"""Between the two looks of --once: speeds are differences."""
PIPED_WIDTH = 140


def top(
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between frames.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
) -> None:
    """Show what the farm does now: servers, GPUs, slots, queues, speeds, busiest keys, last faults. q or Ctrl-C ends.

    It asks the servers themselves, so it works without monitoring. TTFT is the 95th percentile of the last minute,
    CACHED the share of prompts found in the cache, LOST counts llama-servers that were replaced. Keys are known to the
    gate where the farm file has `monitoring:`.

    [bold]Examples[/bold]

      corral top

      corral top --once

      corral top --file farms/two-hosts.yaml     a farm on several hosts; GPU_SERVER_KEY in the environment or .env
    """
    places = find(state_dir(state), file)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    live = not once and console.is_terminal
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(places, console, interval) if live else _once(places, console))


def rows_now(state: StateDir, file: Path | None) -> tuple[ServerRow, ...]:
    """Return what each server of a running farm says, from one look: no speeds."""

    async def look() -> tuple[ServerRow, ...]:
        history = History()
        async with client() as web:
            history.add(await take(replace(find(state, file), gate=None), web))
        return history.view().servers

    return asyncio.run(look())


async def _once(places: Places, console: Console) -> None:
    history = History()
    async with client() as web:
        history.add(await take(places, web))
        await asyncio.sleep(ONCE_S)
        history.add(await take(places, web))
    console.print(screen(history.view(), places.farm, time.strftime("%H:%M:%S")))


async def _watch(places: Places, console: Console, interval: float) -> None:
    history, ended = History(), asyncio.Event()
    with _keys(ended.set), Live(console=console, screen=True, auto_refresh=False) as shown:
        async with client() as web:
            while not ended.is_set():
                history.add(await take(places, web))
                shown.update(screen(history.view(), places.farm, time.strftime("%H:%M:%S")), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), interval)


@contextmanager
def _keys(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` when q is typed; the terminal is as it was afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def typed() -> None:
        if sys.stdin.read(1) in ("q", "Q", ""):
            end()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, typed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
