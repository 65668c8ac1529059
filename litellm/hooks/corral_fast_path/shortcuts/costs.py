"""What an answer of a model with prices of its own costs.

LiteLLM finds the prices anew for each answer, in two ways, and looks for what only other providers bill: searches,
tiers, regions. For one that costs something it prepares to say why it costs nothing. Here tokens are multiplied with
the rates at which LiteLLM has billed the deployment last: once that has been seen to give LiteLLM's own sum, and for as
long as its entry in LiteLLM's list of prices is the same.
"""

from collections.abc import Mapping
from time import monotonic
from types import SimpleNamespace
from typing import Any, NamedTuple

from litellm.litellm_core_utils.litellm_logging import Logging

import litellm
from litellm import cost_calculator

FRESH_S = 10.0
"""How often it is looked whether LiteLLM still bills the same."""
_CALLS = frozenset({"acompletion", "atext_completion", "aembedding"})
_PRICES = frozenset({"input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"})
"""Those that depend on nothing but the number of tokens."""
_USAGE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"})
_PLAIN = {"base_model": None, "prompt": "", "service_tier": None, "data_residency": None, "vertex_location": None,
          "region_name": None, "litellm_model_name": None, "custom_pricing": True}  # fmt: skip

_of_litellm = cost_calculator.completion_cost
_why_free_of_litellm = Logging._zero_cost_finding


class _Name(NamedTuple):
    deployment: str
    call: str


class _Rates(NamedTuple):
    """At which LiteLLM bills a deployment.

    Attributes:
        until: when to ask LiteLLM again, in s of the monotonic clock.
        entry: of LiteLLM's list of prices.
        rates: LiteLLM's, a token each.
    """

    until: float
    entry: Mapping[str, Any]
    rates: Any

    def bill(self, usage: Any, log: Any) -> float:
        """Return what tokens cost, and tell `log` what of it was for what."""
        cached = int(getattr(usage.prompt_tokens_details, "cached_tokens", None) or 0)
        read = float(cached) * self.rates.cache_read_input_token_cost
        prompt = float(max(usage.prompt_tokens - cached, 0)) * self.rates.input_cost_per_token + read
        answer = float(usage.completion_tokens) * self.rates.output_cost_per_token
        nothing = dict.fromkeys(_NOT_BILLED, 0.0)
        Logging.set_cost_breakdown(
            log,
            input_cost=prompt,
            output_cost=answer,
            total_cost=prompt + answer,
            original_cost=prompt + answer,
            cache_read_cost=read,
            billed_token_rates=self.rates,
            **nothing,
        )
        return float(prompt + answer)


_NOT_BILLED = (
    "cost_for_built_in_tools_cost_usd_dollar", "discount_percent", "discount_amount", "margin_percent",
    "margin_fixed_amount", "margin_total_amount", "cache_creation_cost", "reasoning_cost",
)  # fmt: skip
_known: dict[_Name, _Rates] = {}
"""Its size is that of the configuration."""


def _cost(*told: Any, **asked: Any) -> float:
    log, usage = asked.get("litellm_logging_obj"), getattr(asked.get("completion_response"), "usage", None)
    entry = litellm.model_cost.get(asked.get("router_model_id"))
    if told or log is None or entry is None or not _is_plain(asked) or not _counts_tokens_only(usage):
        return float(_of_litellm(*told, **asked))
    name = _Name(asked["router_model_id"], asked["call_type"])
    known = _known.get(name)
    if known is not None and known.entry == entry and monotonic() < known.until:
        return known.bill(usage, log)
    cost = float(_of_litellm(**asked))
    _known.pop(name, None)
    if log.billed_token_rates is not None and _PRICES.issuperset(_prices(entry)):
        rates, ours = _Rates(monotonic() + FRESH_S, {**entry}, log.billed_token_rates), SimpleNamespace()
        if rates.bill(usage, ours) == cost and ours.cost_breakdown == log.cost_breakdown:
            _known[name] = rates
    return cost


def _is_plain(asked: Mapping[str, Any]) -> bool:
    """Whether nothing that LiteLLM is asked about an answer, or says in it, changes what its tokens cost."""
    answer = asked["completion_response"]
    choices = getattr(answer, "choices", None) or ()
    return (
        asked.get("call_type") in _CALLS
        and all(asked.get(name, plain) == plain for name, plain in _PLAIN.items())
        and (asked.get("optional_params") or {}).keys() <= {"stream"}
        and not any((asked.get("standard_built_in_tools_params") or {}).values())
        and not litellm.cost_discount_config
        and not litellm.cost_margin_config
        and getattr(answer, "service_tier", None) is None
        and not any(getattr(getattr(choice, "message", None), "annotations", None) for choice in choices)
    )


def _counts_tokens_only(usage: Any) -> bool:
    if type(usage) is not litellm.Usage or usage.__pydantic_extra__:
        return False
    details = usage.prompt_tokens_details
    return all(name in _USAGE or not value for name, value in usage.__dict__.items()) and (
        details is None
        or (
            not details.__pydantic_extra__
            and all(name == "cached_tokens" or not value for name, value in details.__dict__.items())
        )
    )


def _prices(entry: Mapping[str, Any]) -> list[str]:
    return [name for name, value in entry.items() if value and ("cost" in name or "pric" in name or "tier" in name)]


def _why_free(self: Any, result: object, response_cost: float | None, **more: Any) -> Any:
    return None if response_cost else _why_free_of_litellm(self, result, response_cost, **more)


def install() -> None:
    """Put them in the place of LiteLLM's."""
    Logging._zero_cost_finding = _why_free
    cost_calculator.completion_cost = _cost
