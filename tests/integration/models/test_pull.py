"""Pulling models from a real web server: what comes is right, whatever the server and the line do."""

import asyncio
import errno
import os
import shutil
import stat
from types import SimpleNamespace

import pytest

from corral.models import fetch
from corral.models.errors import ModelError
from corral.models.part import Part
from corral.models.persistence import Patience
from corral.models.remote import Hub
from support.model_server import ModelServer
from support.model_yard import Yard, gguf, sha256
from support.ports import free_port

GGUF = gguf()


async def test_a_model_comes_whole_checked_and_readable_by_others(server: ModelServer, yard: Yard) -> None:
    server.put("/m.gguf", GGUF)
    before = os.umask(0o077)
    try:
        result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    finally:
        os.umask(before)
    assert (result.outcome, result.checked, result.size) == ("fetched", True, len(GGUF))
    assert result.path == yard.folder / "llama.gguf"
    assert yard.bytes_of("llama") == GGUF
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o644
    assert yard.names() == {"llama.gguf", "llama.gguf.json"}


async def test_what_is_there_is_not_asked_for_again(server: ModelServer, yard: Yard) -> None:
    source = {"url": f"{server.url}/m.gguf"}
    file = server.put("/m.gguf", GGUF)
    first = await yard.pull("llama", **source)
    asked = len(file.asked)
    second = await yard.pull("llama", **source)
    assert (first.outcome, second.outcome) == ("fetched", "found")
    assert not first.checked  # nobody told its SHA-256, and that is said
    assert len(file.asked) == asked


async def test_a_right_file_that_somebody_copied_there_is_taken(server: ModelServer, yard: Yard) -> None:
    yard.folder.mkdir()
    (yard.folder / "llama.gguf").write_bytes(GGUF)
    result = await yard.pull("llama", url=f"{server.url}/gone.gguf", sha256=sha256(GGUF))
    assert (result.outcome, result.checked) == ("found", True)


async def test_a_line_that_breaks_again_and_again_is_gone_on_with(server: ModelServer, yard: Yard) -> None:
    file = server.put("/m.gguf", GGUF, cuts=[100_000] * 7)  # more breaks than attempts: each one came further
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    assert result.outcome == "fetched"
    assert yard.bytes_of("llama") == GGUF
    assert file.ranges_asked == [None, *(f"bytes={n}00000-" for n in range(1, 8))]
    assert "the connection broke; trying again" in yard.told.text


async def test_a_server_that_ignores_ranges_is_read_from_the_start(server: ModelServer, yard: Yard) -> None:
    server.put("/m.gguf", GGUF, ranges=False, cuts=[300_000])
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    assert result.outcome == "fetched"
    assert yard.bytes_of("llama") == GGUF
    assert "cannot resume" in yard.told.text


async def test_a_file_of_unknown_size_comes_too(server: ModelServer, yard: Yard) -> None:
    server.put("/m.gguf", GGUF, ranges=False, no_length=True, etag=None)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    assert (result.outcome, yard.bytes_of("llama")) == ("fetched", GGUF)


async def test_a_file_that_changes_while_it_is_fetched_is_not_mixed(server: ModelServer, yard: Yard) -> None:
    new = gguf(seed=1)
    file = server.put("/m.gguf", GGUF, cuts=[300_000])

    def change(_name: str, done: int) -> None:
        if done >= 300_000:
            file.body, file.etag = new, '"v2"'

    yard.told.listeners.append(change)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert result.outcome == "fetched"
    assert yard.bytes_of("llama") == new
    assert "has changed: starting anew" in yard.told.text
    resumed = [headers for headers in file.asked if headers.get("range") == "bytes=300000-"]
    assert [headers.get("if-range") for headers in resumed] == ['"v1"']  # the server need not send what is not wanted


async def test_a_wrong_checksum_never_replaces_a_good_file(server: ModelServer, yard: Yard) -> None:
    good, bad = gguf(seed=1), gguf(seed=2)
    file = server.put("/m.gguf", good)
    await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(good))
    file.body, file.etag = bad, '"v2"'
    wanted = sha256(gguf(seed=3))
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=wanted)
    assert result.outcome == "failed"
    error = str(result.error)
    assert f"expected {wanted} (the farm file), got {sha256(bad)} (llama.gguf is kept as it was)" in error
    assert "\n" not in error
    assert yard.bytes_of("llama") == good
    assert yard.names() == {"llama.gguf", "llama.gguf.json"}


