"""Turn what a person typed for a new key into a checked `NewKey`: all that can be checked without asking the gate."""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final, get_args

from corral.keys.client import KEY_PREFIX, NewKey, Traces
from corral.keys.errors import InputError

MAX_LIMIT: Final = 2**31 - 1  # LiteLLM keeps some of them as 32-bit integers
MAX_DURATION_DAYS: Final = 36_500
MAX_ALIAS_CHARACTERS: Final = 255
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w|mo)")
_DAYS = {"s": 1 / 86_400, "m": 1 / 1_440, "h": 1 / 24, "d": 1, "w": 7, "mo": 30}


def parse_new_key(
    *,
    alias: str | None,
    models: Iterable[str],
    rpm: str | None,
    tpm: str | None,
    parallel: str | None,
    budget: str | None,
    budget_reset: str | None,
    expires: str | None,
    traces: str | None,
) -> NewKey:
    """Check the arguments of `corral keys create`, given as text, and return the request.

    `models` may repeat and hold several names with commas.

    Raises:
        InputError: names the option that is wrong.
    """
    if budget_reset is not None and budget is None:
        raise InputError("--budget-reset without a budget", "give --budget too, in dollars")
    return NewKey(
        alias=None if alias is None else parse_alias(alias),
        models=parse_models(models),
        rpm=parse_limit("--rpm", rpm),
        tpm=parse_limit("--tpm", tpm),
        parallel=parse_limit("--parallel", parallel),
        budget=parse_budget(budget),
        budget_reset=parse_duration("--budget-reset", budget_reset),
        expires_in=parse_duration("--expires", expires),
        traces=parse_traces(traces),
    )


def parse_models(given: Iterable[str]) -> tuple[str, ...]:
    """Split `chat,embed` and repeated options into names, in order and once each; nothing given is no restriction.

    Raises:
        InputError: an option without a name.
    """
    names: list[str] = []
    for option in given:
        parts = [part.strip() for part in option.split(",")]
        if not all(parts):
            raise InputError(f"--models {option!r} has an empty name", "give names like --models chat,embed")
        names += parts
    return tuple(dict.fromkeys(names))


def parse_limit(option: str, text: str | None) -> int | None:
    """Return a whole number from 1 on; thousands may be set apart by `_`.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:20]) <= MAX_LIMIT):
        raise InputError(f"{option} {text!r} is no whole number from 1 to {MAX_LIMIT}", "leave it out for no limit")
    return int(digits)


def parse_budget(text: str | None) -> float | None:
    """Return an amount of dollars from 0 on.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        amount = math.nan
    if not (math.isfinite(amount) and amount >= 0):
        raise InputError(f"--budget {text!r} is no amount of dollars from 0 on", "give one like 2.50")
    return amount


def parse_duration(option: str, text: str | None) -> str | None:
    """Check a duration in LiteLLM's notation: a number and s, m, h, d, w or mo (months); up to 100 years.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    days = int(match[1]) * _DAYS[match[2]] if match else 0
    if not 0 < days <= MAX_DURATION_DAYS:
        raise InputError(
            f"{option} {text!r} is no duration", "give a number and s, m, h, d, w or mo, like 30d, up to 100 years"
        )
    return text


def parse_traces(text: str | None) -> Traces | None:
    """Return how much of a key's calls is traced.

    Raises:
        InputError: it is none of the words for that.
    """
    words: tuple[Traces, ...] = get_args(Traces)
    found = next((word for word in words if word == text), None)
    if text is not None and found is None:
        raise InputError(f"--traces {text!r} is not known", f"give one of: {', '.join(words)}")
    return found


def parse_alias(text: str) -> str:
    """Return the alias, if it cannot be taken for a key or an option.

    Raises:
        InputError: it can, or it is empty, too long or has characters that do not print.
    """
    alias = text.strip()
    confusing = alias.startswith((KEY_PREFIX, "-")) or re.fullmatch(r"[0-9a-f]{64}", alias)
    printable = alias.isprintable() and not {"/", "\\"} & set(alias)
    if not alias or len(alias) > MAX_ALIAS_CHARACTERS or confusing or not printable:
        raise InputError(
            f"--alias {text!r} does not serve as a name",
            f"use up to {MAX_ALIAS_CHARACTERS} printable characters, no slashes, not starting with - or {KEY_PREFIX}",
        )
    return alias


def check_models(wanted: Sequence[str], known: Sequence[str]) -> None:
    """See that every model exists.

    Raises:
        InputError: names the first that does not, with the nearest that does.
    """
    for name in wanted:
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.5)
            there_are = f"there are: {', '.join(sorted(known)) or 'none'}"
            raise InputError(
                f"no model {name!r}", f"did you mean {nearest[0]!r}? {there_are}" if nearest else there_are
            )
