import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_routing.prompts import BLOCK_CHARS, MEDIA_CHARS, MOST_BLOCKS, MOST_NODES, Prompt, prompt_of
from support.routing import chat, prompt

HOOKS = Path(__file__).parents[4] / "litellm" / "hooks"


def shared(one: Prompt, other: Prompt) -> int:
    return sum(a == b for a, b in zip(one.nodes, other.nodes, strict=False))


def test_a_conversation_that_goes_on_keeps_its_chain() -> None:
    before, after = prompt(chat("a", 2)), prompt(chat("a", 3))
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert after.chars[: len(before.chars)] == before.chars
    assert before.anchor == after.anchor


def test_conversations_share_their_system_prompt_and_no_more() -> None:
    assert shared(prompt(chat("a", 3)), prompt(chat("b", 3))) == 1


def test_the_same_message_later_is_another_prefix() -> None:
    one = prompt([{"role": "user", "content": "x"}, {"role": "user", "content": "x"}])
    assert len(set(one.nodes)) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"role": "assistant"}, {"content": "hi "}, {"content": [{"type": "text", "text": "ho"}]}, {"content": None},
        {"tool_calls": [{"id": "1"}]}, {"name": "n"},
    ],
)  # fmt: skip
def test_what_the_model_would_read_otherwise_is_another_prompt(changed: dict[str, Any]) -> None:
    message = {"role": "user", "content": "hi"}
    assert prompt([message]).nodes != prompt([message | changed]).nodes


def test_tools_come_first() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    plain, armed = prompt_of({}, chat("a")), prompt_of({"tools": tools}, chat("a"))
    assert plain is not None
    assert armed is not None
    assert shared(plain, armed) == 0


def test_long_documents_share_the_blocks_that_begin_alike() -> None:
    text = "lorem ipsum " * 2000
    one = prompt([{"role": "user", "content": text + "a?"}])
    other = prompt([{"role": "user", "content": text + "b?"}])
    assert shared(one, other) == len(text) // BLOCK_CHARS == len(one.nodes) - 1


def test_a_prompt_of_2_mib_and_one_of_100_000_messages_stay_small() -> None:
    assert len(prompt([{"role": "user", "content": "x" * 2**21}]).nodes) == MOST_BLOCKS
    assert prompt([{"role": "user", "content": "x" * 2**21}]).chars[-1] >= 2**21
    assert len(prompt([{"role": "user", "content": "x"}] * 100_000).nodes) == MOST_NODES


def test_an_image_counts_by_what_it_costs_and_not_by_its_encoding() -> None:
    def asking(data: str) -> Prompt:
        parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": data}}]
        return prompt([{"role": "user", "content": parts}])  # type: ignore[dict-item]

    one, other = asking("data:image/png;base64," + "A" * 10**6), asking("data:image/png;base64," + "B" * 10**6)
    assert one.chars[-1] < MEDIA_CHARS + 100
    assert one.nodes != other.nodes


@pytest.mark.parametrize(
    ("request_", "nodes"),
    [
        ({"prompt": "once upon a time"}, 1),
        ({"input": "hello", "instructions": "be brief"}, 2),
        ({"input": [{"role": "user", "content": "hello"}]}, 1),
        ({"system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content": "x"}]}, 2),
        ({"prompt": ["a", "b"]}, 2),
    ],
)
def test_each_kind_of_request_has_a_chain(request_: dict[str, Any], nodes: int) -> None:
    found = prompt_of(request_)
    assert found is not None
    assert len(found.nodes) == nodes


@pytest.mark.parametrize(
    "messages",
    [[], None, "", [None], [7], [{}], [{"role": None, "content": 5}], [{"content": [None, 7, {}]}], ["\ud800"],
     [{"role": "user", "content": "\udfff"}], [{"role": "user", "tool_calls": {1: object()}}], 7, {"a": 1}],
)  # fmt: skip
def test_nothing_a_client_sends_raises(messages: Any) -> None:
    prompt_of({"messages": messages})
    prompt_of({}, messages)


def test_another_process_gives_the_same_digests() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from corral_routing.prompts import prompt_of;"
        "print(prompt_of({}, [{'role': 'user', 'content': 'hi'}]).nodes[0])"
    )
    said = subprocess.run([sys.executable, "-c", script, HOOKS], capture_output=True, text=True, check=True, timeout=60)
    assert int(said.stdout) == prompt([{"role": "user", "content": "hi"}]).nodes[0]