async def test_a_new_checksum_in_the_farm_file_brings_the_new_file(server: ModelServer, yard: Yard) -> None:
    old, new = gguf(seed=1), gguf(seed=2)
    file = server.put("/m.gguf", old)
    await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(old))
    file.body, file.etag = new, '"v2"'
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(new))
    assert (result.outcome, yard.bytes_of("llama")) == ("fetched", new)


async def test_a_part_damaged_on_the_disk_is_noticed_and_fetched_anew(server: ModelServer, yard: Yard) -> None:
    await _leave_part(server, yard, 300_000)
    part = yard.folder / "llama.gguf.part"
    part.write_bytes(part.read_bytes()[:-10] + b"0123456789")
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    assert (result.outcome, yard.bytes_of("llama")) == ("fetched", GGUF)
    assert "does not fit" in yard.told.text


async def test_a_part_of_another_file_is_thrown_away(server: ModelServer, yard: Yard) -> None:
    await _leave_part(server, yard, 300_000)
    new = gguf(seed=1)
    file = server.put("/n.gguf", new)
    result = await yard.pull("llama", url=f"{server.url}/n.gguf", sha256=sha256(new))
    assert (result.outcome, yard.bytes_of("llama")) == ("fetched", new)
    assert file.ranges_asked == [None]


async def test_a_login_page_is_not_taken_for_a_model(server: ModelServer, yard: Yard) -> None:
    file = server.put("/m.gguf", b"<!doctype html><title>Log in</title>" * 1000)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert "is no GGUF file: it starts with b'<!do'" in str(result.error)
    assert file.ranges_asked == []  # told from its first bytes
    assert yard.names() == set()


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "check the names"), (401, "~/.netrc"), (403, "~/.netrc"), (410, "check the names"), (400, "check the addr")],
)
async def test_a_refusal_says_what_to_do_and_is_not_tried_again(
    server: ModelServer, yard: Yard, status: int, said: str
) -> None:
    file = server.put("/m.gguf", GGUF, refusals=[(status, {})])
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert result.outcome == "failed"
    assert f"the server answers {status}" in str(result.error)
    assert said in str(result.error)
    assert len(file.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_that_is_busy_is_asked_again(server: ModelServer, yard: Yard, status: int) -> None:
    server.put("/m.gguf", GGUF, refusals=[(status, {"Retry-After": "0"}), (status, {})])
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert result.outcome == "fetched"


async def test_retry_after_is_obeyed_up_to_a_limit(server: ModelServer, yard: Yard) -> None:
    server.put("/m.gguf", GGUF, refusals=[(429, {"Retry-After": "1"})])
    began = asyncio.get_running_loop().time()
    assert (await yard.pull("llama", url=f"{server.url}/m.gguf")).outcome == "fetched"
    assert asyncio.get_running_loop().time() - began >= 1
    server.put("/n.gguf", GGUF, refusals=[(429, {"Retry-After": "3600"})])
    result = await yard.pull("nomic", url=f"{server.url}/n.gguf")
    assert "the server asks to wait 3600 s" in str(result.error)


async def test_a_server_that_stays_down_is_given_up(server: ModelServer, yard: Yard) -> None:
    file = server.put("/m.gguf", GGUF, refusals=[(503, {})] * 99)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert "503 Service Unavailable; tried 4 times; check the network" in str(result.error)
    assert len(file.asked) == 4


async def test_a_server_that_stalls_is_left_and_gone_on_with(
    server: ModelServer, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.models.remote.TIMEOUT", 0.5)
    file = server.put("/m.gguf", GGUF, hold_after=300_000)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF))
    assert (result.outcome, yard.bytes_of("llama")) == ("fetched", GGUF)
    assert file.ranges_asked == [None, "bytes=300000-"]
    assert "stopped sending" in yard.told.text


