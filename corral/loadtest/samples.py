"""Reads k6's raw figures (`--out json`): one line a value, of which those that runs are compared by are kept."""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from corral.bench.store import Sample

KEPT = {"ttft": "ttft_ms", "tpot": "tpot_ms", "duration": "duration_ms"}


def read(path: Path) -> list[Sample]:
    """Return the values of a run in the order of their times, which count from the first one's."""
    found = sorted(_values(path), key=lambda value: value[0])
    first = found[0][0] if found else 0.0
    return [Sample(metric, model, at - first, value) for at, metric, model, value in found]


def _values(path: Path) -> Iterator[tuple[float, str, str, float]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            point = json.loads(line)
            if point["type"] != "Point" or point["metric"] not in KEPT:
                continue
            data = point["data"]
            at = datetime.fromisoformat(data["time"]).timestamp()
            yield at, KEPT[point["metric"]], data["tags"]["model"], float(data["value"])
