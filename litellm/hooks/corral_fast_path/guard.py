"""Which of LiteLLM's internals the fast path uses, and a check that they are what they were.

They are nobody's promise. So before any request is taken, each is looked up by name, and held against the way it is
called here; where one differs LiteLLM's own routes stay, and all requests go there.
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TRIED = ("1.106.2",)
"""Versions of LiteLLM that the tests have passed with. Another may have the same names and mean something else."""


@dataclass(frozen=True)
class Internal:
    """A function or class of LiteLLM.

    Attributes:
        module: that has it.
        name: within the module, with a dot for a method.
        arguments: that it is called with by name, `self` aside; None if it is not called.
        positional: how many it is called with by position, `self` included.
        needs: a module that LiteLLM can be without; where it is not installed nothing is checked or called.
    """

    module: str
    name: str
    arguments: Sequence[str] | None = ()
    positional: int = 0
    needs: str = ""

    def difference(self) -> str | None:
        """Return how it differs from what is used here; None if it does not."""
        where = f"{self.module}.{self.name}"
        if self.needs and not is_installed(self.needs):
            return None
        try:
            found: Any = importlib.import_module(self.module)
            for part in self.name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            return f"{where} is gone"
        if self.arguments is None:
            return None
        try:
            inspect.signature(found).bind(*[None] * self.positional, **dict.fromkeys(self.arguments))
        except TypeError as error:
            return f"{where} is called otherwise now: {error}"
        return None


def is_installed(module: str) -> bool:
    """Say whether a module is there to be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False


def differences() -> Iterator[str]:
    """Give what differs from what the fast path uses: nothing, if it can be used."""
    version = importlib.metadata.version("litellm")
    if version not in TRIED:
        yield f"LiteLLM is {version}, tried is {', '.join(TRIED)}"
    from corral_fast_path.internals import OF_REQUESTS  # these need `Internal`
    from corral_fast_path.internals_of_shortcuts import OF_SHORTCUTS

    for internal in (*OF_REQUESTS, *OF_SHORTCUTS):
        if difference := internal.difference():
            yield difference
