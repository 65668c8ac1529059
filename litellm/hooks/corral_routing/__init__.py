"""Routing that knows slots, queues and prompt caches. LiteLLM loads it as `corral_routing.hook.routing`."""
