"""Ends servers under load, for chaos.js: SIGKILL to the llama-server below a gpu-server, one after another."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil

from corral.farmstate import FarmState
from corral.render.k6 import ServerTarget, Targets

BACK_TIMEOUT_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True)
class Death:
    """A server that was killed, and after how many seconds it was ready again; None: not within a minute."""

    server: str
    back_after_s: float | None


def victims(targets: Targets) -> list[ServerTarget]:
    """Return the servers that another stands in for: a model's only server is spared."""
    spared = {model["name"] for model in targets["models"] if len(model["servers"]) < 2}
    return [server for server in targets["servers"] if server["model"] not in spared]


def kill(state: FarmState, name: str) -> bool:
    """Kill the llama-server of a part; whether there was one."""
    pid = state.part(name).pid
    children = psutil.Process(pid).children() if pid else []
    for child in children:
        child.kill()
    return bool(children)


@contextmanager
def killing(
    parts: Callable[[], FarmState | None], targets: Targets, key: str, every_s: float, say: Callable[[str], None]
) -> Iterator[list[Death]]:
    """Kill a server every `every_s` seconds inside the block, each in its turn; gives what became of them.

    Args:
        parts: gives the farm's processes as they are now.
        targets: its servers.
        key: of the servers.
        every_s: seconds from one death to the next.
        say: told of each.
    """
    deaths: list[Death] = []
    ended = threading.Event()
    chosen = victims(targets)

    def go_on() -> None:
        turn = 0
        while not ended.wait(every_s):
            server = chosen[turn % len(chosen)]
            turn += 1
            state = parts()
            if state is not None and (death := _kill_and_wait(state, server, key)):
                deaths.append(death)
                say(_told(death))

    thread = threading.Thread(target=go_on, name="killing", daemon=True)
    if chosen:
        thread.start()
    else:
        say("no model has a second server, so none is killed")
    try:
        yield deaths
    finally:
        ended.set()
        if chosen:
            thread.join()


def _told(death: Death) -> str:
    again = (
        "is not ready after a minute" if death.back_after_s is None else f"ready again after {death.back_after_s:.1f} s"
    )
    return f"killed the llama-server of {death.server}: {again}"


def _generation(client: httpx.Client) -> int | None:
    """Return how often the llama-server was started, None while it is not ready."""
    try:
        status = client.get("/status").json()
        return int(status["generation"]) if status["state"] == "ready" else None
    except (httpx.HTTPError, ValueError, KeyError):
        return None


def _kill_and_wait(state: FarmState, server: ServerTarget, key: str) -> Death | None:
    """Kill a server and wait until its successor is ready; None if there was none to kill."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server["url"], headers=headers, trust_env=False, timeout=5) as client:
        before = _generation(client)
        if before is None or not kill(state, server["name"]):
            return None
        began = time.monotonic()
        while (passed := time.monotonic() - began) < BACK_TIMEOUT_S:
            now = _generation(client)
            if now is not None and now > before:
                return Death(server["name"], passed)
            time.sleep(POLL_S)
    return Death(server["name"], None)
