"""The search for one model: trial after trial, each on disk before the next begins."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from corral.capacity.beside import Servers
from corral.capacity.record import Record
from corral.capacity.search import Search
from corral.capacity.trial import Client, slot_time_s
from corral.capacity.verdict import Trial, broken
from corral.errors import CorralError
from corral.render.k6 import ServerTarget

UNLOADED_REQUESTS = 3
START_SHARE = 0.25
"""The first rate, as a share of what all slots would do at the speed of an unloaded request."""
USE_WATCH_S = 3.0


@dataclass(frozen=True)
class Pace:
    """How long trials are: at least `seconds`, and as long as `requests` take at the rate."""

    seconds: float
    requests: int
    precision: float
    seed: int


async def searched(
    client: Client, record: Record, pace: Pace, say: Callable[[Trial], None], sent: Callable[[float, int, int], None]
) -> Search:
    """Search; what was recorded before is not tried again.

    Args:
        client: of the model.
        record: gets every trial.
        pace: of the trials.
        say: told of each trial, those of before too.
        sent: told of a trial under way: its rate, requests sent, requests answered.

    Raises:
        CorralError: the model answers nothing even without load.
    """
    model = client.model
    if not record.start_rpm:
        await _begin(client, record, pace)
    search = Search(record.start_rpm, pace.precision)
    while (rate := search.next_rpm()) is not None:
        trial = record.at(rate)
        if trial is None:
            seconds = max(pace.seconds, pace.requests / rate * 60)
            chance = random.Random(f"{pace.seed} {rate}")  # noqa: S311  # a rate is tried with the same draw again
            trial = await client.trial(rate, seconds, chance, partial(sent, rate))
            record.trials.append(trial)
            record.save()
        say(trial)
        search.record(rate, held=broken(trial, model["objectives"], model["slots"]) is None)
    return search


def so_far(record: Record, broke: Callable[[Trial], bool], precision: float) -> Search:
    """Return the search as far as a record goes."""
    search = Search(record.start_rpm, precision)
    for trial in record.trials:
        search.record(trial.rate_rpm, held=not broke(trial))
    return search


async def _begin(client: Client, record: Record, pace: Pace) -> None:
    """Find the first rate from requests that have the farm to themselves."""
    chance = random.Random(pace.seed)  # noqa: S311
    answers = await client.unloaded(UNLOADED_REQUESTS, chance)
    alone_s = slot_time_s(answers)
    if alone_s is None:
        raise CorralError(
            f"{client.model['name']} answers nothing, even without load", "see what it says: corral doctor, corral logs"
        )
    record.unloaded_s = min(answer.first_s for answer in answers if answer.first_s is not None)
    record.start_rpm = START_SHARE * client.model["slots"] / alone_s * 60
    record.save()


async def in_use(servers: Sequence[ServerTarget], key: str) -> str | None:
    """Watch the servers for some seconds; say what they do, if they do anything."""
    asking = Servers(list(servers), key)
    try:
        before = await asking.served()
        ends = asyncio.get_running_loop().time() + USE_WATCH_S
        while asyncio.get_running_loop().time() < ends:
            busy = [name.partition(":")[2] for name, value in (await asking.full()).items() if value > 0]
            if busy:
                return f"{', '.join(sorted(set(busy)))} at work"
            await asyncio.sleep(0.2)
        answered = await asking.served() - before
    finally:
        await asking.close()
    return f"{answered:.0f} requests were answered in {USE_WATCH_S:.0f} s" if answered else None
