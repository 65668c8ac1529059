"""The text of what LiteLLM asks its database: Prisma's client indents it, line by line, once for each level.

A row of spend is indented three times, and each of its fields gets an encoder of its own, as has the whole. The engine
does not look at blanks between words (https://spec.graphql.org/October2021/#sec-White-Space), and within texts line
ends are escaped. Those that are not, U+2028 and its like, are part of a text, into which Prisma's client puts blanks.
"""

from json.encoder import encode_basestring
from typing import Any

import orjson
from prisma import builder

_QUERY = frozenset({"variables", "operation_name", "query"})
_WORDS = {None: "null", True: "true", False: "false"}

_dumps_of_prisma = builder.dumps


def _indent(text: str, _prefix: str) -> str:
    return text


def _dumps(found: Any, **options: Any) -> str:
    """JSON of a value: of texts, whole numbers, words and a whole query without an encoder made for each."""
    kind = type(found)
    if kind is dict and not options and found.keys() == _QUERY:
        try:
            return orjson.dumps(found).decode()
        except TypeError:  # half a character, say
            return str(_dumps_of_prisma(found))
    if options or kind not in (str, int, bool, type(None)):
        return str(_dumps_of_prisma(found, **options))
    if kind is str:
        return encode_basestring(found)
    return str(found) if kind is int else _WORDS[found]


def install() -> None:
    """Put them in the place of Prisma's."""
    builder.indent = _indent
    builder.dumps = _dumps
