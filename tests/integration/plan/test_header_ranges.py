"""Headers from a real web server: only the first MiBs are sent, once, and again only if the file changed."""

import asyncio
import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.farm import FarmFile
from corral.gguf.files import read_file
from corral.models.remote import Hub
from corral.plan.header_cache import HeaderCache
from corral.plan.headers import Places, headers_of
from support.gguf_files import header_bytes, write
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, small
from support.model_server import ModelServer, Served, model_server
from support.plan_farms import one_gpu_farm

pytestmark = pytest.mark.integration

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def llama(server: ModelServer, tmp_path: Path) -> Iterator[Served]:
    """Llama-3.1-8B as it is published, 5.7 GB, in a sparse file."""
    path = write(tmp_path / "llama.gguf", llama_31_8b_q5_k_m())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        yield server.put("/llama.gguf", body)  # type: ignore[arg-type]  # sliced and measured like bytes


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path / "models", HeaderCache(tmp_path / "headers"))


def farm_of(*urls: str) -> FarmFile:
    models = {f"m{number}": {"source": {"url": url}} for number, url in enumerate(urls)}
    servers = [{"model": name, "ports": 8080 + number} for number, name in enumerate(models)]
    return one_gpu_farm(servers=servers, more_models=models)


def whole(layers: int = 2) -> bytes:
    """A model of a few MiB."""
    sizes = Sizes(layers=layers, embedding=64, feed_forward=128, heads=4, kv_heads=2, vocabulary=1000)
    return header_bytes(small(sizes)) + bytes(2 * MIB * layers)


def sent(served: Served) -> int:
    """Bytes of the body that were asked for."""
    ranges = [text.removeprefix("bytes=").split("-") for text in served.ranges_asked if text]
    return sum(int(end) + 1 - int(start) for start, end in ranges)


async def test_of_a_file_of_gigabytes_a_few_mebibytes_are_fetched(
    server: ModelServer, llama: Served, places: Places, tmp_path: Path
) -> None:
    known = await headers_of(farm_of(f"{server.url}/llama.gguf"), places)
    assert known.headers["m0"].tensors == read_file(tmp_path / "llama.gguf").tensors
    assert known.headers["m0"].file_bytes == len(llama.body) > 5_700_000_000
    assert None not in llama.ranges_asked
    assert 0 < sent(llama) <= 8 * MIB


async def test_what_was_fetched_is_not_fetched_again_until_it_changes(
    server: ModelServer, llama: Served, places: Places
) -> None:
    farm = farm_of(f"{server.url}/llama.gguf")
    first = await headers_of(farm, places)
    llama.asked.clear()
    again = await headers_of(farm, places)
    assert again.headers["m0"].tensors == first.headers["m0"].tensors
    assert "fetched before" in again.origins["m0"]
    assert llama.ranges_asked == []

    llama.etag = '"v2"'
    assert "fetched before" not in (await headers_of(farm, places)).origins["m0"]
    assert sent(llama) > 0


async def test_a_file_of_another_size_under_the_same_etag_is_fetched_again(server: ModelServer, places: Places) -> None:
    farm = farm_of(f"{server.url}/m.gguf")
    for layers in (2, 3):
        served = server.put("/m.gguf", whole(layers))
        known = await headers_of(farm, places)
        assert known.headers["m0"].find("block_count") == layers
        assert known.headers["m0"].file_bytes == len(served.body)


async def test_models_of_one_address_are_fetched_once_and_others_at_the_same_time(
    server: ModelServer, places: Places
) -> None:
    body = whole()
    one, other = (server.put(path, body, hold_after=1000) for path in ("/one.gguf", "/other.gguf"))

    async def both_are_under_way() -> None:
        await asyncio.to_thread(_wait_for_two, server)
        one.released.set()
        other.released.set()

    farm = farm_of(f"{server.url}/one.gguf", f"{server.url}/other.gguf", f"{server.url}/one.gguf")
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        planned = tasks.create_task(headers_of(farm, places))
        tasks.create_task(both_are_under_way())
    assert set(planned.result().headers) == {"m0", "m1", "m2"}
    assert len(one.ranges_asked) == 1


def _wait_for_two(server: ModelServer) -> None:
    with server.changed:
        assert server.changed.wait_for(lambda: server.busy == 2, timeout=10)


async def test_a_token_goes_to_the_hub_and_not_where_it_redirects(server: ModelServer, places: Places) -> None:
    body = whole()
    with model_server() as store:
        stored = store.put("/stored.gguf", body)
        asked = server.put("/owner/model/resolve/main/m.gguf", b"", redirect=f"{store.url}/stored.gguf")
        farm = one_gpu_farm(model={"source": {"hub": "owner/model", "file": "m.gguf"}})
        hub = Hub(server.url, "hf_not-a-real-token")
        known = await headers_of(farm, replace(places, hub=hub))
        assert "m" in known.headers
        assert {headers.get("authorization") for headers in asked.asked} == {"Bearer hf_not-a-real-token"}
        assert {headers.get("authorization") for headers in stored.asked} == {None}


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ({"refusals": [(404, {})]}, "404"),
        ({"refusals": [(403, {})]}, "403"),
        ({"refusals": [(503, {})]}, "try again, or plan --offline"),
        ({"hold_after": 1000}, "did not give its header in 0.5 s"),
        ({"body": b"<html>log in</html>"}, "is no GGUF file"),
    ],
)
async def test_a_model_that_cannot_be_had_is_told_and_the_others_are_planned(
    server: ModelServer, places: Places, behaviour: dict[str, Any], said: str
) -> None:
    body = whole()
    server.put("/good.gguf", body)
    server.put("/bad.gguf", **{"body": body, **behaviour})
    farm = farm_of(f"{server.url}/good.gguf", f"{server.url}/bad.gguf")
    known = await headers_of(farm, replace(places, deadline_s=0.5 if "hold_after" in behaviour else 20))
    assert said in str(known.unknown["m1"])
    assert "m0" in known.headers
