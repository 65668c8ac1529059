"""`corral logs --request`: one request from the gate's log through its gpu-server's to its llama-server's.

Gate and gpu-server log it under the same id, the one that the client got as `x-litellm-call-id`. llama-server knows no
ids of others: its lines are those of the task that ran in the time of the request and made as many tokens.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from corral.errors import CorralError
from corral.paths import StateDir

_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (\S+) (\S+) ?(.*)")
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S+)")
_TASK = re.compile(r"\| task (\d+) \|")
_MADE = re.compile(r"[^t] eval time =.* / +(\d+) tokens")
_SLACK = timedelta(milliseconds=250)
"""How much later than it was said a line of llama-server's may have been read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a part's log, of those that begin with a time."""

    part: str
    time: datetime
    event: str
    text: str
    fields: dict[str, str]

    @property
    def task(self) -> str | None:
        """The task of llama-server that it is about."""
        found = _TASK.search(self.text) if self.event == "llama-server" else None
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Trail:
    """The lines of a request in the order of their times.

    Attributes:
        lines: of the gate, of gpu-servers, and of the llama-servers' tasks that are surely its.
        unsure: names of gpu-servers on which several tasks could be its; their lines are left out.
    """

    lines: list[Line]
    unsure: list[str]


class Logs(Protocol):
    """All that a farm's parts have printed."""

    @property
    def parts(self) -> Iterable[str]:
        """Names of those that have a log."""

    def lines(self, part: str) -> Iterable[str]:
        """Give a part's lines, oldest first."""


@dataclass(frozen=True)
class FileLogs:
    """The logs of a one-machine farm."""

    state: StateDir

    @property
    def parts(self) -> Iterable[str]:
        """Names of those that have a log."""
        return {file.name.removesuffix(".1").removesuffix(".log") for file in self.state.logs.glob("*.log*")}

    def lines(self, part: str) -> Iterator[str]:
        """Give a part's lines, those of the log that was rotated away first."""
        log = self.state.log_file(part)
        for file in (log.with_name(f"{log.name}.1"), log):
            if file.exists():
                with file.open(encoding="utf-8", errors="replace") as text:
                    yield from (line.rstrip("\n") for line in text)


@dataclass(frozen=True)
class HeldLogs:
    """Logs that are in memory, by part."""

    texts: Mapping[str, Sequence[str]]

    @property
    def parts(self) -> Iterable[str]:
        """Names of those that have a log."""
        return self.texts.keys()

    def lines(self, part: str) -> Sequence[str]:
        """Give a part's lines."""
        return self.texts[part]


def follow(logs: Logs, request_id: str) -> Trail:
    """Return a request's trail through a farm's logs.

    Raises:
        CorralError: the id is none, or no log has it.
    """
    if not _ID.fullmatch(request_id):
        raise CorralError(
            f"{request_id!r} is no request id", "give the x-litellm-call-id header of the answer", exit_code=2
        )
    found = [line for part in logs.parts for line in _lines(logs, part) if line.fields.get("id") == request_id]
    if not found:
        raise CorralError(
            f"no log has a request {request_id}",
            "its id is the x-litellm-call-id header of the answer; old logs are thrown away",
        )
    unsure: list[str] = []
    for line in [line for line in found if line.event == "request" and "duration_ms" in line.fields]:
        tasks = _tasks(logs, line)
        if len(tasks) == 1:
            found += tasks[0]
        elif tasks:
            unsure.append(line.part)
    return Trail(sorted(found, key=lambda line: line.time), unsure)


def _tasks(logs: Logs, request: Line) -> list[list[Line]]:
    """Give the lines of each task of llama-server that can be a request's."""
    end = request.time + _SLACK
    begin = request.time - timedelta(milliseconds=float(request.fields["duration_ms"])) - _SLACK
    tasks: dict[str, list[Line]] = {}
    for line in _lines(logs, request.part):
        if begin <= line.time <= end and line.task is not None:
            tasks.setdefault(line.task, []).append(line)
    whole = [lines for lines in tasks.values() if any("launch_slot_" in line.text for line in lines)]
    made = request.fields.get("tokens_out")
    fitting = [lines for lines in whole if made is not None and _tokens_made(lines) == made]
    return fitting or whole


def _tokens_made(lines: Iterable[Line]) -> str | None:
    return next((found[1] for line in lines if (found := _MADE.search(line.text))), None)


def _lines(logs: Logs, part: str) -> Iterator[Line]:
    for line in logs.lines(part):
        if (parsed := parse(part, line)) is not None:
            yield parsed


def parse(part: str, text: str) -> Line | None:
    """Return a line of the gate's request log or of a gpu-server, in either of its formats; None for any other."""
    if text.startswith("{"):
        return _parse_json(part, text)
    found = _STAMP.match(text)
    if found is None:
        return None
    fields = {} if found[3] == "llama-server" else dict(_FIELD.findall(found[4]))
    return _line(part, found[1], found[3], text, fields)


def _parse_json(part: str, text: str) -> Line | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("time"), str):
        return None
    fields = {name: str(value) for name, value in document.items() if name not in ("time", "event", "line")}
    return _line(part, document["time"], str(document.get("event")), text, fields)


def _line(part: str, moment: str, event: str, text: str, fields: dict[str, str]) -> Line | None:
    try:
        time = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return None if time.tzinfo is None else Line(part, time, event, text, fields)
