"""What a fresh child does before it becomes llama-server."""

import os
import subprocess
import sys

from gpu_server.lifeline import tie_to


def test_a_child_falls_before_its_parent_where_memory_runs_out() -> None:
    told = subprocess.run(
        ["cat", "/proc/self/oom_score_adj"], capture_output=True, text=True, check=True, timeout=10,
        preexec_fn=tie_to(os.getpid()),
    )  # fmt: skip
    assert told.stdout == "1000\n"


def test_a_child_whose_parent_is_gone_does_not_begin() -> None:
    done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=False, preexec_fn=tie_to(1))
    assert (done.returncode, done.stdout) == (1, b"")
