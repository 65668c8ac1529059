"""For what a store is asked: LiteLLM notes that some 25 times a request, each time by a generator."""

from types import TracebackType
from typing import Any

from litellm import _internal_context

_targets = _internal_context._service_target


class Target:
    """Context manager: what runs within it asks for `target`; None: for nothing in particular."""

    __slots__ = ("_target", "_token")

    def __init__(self, target: str | None) -> None:
        self._target = target
        self._token: Any = None

    def __enter__(self) -> None:
        self._token = _targets.set(self._target)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:  # noqa: SIM105  # `suppress` would be two fifths of all this
            _targets.reset(self._token)
        except ValueError:  # a coroutine that is closed in another context
            pass


def install() -> None:
    """Put it in the place of LiteLLM's, for what LiteLLM decorates with it."""
    _internal_context.service_target = Target
