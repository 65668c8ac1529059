"""Where a model's header comes from when no server is asked."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.farm import FarmFile
from corral.models.records import Files, Record
from corral.plan.header_cache import HeaderCache, Version
from corral.plan.headers import Places, headers_of
from support.gguf_files import header_bytes, write
from support.gguf_models import Sizes, small
from support.plan_farms import one_gpu_farm, small_header

MODEL = small(Sizes())
URL = {"url": "http://127.0.0.1:1/m.gguf"}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "models").mkdir()
    return Places(tmp_path, tmp_path / "models", HeaderCache(tmp_path / "headers"), offline=True)


def farm_of(source: dict[str, str], **model: object) -> FarmFile:
    return one_gpu_farm(model={"source": source, **model})


async def test_a_path_is_relative_to_the_farm_file(places: Places) -> None:
    path = write(places.base / "m.gguf", MODEL)
    known = await headers_of(farm_of({"path": "m.gguf"}), places)
    assert known.headers["m"].tensor_bytes == small_header().tensor_bytes
    assert known.files["m"] == path


async def test_a_model_that_was_pulled_is_read_where_it_lies(places: Places) -> None:
    path = write(places.models / "m.gguf", MODEL)
    assert (await headers_of(farm_of(URL), places)).files["m"] == path


async def test_a_model_that_lies_in_its_hosts_folder_is_read_there(places: Places) -> None:
    folder = places.base / "srv"
    folder.mkdir()
    path = write(folder / "m.gguf", MODEL)
    farm = one_gpu_farm(model={"source": URL}, host={"models_dir": str(folder)})
    assert (await headers_of(farm, places)).files["m"] == path


async def test_a_file_that_was_pulled_from_elsewhere_is_not_the_model(places: Places) -> None:
    write(places.models / "m.gguf", MODEL)
    Files(places.models, "m").write_record(Record({"url": "http://127.0.0.1:1/old.gguf"}, 1, "0" * 64, True, 0))
    assert "m" in (await headers_of(farm_of(URL), places)).unknown


async def test_offline_what_was_fetched_before_counts(places: Places) -> None:
    farm = farm_of(URL)
    known = await headers_of(farm, places)
    assert str(known.unknown["m"]) == (
        "the header of http://127.0.0.1:1/m.gguf is not here; leave out --offline, or give it with --header"
    )
    places.cache.keep(URL["url"], Version('"v1"', small_header().file_bytes), small_header())
    assert (await headers_of(farm, places)).origins["m"] == "http://127.0.0.1:1/m.gguf, fetched before"


async def test_a_header_given_by_hand_goes_before_all(places: Places, tmp_path: Path) -> None:
    write(places.models / "m.gguf", small(Sizes(layers=1)))
    start = tmp_path / "start-of-m.gguf"
    start.write_bytes(header_bytes(MODEL) + bytes(100))
    known = await headers_of(farm_of(URL), replace(places, given={"m": start}))
    assert known.headers["m"].tensor_bytes == small_header().tensor_bytes
    assert known.files == {}


@pytest.mark.parametrize("content", [b"", b"<html>", header_bytes(MODEL)[:1000], None])
async def test_a_header_given_by_hand_that_is_none_is_refused(places: Places, content: bytes | None) -> None:
    path = places.base / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorralError, match=r"bad\.gguf") as refused:
        await headers_of(farm_of(URL), replace(places, given={"m": path}))
    assert refused.value.exit_code == 2


async def test_a_header_for_no_model_is_refused(places: Places) -> None:
    with pytest.raises(CorralError, match="--header names n, which is no model of the farm; its models are m"):
        await headers_of(farm_of(URL), replace(places, given={"n": places.base}))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"path": "none.gguf"}, "does not exist"),
        ({"package": "all-minilm-l6-v2"}, "is not made yet; corral models pull m"),
    ],
)
async def test_what_should_be_here_and_is_not_is_told(places: Places, source: dict[str, str], said: str) -> None:
    assert said in str((await headers_of(farm_of(source), places)).unknown["m"])


async def test_a_server_that_does_not_answer_is_told(places: Places) -> None:
    known = await headers_of(farm_of(URL), replace(places, offline=False))
    assert "try again, or plan --offline" in str(known.unknown["m"])


async def test_a_projectors_size_is_its_files(places: Places) -> None:
    write(places.base / "m.gguf", MODEL)
    farm = farm_of({"path": "m.gguf"}, projector={"path": "eyes.gguf"})
    assert (await headers_of(farm, places)).projectors == {}
    (places.base / "eyes.gguf").write_bytes(bytes(1000))
    assert (await headers_of(farm, places)).projectors == {"m": 1000}
