"""Become LiteLLM's proxy, with its database migrated and everything around it set so that it stays on this machine."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from litellm_embedded.database_url import DatabaseUrl
from litellm_embedded.errors import EmbeddedError
from litellm_embedded.install import ENGINE, installation
from litellm_embedded.migrations import prepare_database
from litellm_embedded.node import Node, find_node
from litellm_embedded.ports import check_port
from litellm_embedded.privileges import die_with_parent

REQUIRED = ("DATABASE_URL", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "UI_USERNAME", "UI_PASSWORD")

STUBS = Path(__file__).parent / "bin"
LAST_RESORTS = STUBS / "last"
"""Programs that are used only where the machine has none of that name."""

# What LiteLLM would otherwise fetch from the internet while it starts, each with a copy in its package.
_OFF_NETWORK: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "HF_HUB_OFFLINE": "1",
    "CHECKPOINT_DISABLE": "1",
}

# What a caller may set otherwise.
_DEFAULTS: Mapping[str, str] = {
    "STORE_MODEL_IN_DB": "True",  # else /model/new answers 500
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env from the folder it happens to stand in
    "LITELLM_LOG": "WARNING",
}


@dataclass(frozen=True)
class ProxyOptions:
    """Where LiteLLM listens, what it reads, and how long it may wait for PostgreSQL."""

    config: Path
    host: str
    port: int
    timeout_s: float


def serve(options: ProxyOptions, environment: Mapping[str, str], say: Callable[[str], None]) -> Never:
    """Migrate the database and become LiteLLM: same pid, output, signals and exit status. Returns only by raising.

    Raises:
        EmbeddedError: if it cannot start, for each cause that can be known beforehand.
    """
    config = options.config.absolute()
    if not config.is_file():
        raise EmbeddedError(f"there is no LiteLLM configuration at {config}", "mend --config (`make up` renders one)")
    url = DatabaseUrl.parse(environment["DATABASE_URL"])
    pending = installation().pending()
    if pending:
        raise EmbeddedError(f"not installed: {', '.join(pending)}", "run litellm-embedded install")
    check_port(options.host, options.port)
    node = find_node()
    prepare_database(url, options.timeout_s, say)
    command = proxy_command(config, options.host, options.port)
    die_with_parent(signal.SIGTERM)
    os.execve(command[0], command, proxy_environment(environment, node))  # noqa: S606 - becoming LiteLLM is the purpose


def proxy_command(config: Path, host: str, port: int) -> list[str]:
    """Return LiteLLM's command line."""
    options = ["--config", str(config), "--host", host, "--port", str(port), "--telemetry", "False"]
    return [sys.executable, "-P", "-m", "litellm_embedded.launcher", *options]  # -P: not from where we stand


def proxy_environment(given: Mapping[str, str], node: Node) -> dict[str, str]:
    """Return the environment that LiteLLM runs in: what was given, kept off the network, with our Prisma engine."""
    path = os.pathsep.join([str(STUBS), str(node.folder), given.get("PATH", os.defpath), str(LAST_RESORTS)])
    environment = {**_DEFAULTS, **given, **_OFF_NETWORK, "PATH": path, "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE)}
    # Bytecode that is not written is compiled again at every start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment
