import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corral_routing.gossip import SEEK_S, Gossip, Kind, Told, packed, unpacked
from corral_routing.prompts import Prompt
from support.routing import Farm, chat, prompt, status
from support.waiting import wait_until_async

HOOKS = Path(__file__).parents[4] / "litellm" / "hooks"
OTHER_WORKER = """
import asyncio, sys
from pathlib import Path
from corral_routing.gossip import Gossip, Kind
from corral_routing.prompts import prompt_of

async def main():
    gossip = Gossip(Path(sys.argv[1]), lambda told: None)
    listening = asyncio.create_task(gossip.run())
    prompt = prompt_of({}, [{"role": "user", "content": "told by another"}])
    while True:
        gossip.tell(Kind.PICKED, "call", "chat-1", prompt)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


@asynccontextmanager
async def listening(gossip: Gossip) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(gossip.run())
    await asyncio.sleep(0)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_message_is_read_as_it_was_written() -> None:
    one = prompt(chat("a", 5))
    for kind, told in ((Kind.PICKED, one), (Kind.FORGOTTEN, one), (Kind.ANSWERED, None), (Kind.LEFT, None)):
        message = packed(kind, "call", "chat-1", told)
        assert message is not None
        read = unpacked(message)
        assert read is not None
        assert (read.kind, read.server, read.prompt) == (kind, "chat-1", told)


def test_all_that_is_told_of_a_request_names_it_alike_and_of_others_otherwise() -> None:
    one = prompt(chat("a"))
    told = [packed(Kind.PICKED, "call", "chat-1", one), packed(Kind.ANSWERED, "call", "chat-1"), packed(Kind.LEFT, "b")]
    first, second, other = [unpacked(message or b"") for message in told]
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.call == second.call != other.call


def test_a_message_holds_no_text() -> None:
    message = packed(Kind.PICKED, "call", "chat-1", prompt([{"role": "user", "content": "a secret of some length"}]))
    assert message is not None
    assert b"secret" not in message


def test_a_prompt_too_long_to_tell_is_kept_to_oneself() -> None:
    assert packed(Kind.PICKED, "call", "chat-1", Prompt((1,) * 2000, (1,) * 2000, 1)) is None


@pytest.mark.parametrize("cut", [0, 1, 5, 13, 14, 20, -1])
def test_what_is_no_message_is_dropped(cut: int) -> None:
    message = packed(Kind.PICKED, "call", "chat-1", prompt(chat("a")))
    assert message is not None
    assert unpacked(message[:cut]) is None
    assert unpacked(b"\xff" + message[1:]) is None
    assert unpacked(message + b"x") is None
    assert unpacked(message[:1] + bytes([Kind.ANSWERED]) + message[2:]) is None


async def test_a_worker_hears_of_another_process(tmp_path: Path) -> None:
    heard: list[Told] = []
    folder = tmp_path / "workers"
    async with listening(Gossip(folder, heard.append)):
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER_WORKER, str(folder), env={**os.environ, "PYTHONPATH": str(HOOKS)}
        )
        try:
            await wait_until_async(lambda: asyncio.sleep(0, bool(heard)), 20, "the other worker's word")
        finally:
            other.kill()
            await other.wait()
    assert heard[0].server == "chat-1"
    assert heard[0].prompt == prompt([{"role": "user", "content": "told by another"}])
    assert [path.stem for path in folder.glob("*.sock")] in ([], [str(other.pid)])


async def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    async with listening(Gossip(folder, lambda told: None)) as task:
        with pytest.raises(PermissionError, match="alone"):
            await task


async def test_a_socket_left_by_a_killed_worker_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir(mode=0o700)
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    left = folder / f"{gone.pid}.sock"
    left.touch()
    async with listening(Gossip(folder, lambda told: None)):
        await wait_until_async(lambda: asyncio.sleep(0, not left.exists()), 5, "the socket to be removed")


async def test_what_a_killed_proxy_left_is_removed_by_the_next(tmp_path: Path) -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    left, others, live = (tmp_path / f"corral-routing-0-{pid}" for pid in (gone.pid, "notes", os.getpid()))
    for folder in (left, others, live):
        folder.mkdir(mode=0o700)
        (folder / "1.sock").touch()
    async with listening(Gossip(tmp_path / f"corral-routing-0-{os.getppid()}", lambda told: None)):
        await wait_until_async(lambda: asyncio.sleep(0, not left.exists()), 5, "the folder to be removed")
    assert (others / "1.sock").exists()
    assert (live / "1.sock").exists()


def test_a_worker_that_heard_of_a_chat_sends_its_next_turn_there() -> None:
    one, other = Farm(4, seed=1), Farm(4, seed=2)
    call, server = one.ask(chat("a", 1))
    one.answer(call)
    away = next(name for name in one.names if name != server)
    other.router.heard("1", away, prompt(chat("b", 1)), other.now)
    other.router.heard("2", server, prompt(chat("a", 1)), other.now)
    other.now += 3
    for name in other.names:
        other.report(name, status())
    assert other.ask(chat("b", 2))[1] == away
    assert other.ask(chat("a", 2))[1] == server
    other.router.unheard("2", server, prompt(chat("a", 2)), other.now)
    other.router.heard("3", "unheard of", prompt(chat("a", 1)), other.now)
    assert "unheard of" not in other.router.servers


def test_what_others_sent_counts_until_the_server_reports() -> None:
    farm = Farm(2)
    for number in range(4):
        farm.router.heard(f"{number}", "chat-1", prompt(chat(f"{number}")), farm.now)
    assert farm.router.servers["chat-1"].requests() == 4
    assert {farm.ask(chat(f"own {number}"))[1] for number in range(3)} == {"chat-2"}
    farm.now += 1
    farm.report("chat-1", status(busy=1))
    assert farm.router.servers["chat-1"].requests() == 1


def test_a_chat_stays_where_another_worker_answered_its_last_turn_a_moment_ago() -> None:
    """The server that has it is slow, by what it measured, so that what seems left to read there weighs most."""
    one, other = Farm(2, seed=1), Farm(2, seed=2)
    for farm in (one, other):
        farm.report("chat-1", status(slots=2, prefill_rate=60.0))
        farm.report("chat-2", status(slots=2, prefill_rate=130.0))
    first = prompt(chat("a", 1))
    one.router.pick("1", ["chat-1"], first, one.now)
    other.router.heard("1", "chat-1", first, other.now)
    other.now += 1
    other.router.heard_end("1", "chat-1", other.now, answered=True)
    assert other.router.servers["chat-1"].requests() == 0
    assert other.ask(chat("a", 2))[1] == "chat-1"


def test_a_stream_of_another_worker_is_over_first_and_answered_when_its_event_comes() -> None:
    farm = Farm(2)
    cache, first, second = farm.router.caches["chat-1"], prompt(chat("a", 1)), prompt(chat("a", 2))
    farm.router.heard("1", "chat-1", first, farm.now)
    assert cache.match(prompt(chat("b", 1))).depth == 0
    farm.router.heard_end("1", "chat-1", farm.now, answered=False)
    assert cache.match(prompt(chat("b", 1))).depth == 1
    assert cache.match(second).depth == 2
    farm.router.heard_end("1", "chat-1", farm.now, answered=True)
    assert cache.match(second).depth == 3  # with the answer


def test_what_another_worker_gave_up_counts_no_more() -> None:
    farm = Farm(2)
    farm.router.heard("1", "chat-1", prompt(chat("a")), farm.now)
    farm.router.heard("2", "chat-1", prompt(chat("b")), farm.now)
    farm.router.heard_end("1", "chat-1", farm.now, answered=False)
    farm.router.heard_end("1", "unheard of", farm.now, answered=False)
    farm.router.unheard("2", "chat-1", prompt(chat("b")), farm.now)
    assert farm.router.servers["chat-1"].requests() == 0
    assert farm.router.caches["chat-1"].tokens > 0
    farm.router.unheard("1", "chat-1", prompt(chat("a")), farm.now)
    assert farm.router.caches["chat-1"].tokens == 0


async def test_a_worker_that_begins_to_listen_is_told_the_next_pick(tmp_path: Path) -> None:
    """Not only what is picked once the others look again, seconds later: by then a chat's first turn is lost."""
    folder, heard = tmp_path / "workers", list[Told]()
    first, second = Gossip(folder, lambda told: None), Gossip(folder, heard.append)
    first._own, second._own = folder / f"{os.getpid()}.sock", folder / f"{os.getppid()}.sock"
    async with listening(first), listening(second):
        await wait_until_async(
            lambda: asyncio.sleep(0, bool(first._others)), SEEK_S / 2, "the first to know the second"
        )
        first.tell(Kind.PICKED, "1", "chat-1", prompt(chat("a")))
        await wait_until_async(lambda: asyncio.sleep(0, bool(heard)), 20, "the second to hear of the pick")
