"""Where a way's CPU goes: py-spy looks at its process while it is asked for whole answers.

What it has seen is kept as folded stacks, a line each, which flame graphs are drawn from; `parts` sums them up.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from gate_bench.ways import Way

PER_S = 250
"""Looks a second."""
TIMEOUT_S = 60
IDLE = "PrismaClient._waitpid_thread_func"
"""A thread of LiteLLM's that waits for its database engine to end; py-spy takes it for busy."""
PARTS = {
    "_authenticate": "the key",
    "Exchange._admit": "LiteLLM before the call",
    "add_litellm_data_to_request": "LiteLLM before the call: the request's metadata",
    "_add": "LiteLLM before the call: the request's metadata",
    "ProxyLogging.pre_call_hook": "LiteLLM before the call: limits and hooks",
    "Router.async_function_with_fallbacks": "choosing a server",
    "Attempts._ask": "asking the server",
    "Exchange._headers": "headers of the answer",
    "Logging.response_cost_calculator": "its cost",
    "Account.result": "the answer as LiteLLM logs it",
    "send_whole": "sending the answer",
    "RequestResponseCycle.run_asgi": "other work of the request, middlewares",
    "Logging.async_success_handler": "log handlers",
    "get_standard_logging_object_payload": "log handlers: the standard payload",
    "_ProxyDBLogger.async_log_success_event": "log handlers: counting what was spent",
    "get_logging_payload": "log handlers: the row of spend",
    "DBSpendUpdateWriter._batch_database_updates": "sums of spend",
    "run_coroutine_job": "jobs, which write rows",
    "Poller.run": "asking servers for their load",
}
"""The functions at which parts of a request begin. A part within another counts for itself alone."""
REST = "the rest: event loop, sockets, parser"


def record(way: Way, path: Path, seconds: int, load: Callable[[], object]) -> None:
    """Write what py-spy sees of a way's process to `path`, while `load` is called again and again.

    Raises:
        SystemExit: py-spy is not here, or may not look.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise SystemExit(f"no {program}: scripts/bootstrap.sh bench installs it")
    options = {"pid": way.pid, "rate": PER_S, "format": "raw", "output": path, "duration": seconds}
    command = [str(program), "record", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spy:
        while spy.poll() is None:
            load()
        said = spy.communicate(timeout=TIMEOUT_S)[1]
    if spy.returncode:
        raise SystemExit(f"py-spy ended with {spy.returncode}; it must be root, or kernel.yama.ptrace_scope 0: {said}")


def parts(stacks: Iterable[str]) -> Counter[str]:
    """Return how many looks found each part at work.

    Args:
        stacks: folded, as py-spy writes them: frames from the outermost, then how often they were seen.
    """
    found = Counter[str]()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        names = [re.sub(r" \(.*", "", frame) for frame in frames.split(";")]
        if IDLE in names:
            continue
        begun = [PARTS[name] for name in names if name in PARTS]
        found[begun[-1] if begun else REST] += int(count)
    return found


def markdown(found: Counter[str]) -> str:
    """Return the parts with their share, the largest first."""
    whole = found.total() or 1
    rows = [f"| {count / whole:.1%} | {part} |" for part, count in found.most_common()]
    return "\n".join(["| share | part of a request's CPU |", "| --- | --- |", *rows])
