"""Start LiteLLM's proxy with the garbage collector resting while its modules are imported.

Run as `python -m litellm_embedded.launcher` with LiteLLM's own arguments. The imports make some 1.5 million objects
that all stay; collections in between only walk them again and again, a third of the time. Afterwards they are frozen:
no later collection walks them either, in the middle of somebody's request.
"""

import gc
import importlib


def main() -> None:
    """Import LiteLLM, then hand over to its command line."""
    gc.disable()
    importlib.import_module("litellm.proxy.proxy_server")
    from litellm import run_server

    gc.freeze()
    gc.enable()
    run_server()


if __name__ == "__main__":
    main()
