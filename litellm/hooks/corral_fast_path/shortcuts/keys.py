"""Keys from LiteLLM's cache.

It keeps them as JSON, and makes an object of a hundred fields of it at each look, four times a request. What is in the
cache decides as before: a key that was blocked, deleted or changed is another entry, or none.
"""

from collections import OrderedDict
from typing import Any

from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.common_utils.cache_pydantic_utils import CacheCodec
from pydantic import BaseModel

from corral_fast_path.copies import changeable, copy_of

MOST_KEYS = 1000
_COUNTS = frozenset({"spend"})
"""What changes in an entry with each request."""

_of_litellm = CacheCodec.deserialize
_known: OrderedDict[str, tuple[dict[str, Any], UserAPIKeyAuth, tuple[str, ...]]] = OrderedDict()
"""By token: the entry, the object that LiteLLM made of it, and which of its fields hold something that can change."""


def _deserialize(cached: Any, model_type: Any) -> Any:
    token = cached.get("token") if model_type is UserAPIKeyAuth and type(cached) is dict else None
    if not isinstance(token, str):
        return _of_litellm(cached, model_type=model_type)
    known = _known.get(token)
    if known is None or not _is_same(cached, known[0]):
        made = _of_litellm(cached, model_type=model_type)
        if made is not None:
            _remember(token, cached, made)
        return made
    copy = copy_of(known[1], known[2])
    copy.spend = float(cached.get("spend") or 0.0)
    return copy


def _is_same(entry: dict[str, Any], known: dict[str, Any]) -> bool:
    if entry.keys() != known.keys():
        return False
    return all(value is known[name] or value == known[name] or name in _COUNTS for name, value in entry.items())


def _remember(token: str, entry: dict[str, Any], made: UserAPIKeyAuth) -> None:
    if any(isinstance(value, BaseModel) for value in made.__dict__.values()):
        _known.pop(token, None)
        return
    fields = changeable(made)
    _known[token] = ({**entry}, copy_of(made, fields), fields)
    _known.move_to_end(token)
    if len(_known) > MOST_KEYS:
        _known.popitem(last=False)


def install() -> None:
    """Put it in the place of LiteLLM's."""
    CacheCodec.deserialize = staticmethod(_deserialize)
