"""Ties a child's life to its parent's, so that no llama-server outlives the wrapper, not even after `kill -9`."""

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to SIGKILL this process when the thread that started it ends (prctl(2), Linux only).

    Raises:
        OSError: The kernel refused.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")


def tie_to(parent_pid: int) -> Callable[[], None]:
    """Return what a fresh child runs between fork and exec to die with `parent_pid`, even if that is already gone."""

    def tie() -> None:
        die_with_parent()
        if os.getppid() != parent_pid:  # the parent died before the kernel knew of the tie
            os._exit(1)

    return tie
