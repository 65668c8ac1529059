"""The fast path: LiteLLM decides about a request, and the bytes of its answer go through unread.

LiteLLM as it is makes objects of each piece of an answer and JSON of them again, for a third to a full millisecond of
CPU a token. For models of the farm that is not needed: server and client speak the same language.

LiteLLM loads this as a callback (`litellm_settings.callbacks: ["corral_fast_path.fast_path"]`) while it starts, in
every worker. `CORRAL_FAST_PATH=off` in its environment turns it off. docs/fast-path.md says what differs.
"""

from corral_fast_path.plugin import FastPath

fast_path = FastPath()
fast_path.load()
