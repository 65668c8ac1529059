"""Notices that a client has hung up. ASGI servers tell it only to those who ask."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Departure:
    """Watches one client from its creation until `stop`."""

    def __init__(self, receive: Receive) -> None:
        self.happened = False
        self._act: Callable[[], object] | None = None
        self._task = asyncio.create_task(self._watch(receive))

    def then(self, act: Callable[[], object] | None) -> None:
        """Do this when the client goes, instead of what was set before; at once if it has gone already."""
        self._act = act
        if self.happened and act is not None:
            act()

    def stop(self) -> None:
        """Stop watching."""
        self._act = None
        self._task.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        if self._act is not None:
            self._act()
