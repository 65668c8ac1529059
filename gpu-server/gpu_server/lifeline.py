"""Ties a child's life to its parent's: no llama-server outlives the wrapper; where memory runs out, it falls first."""

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_OOM_SCORE = b"1000"
"""The highest: the wrapper starts a llama-server anew within seconds; nobody in the container would start the wrapper."""
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to SIGKILL this process when the thread that started it ends (prctl(2), Linux only).

    Raises:
        OSError: The kernel refused.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")


def fall_first() -> None:
    """Have the kernel take this process before its parent where memory runs out; nothing if that is refused."""
    with suppress(OSError):
        handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(handle, _OOM_SCORE)
        os.close(handle)


def tie_to(parent_pid: int) -> Callable[[], None]:
    """Return what a fresh child runs between fork and exec to die with `parent_pid`, even if that is already gone.

    It also makes the child fall first where memory runs out.
    """

    def tie() -> None:
        die_with_parent()
        if os.getppid() != parent_pid:  # the parent died before the kernel knew of the tie
            os._exit(1)
        fall_first()

    return tie
