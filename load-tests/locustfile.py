"""The mixture of mixed.js for those who use Locust: streamed chats, whole chats, vectors, by the same workload.json.

    locust -f load-tests/locustfile.py --headless --users 4 --spawn-rate 1 --run-time 60s

TARGETS names the targets.json (as `corral render` writes it; default load-tests/targets.json), WORKLOAD a file in the
place of workload.json, API_KEY a key, SEED the draw. Locust's response time of a streamed chat is that of the whole
answer; a row `TTFT` has the time to the first piece of text. Shows what users of a well filled farm see; where TTFT is
too long, see `corral capacity`.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from locust import HttpUser, events, task

HERE = Path(__file__).parent
WORKLOAD = json.loads(Path(os.environ.get("WORKLOAD", HERE / "workload.json")).read_text(encoding="utf-8"))
SEED = int(os.environ.get("SEED", "1"))


def read_targets() -> dict[str, Any]:
    """Return the targets; ends Locust with a message where there are none."""
    path = Path(os.environ.get("TARGETS", HERE / "targets.json"))
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        sys.exit(f"{path} cannot be read ({error}); write it: corral render")


TARGETS = read_targets()
CHATS = [model for model in TARGETS["models"] if model["mode"] == "chat"]
EMBEDDERS = [model for model in TARGETS["models"] if model["mode"] == "embedding"]
SHARES = WORKLOAD["shares"]
_chance = random.Random(SEED)


def length(distribution: dict[str, float], most: int) -> int:
    """Draw a log-normal length, cut at the distribution's least and `most`."""
    drawn = round(distribution["median"] * _chance.lognormvariate(0, distribution["sigma"]))
    return int(max(distribution["least"], min(most, drawn)))


def words(count: int) -> str:
    """Draw so many words."""
    return " ".join(_chance.choices(WORKLOAD["words"], k=count))


def chat(model: dict[str, Any]) -> dict[str, Any]:
    """Draw a chat that fits the model's context."""
    share = WORKLOAD["context_share"]
    prompt = words(length(WORKLOAD["prompt_words"], int(model["context"] * share["prompt"])))
    return {
        "model": model["name"],
        "messages": [{"role": "user", "content": f"Tell a story with these words: {prompt}"}],
        "max_tokens": length(WORKLOAD["answer_tokens"], int(model["context"] * share["answer"])),
    }


@events.init.add_listener
def check(**_: object) -> None:
    """Refuse to start where nothing could be asked."""
    if not (CHATS or EMBEDDERS):
        sys.exit("the targets have neither a chat nor an embedding model")
    if not os.environ.get("API_KEY"):
        sys.exit("API_KEY is not set; make a key: corral keys create")


class Person(HttpUser):
    """Asks, reads, asks again."""

    host = TARGETS["gate"]

    def wait_time(self) -> float:
        """Return the seconds until the next request."""
        think = WORKLOAD["think_time_s"]
        return _chance.uniform(think["least"], think["most"])

    def on_start(self) -> None:
        """Use the farm's key, and no proxy server for the web."""
        self.client.trust_env = False
        self.client.headers["Authorization"] = f"Bearer {os.environ['API_KEY']}"

    @task(round(100 * SHARES["chat_stream"]) if CHATS else 0)
    def streamed(self) -> None:
        """Ask for a streamed chat, and note when its first piece of text came."""
        body = {**chat(_chance.choice(CHATS)), "stream": True}
        began = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions", json=body, stream=True, name="chat, streamed", catch_response=True
        ) as answer:
            first, done, broke = None, False, answer.status_code != 200
            for line in answer.iter_lines():
                if first is None and b'"content":' in line and b'"content":""' not in line and b":null" not in line:
                    first = time.perf_counter() - began
                done, broke = done or line == b"data: [DONE]", broke or b'"error":' in line
            if broke or not done:
                answer.failure(f"status {answer.status_code}, the stream broke")
        if first is not None:
            events.request.fire(
                request_type="SSE",
                name="TTFT",
                response_time=first * 1000,
                response_length=0,
                exception=None,
                context={},
            )

    @task(round(100 * SHARES["chat_whole"]) if CHATS else 0)
    def whole(self) -> None:
        """Ask for a chat in one piece."""
        self.client.post("/v1/chat/completions", json=chat(_chance.choice(CHATS)), name="chat, whole")

    @task(round(100 * SHARES["embedding"]) if EMBEDDERS else 0)
    def vectors(self) -> None:
        """Ask for a batch of vectors."""
        model = _chance.choice(EMBEDDERS)
        most = int(model["context"] * WORKLOAD["context_share"]["prompt"])
        texts = [words(length(WORKLOAD["embedding_words"], most)) for _ in range(WORKLOAD["embedding_batch"])]
        self.client.post("/v1/embeddings", json={"model": model["name"], "input": texts}, name="vectors")
