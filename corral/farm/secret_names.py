"""The farm's own secrets, by the names that they have in `.env` files and containers' environments."""

GATE_SECRETS = ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_USERNAME", "UI_PASSWORD", "GPU_SERVER_KEY")
"""What the gate takes from `.env` in every farm."""
DATABASE_PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105  # a name
DATABASE_URL = "DATABASE_URL"
REDIS_PASSWORD = "REDIS_PASSWORD"  # noqa: S105
