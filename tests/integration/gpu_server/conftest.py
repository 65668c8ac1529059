"""One ready gpu-server for the tests that only ask it things; tests that break theirs start their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.gpu_servers import GpuServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    with GpuServer(tmp_path_factory.mktemp("gpu_server") / "log") as running:
        yield running.ready()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GpuServer]]:
    with ExitStack() as running:

        def begin(**settings: object) -> GpuServer:
            return running.enter_context(GpuServer(tmp_path / "log", **settings))

        yield begin
