"""What an owner's workload may say, and what is sent for it."""

import json
import random
from pathlib import Path

import pytest

from corral.capacity.workload import request_for
from corral.errors import CorralError
from corral.loadtest.workload import read
from corral.render.k6 import ModelTarget

CHAT: ModelTarget = {
    "name": "chat", "mode": "chat", "context": 4096, "servers": ["chat-1"], "slots": 2,
    "objectives": {"ttft_p95_s": 5, "duration_p95_s": None, "error_share": 0.01},
}  # fmt: skip


def written(folder: Path, document: object) -> Path:
    path = folder / "mine.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_file_of_the_owners_says_only_what_differs(tmp_path: Path) -> None:
    shipped = read(None)
    own = read(written(tmp_path, {"answer_tokens": {"median": 100, "sigma": 0}, "embedding_batch": 4}))
    assert (own.answer_tokens.median, own.answer_tokens.least) == (100, shipped.answer_tokens.least)
    assert own.embedding_batch == 4
    assert own.prompt_words == shipped.prompt_words
    chance = random.Random(1)
    assert {request_for(CHAT, own, chance).body["max_tokens"] for _ in range(20)} == {100}
    assert len({request_for(CHAT, shipped, chance).body["max_tokens"] for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "cannot be read as a workload"),
        ([1], "holds a list"),
        ({"answer_tokens": {"median": -1}}, "answer_tokens.median: input should be greater than 0"),
        ({"answer_token": {"median": 1}}, "answer_token: extra inputs are not permitted"),
        ({"embedding_batch": "many"}, "embedding_batch: input should be a valid integer"),
        ({"words": []}, "words: list should have at least 1 item"),
    ],
)
def test_what_cannot_be_sent_is_named(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(CorralError, match=said) as raised:
        read(written(tmp_path, document))
    assert raised.value.exit_code == 2
    assert "mine.json" in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="cannot be read as a workload"):
        read(tmp_path / "none.json")
