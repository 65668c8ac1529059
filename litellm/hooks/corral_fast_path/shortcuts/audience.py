"""Whom LiteLLM tells that an answer is through: most of its hooks, and of ours, do not listen to that.

It goes through all of them twice, and looks each time whether one may be told, and of what. Before each request it
looks for all of them among the names of services that it knows, some fifty, one after the other.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging

import litellm

_HEARD_BY = ("async_logging_hook", "async_log_success_event", "async_log_stream_event")
"""What LiteLLM's handler of answers calls of a listener."""

_listeners_of_litellm = Logging.get_combined_callback_list
_redacted_of_litellm = CustomLogger.redact_standard_logging_payload_from_model_call_details


def _listeners(self: Any, dynamic_success_callbacks: Any, global_callbacks: Any) -> list[Any]:
    found: list[Any] = _listeners_of_litellm(self, dynamic_success_callbacks, global_callbacks)
    return [one for one in found if _listens(one)] if global_callbacks is litellm._async_success_callback else found


def _listens(listener: Any) -> bool:
    """Whether it does anything with an answer. One that may not have its text changes what the next are told."""
    kind: Any = type(listener)
    return (
        not isinstance(listener, CustomLogger)
        or callable(listener)
        or getattr(listener, "message_logging", True) is not True
        or not vars(listener).keys().isdisjoint(_HEARD_BY)
        or _hears(kind)
    )


@cache
def _hears(kind: type[Any]) -> bool:
    return any(getattr(kind, name) is not getattr(CustomLogger, name) for name in _HEARD_BY)


class Names(list[str]):
    """A list that finds what is in it at once. It is not changed."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        self._found = frozenset(self)

    def __contains__(self, name: object) -> bool:
        return name in self._found if type(name) is str else isinstance(name, str) and super().__contains__(name)


def _redacted(self: Any, model_call_details: dict[str, Any]) -> dict[str, Any]:
    nothing = not litellm.standard_logging_payload_excluded_fields
    if nothing and getattr(self, "turn_off_message_logging", False) is False:
        return model_call_details
    redacted: dict[str, Any] = _redacted_of_litellm(self, model_call_details)
    return redacted


def install() -> None:
    """Put them in the place of LiteLLM's."""
    Logging.get_combined_callback_list = _listeners
    CustomLogger.redact_standard_logging_payload_from_model_call_details = _redacted
    litellm._known_custom_logger_compatible_callbacks = Names(litellm._known_custom_logger_compatible_callbacks)
