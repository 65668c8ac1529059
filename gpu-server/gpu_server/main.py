"""The `gpu-server` command: reads the settings, listens, supervises, and stops in order on SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

import uvicorn
import uvloop

from gpu_server.client import ClientProtocol
from gpu_server.engine import find_engine
from gpu_server.output import LogHandler, LogSink
from gpu_server.refusal import stay
from gpu_server.settings import Settings, SettingsError, describe, load
from gpu_server.wrapper import Wrapper

BAD_SETTINGS = 2
_BACKLOG = 1024

_HELP = """\
Serves one model on one GPU: supervises a llama-server, relays OpenAI-style requests to it and measures them.
All settings are environment variables.

Examples:
  MODEL_PATH=model.gguf gpu-server                                    # on 127.0.0.1:8080, slots and context by default
  MODEL_PATH=model.gguf N_PARALLEL=4 N_CTX=16384 PORT=8081 gpu-server # four slots of 4,096 tokens
  MODEL_PATH=minilm.gguf MODE=embedding N_GPU_LAYERS=0 gpu-server     # embeddings on the CPU
  MODEL_PATH=model.gguf HOST=0.0.0.0 API_KEY=... GPU_UUID=GPU-... gpu-server

Routes: the model's own (/v1/chat/completions, ...), /v1/models, and for the keeper /health /status /metrics /logs,
POST /drain /resume /restart.
Exit codes: 0 stopped by SIGTERM or SIGINT, 2 a setting is wrong or the port is taken (after RESTART_PAUSE_S).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one gpu-server until it is told to stop; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="gpu-server",
        description=_HELP,
        epilog="Settings (environment variable, default, meaning):\n" + describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="check the settings and exit")
    checking = parser.parse_args(argv).check
    try:
        settings = load()
        if checking:
            return 0
        listener = _listen(settings)
    except SettingsError as error:
        for fault in error.faults:
            print(f"gpu-server: {fault}", file=sys.stderr, flush=True)
        if not checking:
            stay(error.faults, os.environ)
        return BAD_SETTINGS
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"HOST={settings.host} PORT={settings.port}"
        raise SettingsError([f"{where}: cannot listen there ({error.strerror}); choose another PORT or HOST"]) from None


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: we drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, listener: socket.socket) -> None:
    sink = LogSink(settings.name, settings.log_format)
    logging.basicConfig(handlers=[LogHandler(sink)], level=logging.WARNING, force=True)
    engine = find_engine(settings)
    wrapper = Wrapper(settings, engine, sink)
    http = _HttpServer(
        uvicorn.Config(
            wrapper.app, http=ClientProtocol, loop="none", ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=2,
        )
    )  # fmt: skip
    signals: asyncio.Queue[int] = asyncio.Queue()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, signals.put_nowait, sign)
    sink.write("listening", address=f"{settings.host}:{settings.port}", engine=" ".join(engine.command))
    running = asyncio.create_task(wrapper.run(), name="wrapper")
    serving = asyncio.create_task(http.serve([listener]), name="http")
    stopping = asyncio.create_task(_stop_in_order(signals, wrapper), name="signals")
    try:
        await asyncio.wait((running, serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        http.should_exit = True
        stopping.cancel()
        running.cancel()
        results = await asyncio.gather(running, serving, stopping, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _stop_in_order(signals: "asyncio.Queue[int]", wrapper: Wrapper) -> None:
    """Drain at the first signal; at the second stop at once."""
    await signals.get()
    draining = asyncio.create_task(wrapper.drained())
    impatient = asyncio.create_task(_next_signal(signals))
    await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, impatient):
        task.cancel()
    await asyncio.gather(draining, impatient, return_exceptions=True)


async def _next_signal(signals: "asyncio.Queue[int]") -> None:
    await signals.get()


if __name__ == "__main__":
    sys.exit(main())
