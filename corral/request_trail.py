"""`corral logs --request`: one request from the gate's log through its gpu-server's to its llama-server's.

Gate and gpu-server log it under the same id, the one that the client got as `x-litellm-call-id`. llama-server knows no
ids of others: its lines are those of the task that ran in the time of the request and made as many tokens.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

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


def follow(state: StateDir, request_id: str) -> Trail:
    """Return a request's trail through the logs of a one-machine farm.

    Raises:
        CorralError: the id is none, or no log has it.
    """
    if not _ID.fullmatch(request_id):
        raise CorralError(
            f"{request_id!r} is no request id", "give the x-litellm-call-id header of the answer", exit_code=2
        )
    found = [line for file in _logs(state) for line in _lines(file) if line.fields.get("id") == request_id]
    if not found:
        raise CorralError(
            f"no log has a request {request_id}",
            "its id is the x-litellm-call-id header of the answer; old logs are thrown away",
        )
    unsure: list[str] = []
    for line in [line for line in found if line.event == "request" and "duration_ms" in line.fields]:
        tasks = _tasks(state, line)
        if len(tasks) == 1:
            found += tasks[0]
        elif tasks:
            unsure.append(line.part)
    return Trail(sorted(found, key=lambda line: line.time), unsure)


def _tasks(state: StateDir, request: Line) -> list[list[Line]]:
    """Give the lines of each task of llama-server that can be a request's."""
    end = request.time + _SLACK
    begin = request.time - timedelta(milliseconds=float(request.fields["duration_ms"])) - _SLACK
    tasks: dict[str, list[Line]] = {}
    for file in _logs(state):
        for line in _lines(file) if _part(file) == request.part else ():
            if begin <= line.time <= end and line.task is not None:
                tasks.setdefault(line.task, []).append(line)
    whole = [lines for lines in tasks.values() if any("launch_slot_" in line.text for line in lines)]
    made = request.fields.get("tokens_out")
    fitting = [lines for lines in whole if made is not None and _tokens_made(lines) == made]
    return fitting or whole


def _tokens_made(lines: Iterable[Line]) -> str | None:
    return next((found[1] for line in lines if (found := _MADE.search(line.text))), None)


def _logs(state: StateDir) -> list[Path]:
    """Every log, a rotated one before its successor."""
    return sorted(state.logs.glob("*.log.1")) + sorted(state.logs.glob("*.log"))


def _part(file: Path) -> str:
    return file.name.removesuffix(".1").removesuffix(".log")


def _lines(file: Path) -> Iterator[Line]:
    with file.open(encoding="utf-8", errors="replace") as text:
        for line in text:
            if (parsed := parse(_part(file), line.rstrip("\n"))) is not None:
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
