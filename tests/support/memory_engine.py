"""What a real llama-server says of its memory: LLAMA_SERVER if set, else the packaged engine (PyPI xllamacpp).

`gpu_server.embedded` has no flag for the verbosity that shows these figures, so this file, run as a program, starts
the same engine from the same flags and two more: `python memory_engine.py --log-verbosity 5 --model m.gguf ...`.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corral.planner.estimate_server import ServerShape
from corral.planner.fit_table import flags

DEADLINE_S = 60.0
_WEIGHTS = re.compile(r"print_info: file size += ([\d.]+) ([MG])iB")
# A context that keeps nothing (bert) has no cache line.
_CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers")
_STATE = re.compile(r"llama_memory_recurrent: size = +([\d.]+) MiB")
_FIGURES = {
    "output": re.compile(r"CPU +output buffer size = +([\d.]+) MiB"),
    "compute": re.compile(r"sched_reserve: +CPU compute buffer size = +([\d.]+) MiB"),
}


@dataclass
class Figures:
    """In MiB, of two decimals; `rounding` is that of the weights. `caches`: (MiB, cells, layers) of each KV cache."""

    weights: float = 0.0
    rounding: float = 0.006
    output: float = 0.0
    compute: float = 0.0
    states: float = 0.0
    caches: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def cache(self) -> float:
        return sum(size for size, _, _ in self.caches) + self.states


def command() -> list[str]:
    """The words before llama-server's flags."""
    named = os.environ.get("LLAMA_SERVER")
    return [named] if named else [sys.executable, __file__]


def measure(model: Path, server: ServerShape) -> Figures:
    """Run llama-server's memory fit, which allocates nothing, and return what it logged; the process is gone then."""
    argv = [*command(), *flags(model, server)]
    argv[argv.index("--log-verbosity") + 1] = "5"
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    timer = threading.Timer(DEADLINE_S, child.kill)
    timer.start()
    log: list[str] = []
    try:
        assert child.stdout is not None
        return _read(_kept(child.stdout, log))
    except EOFError:
        raise AssertionError("llama-server gave no figures:\n" + "".join(log[-15:])) from None
    finally:
        timer.cancel()
        child.kill()
        child.communicate()


def _kept(lines: Iterator[str], log: list[str]) -> Iterator[str]:
    for line in lines:
        log.append(line)
        yield line


def _read(lines: Iterator[str]) -> Figures:
    figures = Figures()
    for line in lines:
        if match := _CACHE.search(line):
            figures.caches.append((float(match[1]), int(match[2]), int(match[3])))
        elif match := _STATE.search(line):
            figures.states = float(match[1])
        elif match := _WEIGHTS.search(line):
            unit = 1024 if match[2] == "G" else 1
            figures.weights, figures.rounding = float(match[1]) * unit, 0.006 * unit
        for name, pattern in _FIGURES.items():
            if match := pattern.search(line):
                setattr(figures, name, float(match[1]))
        if figures.compute:
            return figures
    raise EOFError


def _main() -> None:
    import xllamacpp

    from gpu_server import embedded_flags

    words = sys.argv[1:]
    at = words.index("--log-verbosity")
    verbosity = int(words[at + 1])
    del words[at : at + 2]
    unified = "--kv-unified" in words
    words[words.index("--port") + 1] = "65535"  # it is stopped before it would listen
    params = embedded_flags.common_params(
        embedded_flags.parse([word for word in words if word != "--kv-unified"]), xllamacpp
    )
    params.verbosity, params.kv_unified = verbosity, unified
    try:
        xllamacpp.Server(params)
    except RuntimeError:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main()
