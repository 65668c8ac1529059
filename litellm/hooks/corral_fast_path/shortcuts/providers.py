"""Whose model a name is: LiteLLM goes through its lists of providers four times a request.

For a name without a provider it ends by making an error, which is thrown away.
"""

from collections import OrderedDict
from time import monotonic
from typing import Any

from litellm.litellm_core_utils import get_llm_provider_logic

import litellm

FRESH_S = 10.0
"""How long an answer holds: models can be added while LiteLLM runs."""
MOST_NAMES = 500

_of_litellm = get_llm_provider_logic.get_llm_provider
_known: OrderedDict[tuple[str, str | None], tuple[float, Any]] = OrderedDict()


def _provider(
    model: str,
    custom_llm_provider: str | None = None,
    api_base: str | None = None,
    api_key: str | None = None,
    litellm_params: Any = None,
) -> Any:
    if not isinstance(model, str) or api_base or api_key or litellm_params:
        return _of_litellm(model, custom_llm_provider, api_base, api_key, litellm_params)
    name, now = (model, custom_llm_provider), monotonic()
    known = _known.get(name)
    if known is None or known[0] <= now:
        known = (now + FRESH_S, _asked(model, custom_llm_provider))
        _known[name] = known
        _known.move_to_end(name)
        if len(_known) > MOST_NAMES:
            _known.popitem(last=False)
    if isinstance(known[1], Exception):
        known[1].__context__ = None  # nor may it keep what it met before
        raise known[1].with_traceback(None)
    return known[1]


def _asked(model: str, custom_llm_provider: str | None) -> Any:
    try:
        return _of_litellm(model, custom_llm_provider)
    except Exception as error:  # noqa: BLE001  # it is raised again, each time that somebody asks
        return error


def install() -> None:
    """Put it in the place of LiteLLM's."""
    get_llm_provider_logic.get_llm_provider = _provider
    litellm.get_llm_provider = _provider
