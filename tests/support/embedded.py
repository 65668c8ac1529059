"""The Prisma engine and client that LiteLLM's tests need, installed once per checkout."""

import subprocess
import sys

INSTALL_TIMEOUT_S = 280.0


def install_engine() -> None:
    """Make sure that they are installed; next to nothing if they are."""
    subprocess.run(
        [sys.executable, "-m", "litellm_embedded", "install"],
        stdout=subprocess.DEVNULL,
        timeout=INSTALL_TIMEOUT_S,
        check=True,
    )
