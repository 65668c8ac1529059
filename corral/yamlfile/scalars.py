"""Plain scalars as PyYAML's SafeLoader reads them (YAML 1.1), less those that readers of YAML disagree about."""

import math
import re
from functools import lru_cache
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_COMPLAINT = "is read as {reading} by some programs and as {other} by others"


@lru_cache(maxsize=8192)
def read_plain(text: str) -> tuple[Any, str]:
    """Return the value of a scalar that stands without quotes, and why it should not stand so ("" if it may).

    Dates stay text: a model that wants a date parses it, and one that wants text gets what was written.
    """
    kind = kind_of(text)
    if kind == "null":
        return None, ""
    if kind == "bool":
        return _BOOLEANS[text.lower()], ""
    if kind in {"int", "float"}:
        return _number(text, kind)
    return text, ""


def kind_of(text: str) -> str:
    """Return which kind YAML 1.1 takes a plain scalar for: `int`, `float`, `bool`, `null`, `merge` or `str`."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(text[:1], []):
        if pattern.match(text):
            kind = str(tag).removeprefix(_TAG)
            return kind if kind in {"int", "float", "bool", "null", "merge"} else "str"
    return "str"


def meaning(value: Any) -> str:
    """Return what a plain scalar that is no text was read as, for a message."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the number {str(value)[:20]}"


def _number(text: str, kind: str) -> tuple[Any, str]:
    digits = text.replace("_", "")
    try:
        if ":" in digits:
            return text, _COMPLAINT.format(reading=f"the number {_base_60(digits)}", other="text")
        if kind == "float":
            return _float(digits.lower()), ""
        if _OCTAL.fullmatch(text):
            return text, _COMPLAINT.format(reading=f"the number {int(digits, 8)}", other=str(int(digits)))
        return int(digits, _base(digits)), ""
    except ValueError:  # `0x_`, or more digits than Python converts
        return text, "is not a number that can be read"


def _base(digits: str) -> int:
    unsigned = digits.lstrip("+-").lower()
    return 16 if unsigned.startswith("0x") else 2 if unsigned.startswith("0b") else 10


def _base_60(digits: str) -> int | float:
    sign = -1 if digits.startswith("-") else 1
    total: int | float = 0
    for part in digits.lstrip("+-").split(":"):
        total = total * 60 + (float(part) if "." in part else int(part))
    return sign * total


def _float(digits: str) -> float:
    if digits.endswith(".inf"):
        return -math.inf if digits.startswith("-") else math.inf
    return math.nan if digits == ".nan" else float(digits)
