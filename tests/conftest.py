"""Settings for every test."""

import os

# LiteLLM, imported for its hooks, would ask the network for prices. No test waits on a look-up.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
