"""Whether a request has asked not to be logged somewhere.

LiteLLM looks at that for each listener, and writes what it found into messages that nobody reads. Nearly no request has
`x-litellm-disable-callbacks`.
"""

from typing import Any

from litellm_enterprise.enterprise_callbacks.callback_controls import EnterpriseCallbackControls

_of_litellm = EnterpriseCallbackControls.is_callback_disabled_dynamically


def _is_disabled(callback: Any, litellm_params: Any, standard_callback_dynamic_params: Any) -> bool:
    try:
        if EnterpriseCallbackControls.get_disabled_callbacks(litellm_params, standard_callback_dynamic_params) is None:
            return False
    except Exception:  # noqa: BLE001  # as LiteLLM's
        return False
    return bool(_of_litellm(callback, litellm_params, standard_callback_dynamic_params))


def install() -> None:
    """Put it in the place of LiteLLM's."""
    EnterpriseCallbackControls.is_callback_disabled_dynamically = staticmethod(_is_disabled)  # type: ignore[method-assign]  # that is what it is for
