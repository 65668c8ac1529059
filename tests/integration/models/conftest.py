"""A web server with models, and `pull` into a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.model_server import ModelServer, model_server
from support.model_yard import Yard


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "models")
