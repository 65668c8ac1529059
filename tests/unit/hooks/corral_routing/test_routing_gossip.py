import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral_routing.gossip import Gossip, packed, unpacked
from corral_routing.prompts import Prompt
from support.routing import Farm, chat, prompt, status
from support.waiting import wait_until_async

HOOKS = Path(__file__).parents[4] / "litellm" / "hooks"
OTHER_WORKER = """
import asyncio, sys
from pathlib import Path
from corral_routing.gossip import Gossip
from corral_routing.prompts import prompt_of

async def main():
    gossip = Gossip(Path(sys.argv[1]), lambda *_: None, lambda *_: None)
    listening = asyncio.create_task(gossip.run())
    prompt = prompt_of({}, [{"role": "user", "content": "told by another"}])
    while True:
        gossip.tell("chat-1", prompt)
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
    for forgotten in (False, True):
        message = packed("chat-1", one, forgotten=forgotten)
        assert message is not None
        assert unpacked(message) == ("chat-1", one, forgotten)


def test_a_message_holds_no_text() -> None:
    message = packed("chat-1", prompt([{"role": "user", "content": "a secret of some length"}]))
    assert message is not None
    assert b"secret" not in message


def test_a_prompt_too_long_to_tell_is_kept_to_oneself() -> None:
    assert packed("chat-1", Prompt((1,) * 2000, (1,) * 2000, 1)) is None


@pytest.mark.parametrize("cut", [0, 1, 5, 13, 14, 20, -1])
def test_what_is_no_message_is_dropped(cut: int) -> None:
    message = packed("chat-1", prompt(chat("a")))
    assert message is not None
    assert unpacked(message[:cut]) is None
    assert unpacked(b"\xff" + message[1:]) is None
    assert unpacked(message + b"x") is None


async def test_a_worker_hears_of_another_process(tmp_path: Path) -> None:
    heard: list[Any] = []
    folder = tmp_path / "workers"
    async with listening(Gossip(folder, lambda *told: heard.append(told), lambda *_: None)):
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER_WORKER, str(folder), env={**os.environ, "PYTHONPATH": str(HOOKS)}
        )
        try:
            await wait_until_async(lambda: asyncio.sleep(0, bool(heard)), 20, "the other worker's word")
        finally:
            other.kill()
            await other.wait()
    assert heard[0] == ("chat-1", prompt([{"role": "user", "content": "told by another"}]))
    assert [path.stem for path in folder.glob("*.sock")] in ([], [str(other.pid)])


async def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    async with listening(Gossip(folder, lambda *_: None, lambda *_: None)) as task:
        with pytest.raises(PermissionError, match="alone"):
            await task


async def test_a_socket_left_by_a_killed_worker_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir(mode=0o700)
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    left = folder / f"{gone.pid}.sock"
    left.touch()
    async with listening(Gossip(folder, lambda *_: None, lambda *_: None)):
        await wait_until_async(lambda: asyncio.sleep(0, not left.exists()), 5, "the socket to be removed")


async def test_what_a_killed_proxy_left_is_removed_by_the_next(tmp_path: Path) -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    left, others, live = (tmp_path / f"corral-routing-0-{pid}" for pid in (gone.pid, "notes", os.getpid()))
    for folder in (left, others, live):
        folder.mkdir(mode=0o700)
        (folder / "1.sock").touch()
    async with listening(Gossip(tmp_path / f"corral-routing-0-{os.getppid()}", lambda *_: None, lambda *_: None)):
        await wait_until_async(lambda: asyncio.sleep(0, not left.exists()), 5, "the folder to be removed")
    assert (others / "1.sock").exists()
    assert (live / "1.sock").exists()


def test_a_worker_that_heard_of_a_chat_sends_its_next_turn_there() -> None:
    one, other = Farm(4, seed=1), Farm(4, seed=2)
    call, server = one.ask(chat("a", 1))
    one.answer(call)
    away = next(name for name in one.names if name != server)
    other.router.heard(away, prompt(chat("b", 1)), other.now)
    other.router.heard(server, prompt(chat("a", 1)), other.now)
    other.now += 3
    for name in other.names:
        other.report(name, status())
    assert other.ask(chat("b", 2))[1] == away
    assert other.ask(chat("a", 2))[1] == server
    other.router.unheard(server, prompt(chat("a", 2)))
    other.router.heard("unheard of", prompt(chat("a", 1)), other.now)
    assert "unheard of" not in other.router.servers


def test_what_others_sent_counts_until_the_server_reports() -> None:
    farm = Farm(2)
    for number in range(4):
        farm.router.heard("chat-1", prompt(chat(f"{number}")), farm.now)
    assert farm.router.servers["chat-1"].requests() == 4
    assert {farm.ask(chat(f"own {number}"))[1] for number in range(3)} == {"chat-2"}
    farm.now += 1
    farm.report("chat-1", status(busy=1))
    assert farm.router.servers["chat-1"].requests() == 1
