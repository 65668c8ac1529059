"""One span for each call of a model, to Langfuse by OTLP/HTTP; prompts and answers only for keys that say so.

LiteLLM loads this as a callback (`litellm_settings.callbacks: ["corral_traces.traces"]`), in place of its own
`langfuse_otel`, which tells neither the server nor when the answer began, and which takes a licence to treat one key
unlike another. docs/langfuse.md has the settings.
"""

import os

from corral_traces.callback import Traces

traces = Traces.from_environment(os.environ)
