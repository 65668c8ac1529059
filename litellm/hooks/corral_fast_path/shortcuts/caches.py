"""Looks into LiteLLM's caches, some twenty a request.

Each look takes what it finds for JSON first, and gets over it if it is none. One at a key writes all that is known of
the key into two messages, which nobody reads.
"""

from typing import Any

from litellm.caching.dual_cache import DualCache
from litellm.caching.in_memory_cache import InMemoryCache

_JSON = (str, bytes, bytearray)

_in_memory_of_litellm = InMemoryCache.get_cache
_in_both_of_litellm = DualCache.async_get_cache


def _in_memory(self: Any, key: Any, **options: Any) -> Any:
    found = self.cache_dict.get(key)
    if found is None or isinstance(found, _JSON):
        return _in_memory_of_litellm(self, key, **options)
    return None if self.evict_element_if_expired(key) else found


async def _in_both(self: Any, key: Any, parent_otel_span: Any = None, local_only: bool = False, **options: Any) -> Any:
    memory = self.in_memory_cache
    if type(memory) is InMemoryCache:
        try:
            found = memory.get_cache(key, **options)
        except Exception:  # noqa: BLE001  # LiteLLM's own says so, and takes it for a miss
            found = None
        if found is not None:
            return found
    return await _in_both_of_litellm(self, key, parent_otel_span, local_only, **options)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    InMemoryCache.get_cache = _in_memory
    DualCache.async_get_cache = _in_both
