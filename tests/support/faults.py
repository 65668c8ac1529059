"""Measures what a fault did: what clients saw, how soon it was noticed, and that everything came back to zero.

Times are read from the states in the gpu-server's own log, to the millisecond; the rest is asked of it.

    with table.fault("kill -9, idle", server, cause="signal") as fault:
        server.child().kill()
        fault.saw = [ask(server)]
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from support.gpu_servers import KEY, GpuServer, chat
from support.waiting import wait_until

DEATH_NOTICED_S = 2.0
STALL_SLACK_S = 5.0
CAUSES = ("exit", "signal", "spawn", "no_progress", "poll_timeout", "device_error", "gpu_lost", "xid", "requested")
NO_ANSWER = "no answer"


@dataclass
class Row:
    """One line of the table; None is what does not apply."""

    fault: str
    engine: str
    saw: str
    detected_s: float | None = None
    ready_s: float | None = None
    free_s: float | None = None
    restarts: str = "none"


@dataclass
class Fault:
    """A fault under way; the test fills in what clients saw, and may say `blow` at the very moment of it."""

    server: GpuServer
    at: float = field(default_factory=time.time)
    blown: bool = False
    saw: Sequence[str] = ()
    note: str = ""

    def blow(self) -> None:
        """Say that the fault happens now."""
        self.at, self.blown = time.time(), True


class Table:
    """The rows measured so far."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, fault: str, engine: str, saw: str, **times: float | str | None) -> None:
        """Add a row that was measured otherwise."""
        self.rows.append(dataclasses.replace(Row(fault, engine, saw), **times))

    @contextlib.contextmanager
    def fault(
        self, name: str, server: GpuServer, *, cause: str | None, within_s: float = DEATH_NOTICED_S
    ) -> Iterator[Fault]:
        """Measure a fault; on leaving, assert that it was noticed in time, under `cause`, and that all is well again.

        A `cause` of None says that llama-server must live through it; `a|b` that either may be counted.
        """
        before, engine = losses(server), engine_of(server)
        generation = server.status()["generation"]
        fault = Fault(server)
        yield fault
        well_at = fault.at if fault.blown else time.time()
        assert not [seen for seen in fault.saw if seen.startswith(NO_ANSWER)], f"unanswered: {fault.saw}"
        row = Row(name, engine, (summary(fault.saw) + fault.note).strip("; "))
        server.ready()
        if cause is not None:
            lost = wait_until(
                lambda: first_state(server, fault.at, lambda line: bool(line.get("lost_to"))), 5, "the loss"
            )
            left = wait_until(
                lambda: first_state(server, fault.at, lambda line: line["state"] != "ready"), 5, "its end"
            )
            back = wait_until(lambda: first_state(server, lost, lambda line: line["state"] == "ready"), 60, "readiness")
            row.detected_s, row.ready_s, well_at = left - fault.at, back - fault.at, back
            assert row.detected_s < within_s, f"noticed after {row.detected_s:.1f} s; see {server.log}"
            assert server.status()["generation"] == generation + 1
        row.free_s = max(0.0, all_free(server) - well_at)
        counted = losses(server) - before
        assert counted in ([Counter({name: 1}) for name in cause.split("|")] if cause else [Counter()]), counted
        row.restarts = ", ".join(f"{name} {count}" for name, count in counted.items()) or "none"
        self.rows.append(row)


def losses(server: GpuServer) -> Counter[str]:
    """Return the restarts counted so far, by cause."""
    counted = Counter({name: int(server.metric(f'gpu_server_restarts_total{{cause="{name}"}}')) for name in CAUSES})
    return +counted


def engine_of(server: GpuServer) -> str:
    """Say whether `server` has a real llama-server or the fake."""
    commands = []
    for child in server.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in this moment
            commands += child.cmdline()
    return "fake" if any("fakes" in word for word in commands) else "real"


def all_free(server: GpuServer, timeout_s: float = 10) -> float:
    """Wait until nothing is in flight or in line, in /status and in the metrics; return when."""
    gauges = ("gpu_server_in_flight", "gpu_server_queued", "gpu_server_llama_busy_slots")

    def free() -> bool:
        status = server.status()
        return (status["busy"], status["queued"]) == (0, 0)

    wait_until(free, timeout_s, "slots and line to be empty", interval_s=0.01)
    at = time.time()
    wait_until(lambda: not any(server.metric(name) for name in gauges), timeout_s, "the gauges to be zero")
    return at


def log_lines(server: GpuServer) -> Iterator[dict[str, Any]]:
    """Give the log's JSON lines; each with `at`, its time."""
    for line in server.log.read_text(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            document = json.loads(line)
            document["at"] = datetime.fromisoformat(document["time"]).timestamp()
            yield document


def first_state(server: GpuServer, after: float, condition: Callable[[dict[str, Any]], bool]) -> float | None:
    """Return when the first state line after `after` that meets `condition` was written."""
    lines = (line for line in log_lines(server) if line["event"] == "state" and line["at"] >= after - 0.001)
    return next((line["at"] for line in lines if condition(line)), None)


def ask(server: GpuServer, *, stream: bool = False, timeout_s: float = 60, **fields: object) -> str:
    """Ask one question over a connection of its own; return what came of it in a few words."""
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    try:
        answer = httpx.post(
            url, json=chat(stream=stream, **fields), headers={"Authorization": f"Bearer {KEY}"}, timeout=timeout_s,
            trust_env=False,
        )  # fmt: skip
    except httpx.HTTPError as error:
        return f"{NO_ANSWER}: {type(error).__name__}"
    return told(answer)


def told(answer: httpx.Response) -> str:
    """Return what an answer says in a few words: `200`, `200, stream`, `502 upstream_died`, ...

    A stream that neither ended as it should nor in an error event counts as no answer.
    """
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.json()['error']['code']}"
    if answer.headers["content-type"] != "text/event-stream":
        return "200"
    if answer.text.endswith("data: [DONE]\n\n"):
        return "200, stream"
    last = answer.text.rstrip("\n").rpartition("\n\n")[2]
    if last.startswith("event: error\ndata: "):
        return f"stream, error event {json.loads(last.partition('data: ')[2])['error']['code']}"
    return f"{NO_ANSWER}: stream cut"


def ask_many(
    pool: concurrent.futures.Executor, server: GpuServer, count: int, **fields: object
) -> list["concurrent.futures.Future[str]"]:
    """Start `count` requests, every other one a stream."""
    return [pool.submit(ask, server, stream=bool(number % 2), **fields) for number in range(count)]


def results(asked: Sequence["concurrent.futures.Future[str]"], timeout_s: float = 60) -> list[str]:
    """Wait for what became of requests."""
    return [future.result(timeout_s) for future in asked]


def summary(saw: Sequence[str]) -> str:
    """Return `4 x 200; 4 x 502 upstream_died`."""
    if len(saw) == 1:
        return saw[0]
    return "; ".join(f"{count} x {what}" for what, count in sorted(Counter(saw).items()))


def write_table(rows: Sequence[Row], path: Path, command: str, head: str) -> None:
    """Write the rows as Markdown."""
    lines = [
        head.format(command=command, date=datetime.now(UTC).date().isoformat()),
        "| fault | llama-server | what clients saw | noticed | ready again | slots free | restarts counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = " | ".join("" if at is None else f"{at:.2f} s" for at in (row.detected_s, row.ready_s, row.free_s))
        lines.append(f"| {row.fault} | {row.engine} | {row.saw} | {times} | {row.restarts} |")
    path.write_text("\n".join(lines) + "\n")
