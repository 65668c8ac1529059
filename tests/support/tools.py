"""Programs of the system that some tests need."""

import os
import shutil

import pytest


def tool(*names: str) -> str:
    """Return the path of the first of these programs that is there; skips if none is.

    Args:
        names: one program by the names that it has upstream and in Debian.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/bin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    pytest.skip(
        f"{names[0]} is not here: apt-get install prometheus and prometheus-alertmanager, -node-exporter, "
        "-postgres-exporter, -blackbox-exporter"
    )
