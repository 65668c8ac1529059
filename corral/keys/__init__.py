"""API keys of the gate: made, shown and revoked through LiteLLM's key management.

`access` finds the gate and its master key, `client` speaks LiteLLM's key API, `arguments` turns what a person typed
into a checked request, `tables` shows keys, `cli` is `corral keys`.
"""
