"""Servers to break, and the table of what came of it (written if FAULTS_TABLE names a file: `make faults`)."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.fake_llama import FakeLlama
from support.faults import Table, losses, write_table
from support.gpu_servers import GpuServer
from support.waiting import wait_until

STALL_S = 3
FULL = bool(os.environ.get("FAULTS_TABLE"))  # at full length; else in the short form for every day

_HEAD = """\
# What faults do

Measured by `{command}` on {date}, on a machine that other work shares. Each row breaks a running gpu-server once;
STALL_TIMEOUT_S is 3, the real llama-server is the embedded one with SmolLM2 on the CPU, the fake is
`tests/fakes/llama_server.py` (it takes the faults that a real one cannot be asked for).

*Noticed*: from the fault until the gpu-server no longer says `ready`. *Ready again*: from the fault. *Slots free*: from
then until no request holds a slot or waits; where nothing restarted, from the moment the client left, or from the last
answer. The suite fails if a request
gets no answer, a death is noticed after 2 s or a stall after STALL_TIMEOUT_S + 5 s, a gauge does not return to zero,
or a restart is counted under another cause.
"""


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    table = Table()
    yield table
    if FULL:
        write_table(table.rows, Path(os.environ["FAULTS_TABLE"]), "make faults", _HEAD)


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether slow rows run at full length."""
    return FULL


@pytest.fixture(scope="session")
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        yield threads


Start = Callable[..., GpuServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a gpu-server for one test."""
    with ExitStack() as running:

        def begin(**settings: object) -> GpuServer:
            return running.enter_context(GpuServer(tmp_path / "log", **{"STALL_TIMEOUT_S": STALL_S, **settings}))

        yield begin


@pytest.fixture(scope="module")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    small = {"N_BATCH": 64, "N_UBATCH": 64}  # so that a batch on a busy machine stays far under STALL_S
    log = tmp_path_factory.mktemp("real") / "log"
    with GpuServer(log, N_PARALLEL=4, N_CTX=8192, STALL_TIMEOUT_S=STALL_S, **small) as server:
        yield server.ready()


@pytest.fixture
def real(_real: GpuServer) -> GpuServer:
    """Four slots of a real llama-server, without a record of quick deaths."""
    return _forgotten(_real)


@pytest.fixture(scope="module")
def _fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GpuServer, FakeLlama]]:
    directory = tmp_path_factory.mktemp("fake")
    llama = FakeLlama(directory)
    with GpuServer(directory / "log", LLAMA_SERVER=llama.launcher, N_PARALLEL=4, STALL_TIMEOUT_S=STALL_S) as server:
        yield server.ready(), llama
    llama.close()


@pytest.fixture
def fake(_fake: tuple[GpuServer, FakeLlama]) -> Iterator[tuple[GpuServer, FakeLlama]]:
    """Four slots of a fake llama-server without faults, and the hand on it."""
    server, llama = _fake
    llama.plan()
    _forgotten(server)
    yield server, llama
    llama.plan()


def _forgotten(server: GpuServer) -> GpuServer:
    """Drain and resume, if anything was restarted: so a gpu-server forgets quick deaths."""
    if losses(server) or server.state() != "ready":
        server.client.post("/drain")
        wait_until(lambda: server.state() == "stopped", 15, "the stop")
        server.client.post("/resume")
    return server.ready()