async def test_a_redirect_is_followed_without_the_token(
    server: ModelServer, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{server.url.replace('127.0.0.1', 'localhost')}/store/blob?signature=abc"
    at_hub = server.put(
        "/owner/repo/resolve/main/dir/m.gguf",
        b"",
        redirect=other,
        headers={"X-Linked-Etag": f'"{sha256(GGUF)}"', "X-Linked-Size": str(len(GGUF))},
    )
    at_store = server.put("/store/blob", GGUF, cuts=[300_000])
    hub = Hub(server.url, "hf_secret")
    result = await yard.pull("llama", hub="owner/repo", file="dir/m.gguf", how={"hub": hub})
    assert (result.outcome, result.checked) == ("fetched", True)  # against the SHA-256 that the hub tells
    assert {headers.get("authorization") for headers in at_hub.asked} == {"Bearer hf_secret"}
    assert {headers.get("authorization") for headers in at_store.asked} == {None}
    left = "".join(path.read_text(errors="replace") for path in yard.folder.glob("*.json"))
    assert "hf_secret" not in left + yard.told.text + repr(hub)
    assert "signature" not in left + yard.told.text


async def test_what_the_hub_sends_must_be_what_the_hub_tells(server: ModelServer, yard: Yard) -> None:
    headers = {"X-Linked-Etag": f'"{sha256(gguf(seed=5))}"'}
    server.put("/owner/repo/resolve/v1/m.gguf", GGUF, headers=headers)
    hub = {"hub": Hub(server.url)}
    result = await yard.pull("llama", hub="owner/repo", file="m.gguf", revision="v1", how=hub)
    assert "wrong checksum" in str(result.error)
    assert "(the hub)" in str(result.error)
    pinned = await yard.pull(
        "llama", hub="owner/repo", file="m.gguf", revision="v1", sha256=sha256(GGUF), how=hub
    )  # fmt: skip
    assert "find out which is right" in str(pinned.error)
    assert yard.names() == set()


async def test_a_gated_model_names_the_token(server: ModelServer, yard: Yard) -> None:
    server.put("/owner/repo/resolve/main/m.gguf", GGUF, refusals=[(401, {})])
    result = await yard.pull("llama", hub="owner/repo", file="m.gguf", how={"hub": Hub(server.url)})
    assert "set HF_TOKEN" in str(result.error)


async def test_no_room_is_said_before_anything_is_fetched(
    server: ModelServer, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [server.put(f"/{name}.gguf", GGUF) for name in "ab"]
    usage = SimpleNamespace(free=fetch.RESERVE_BYTES + 1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    wanted = [yard.wanted(name, url=f"{server.url}/{name}.gguf") for name in "ab"]
    with pytest.raises(ModelError, match=r"no room .*\(a 1 MB, b 1 MB and a reserve of 537 MB .* missing\); free some"):
        await yard.pull_all(*wanted)
    assert [file.ranges_asked for file in files] == [[], []]
    assert (await yard.pull_all(wanted[0]))[0].outcome == "fetched"  # one alone fits


async def test_downloads_run_side_by_side_but_not_all_at_once(server: ModelServer, yard: Yard) -> None:
    files = [server.put(f"/{number}.gguf", gguf(seed=number), hold_after=1000) for number in range(4)]
    wanted = [yard.wanted(f"m{number}", url=f"{server.url}/{number}.gguf") for number in range(4)]

    def two_are_here() -> None:
        with server.changed:
            assert server.changed.wait_for(lambda: server.busy == 2, 10)
            assert not server.changed.wait_for(lambda: server.busy > 2, 0.5)
        for file in files:
            file.released.set()

    results, _ = await asyncio.gather(yard.pull_all(*wanted), asyncio.to_thread(two_are_here))
    assert [result.outcome for result in results] == ["fetched"] * 4
    assert server.most_busy == 2


async def test_one_that_fails_does_not_hold_up_the_others(server: ModelServer, yard: Yard) -> None:
    server.put("/b.gguf", GGUF)
    wanted = [yard.wanted(name, url=f"{server.url}/{name}.gguf") for name in "ab"]
    results = await yard.pull_all(*wanted)
    assert [(result.name, result.outcome) for result in results] == [("a", "failed"), ("b", "fetched")]


async def test_two_pulls_of_one_model_do_the_work_once(server: ModelServer, yard: Yard) -> None:
    file = server.put("/m.gguf", GGUF, hold_after=300_000)
    source = {"url": f"{server.url}/m.gguf", "sha256": sha256(GGUF)}
    first = asyncio.create_task(yard.pull("llama", **source))
    second_yard = Yard(yard.folder)
    async with asyncio.timeout(20):
        while server.busy == 0:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(second_yard.pull("llama", **source))
        while "waiting for another process" not in second_yard.told.text:
            await asyncio.sleep(0.01)
        file.released.set()
        assert ((await first).outcome, (await second).outcome) == ("fetched", "found")
    assert file.ranges_asked == [None]


async def test_two_models_of_one_source_are_one_download_and_one_file(server: ModelServer, yard: Yard) -> None:
    file = server.put("/m.gguf", GGUF)
    source = {"url": f"{server.url}/m.gguf"}
    wanted = (yard.wanted("wide", **source), yard.wanted("narrow", **source, sha256=sha256(GGUF)))
    results = await yard.pull_all(*wanted)
    assert sorted(result.outcome for result in results) == ["fetched", "found"]
    assert yard.bytes_of("wide") == yard.bytes_of("narrow") == GGUF
    assert (yard.folder / "wide.gguf").samefile(yard.folder / "narrow.gguf")
    assert file.ranges_asked == [None]
    assert yard.names() == {f"{name}.gguf{kind}" for name in ("wide", "narrow") for kind in ("", ".json")}

    new = gguf(seed=2)
    server.put("/m.gguf", new)
    again = await yard.pull("narrow", **source, sha256=sha256(new))  # the other one's must not change with it
    assert (again.outcome, yard.bytes_of("narrow"), yard.bytes_of("wide")) == ("fetched", new, GGUF)


async def test_a_full_disk_is_one_clear_line_and_keeps_the_part(
    server: ModelServer, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("/m.gguf", GGUF)

    def full(_part: Part, _piece: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Part, "write", full)
    result = await yard.pull("llama", url=f"{server.url}/m.gguf")
    assert "no room on the disk" in str(result.error)
    assert (yard.folder / "llama.gguf.part").exists()


async def test_a_path_is_looked_at_but_never_copied(server: ModelServer, yard: Yard) -> None:
    own = yard.folder.parent / "own.gguf"
    missing = await yard.pull("llama", path="own.gguf")  # relative to the farm file
    assert f"{own} is not there; put the GGUF there" in str(missing.error)
    own.write_bytes(GGUF)
    right = await yard.pull("llama", path="own.gguf", sha256=sha256(GGUF))
    assert (right.outcome, right.path, right.checked) == ("found", own, True)
    wrong = await yard.pull("llama", path="own.gguf", sha256="0" * 64)
    assert "SHA-256 is not the expected one" in str(wrong.error)
    own.write_bytes(b"text")
    assert "is no GGUF file" in str((await yard.pull("llama", path="own.gguf")).error)
    assert not (yard.folder / "llama.gguf").exists()


async def test_a_packaged_model_is_made_ready(yard: Yard) -> None:
    result = await yard.pull("small", package="smollm2-135m-instruct")
    assert (result.outcome, result.checked) == ("found", True)
    assert result.path is not None
    assert result.path.read_bytes()[:4] == b"GGUF"


async def test_nothing_listens_there(yard: Yard) -> None:
    how = {"patience": Patience(attempts=1)}
    result = await yard.pull("llama", url=f"http://127.0.0.1:{free_port()}/m.gguf", how=how)
    assert "cannot connect" in str(result.error)


async def _leave_part(server: ModelServer, yard: Yard, size: int) -> None:
    """Pull until so many bytes are there, and stop as Ctrl-C does."""
    file = server.put("/m.gguf", GGUF, hold_after=size)
    task = asyncio.create_task(yard.pull("llama", url=f"{server.url}/m.gguf", sha256=sha256(GGUF)))
    seen = asyncio.Event()
    yard.told.listeners.append(lambda _name, done: seen.set() if done >= size else None)
    async with asyncio.timeout(20):
        await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    file.released.set()
    assert (yard.folder / "llama.gguf.part").stat().st_size == size
