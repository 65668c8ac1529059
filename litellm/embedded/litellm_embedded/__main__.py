"""`python -m litellm_embedded`, the same as the command `litellm-embedded`."""

from litellm_embedded.cli import app

app()
