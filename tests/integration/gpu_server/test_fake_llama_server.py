"""The fake llama-server answers as the real one does, so that what is proven with it holds for the real one too."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from support.fake_llama import SCRIPT
from support.gpu_servers import environment, smollm2
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

HI = [{"role": "user", "content": "Hi"}]
GENERATIONS = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 3, "ignore_eos": True},
    "/v1/completions": {"prompt": "Once", "max_tokens": 3, "ignore_eos": True},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 3, "ignore_eos": True},
    "/v1/messages": {"messages": HI, "max_tokens": 3, "ignore_eos": True},
}
HEADERS = ("content-type", "transfer-encoding", "x-accel-buffering")


@contextmanager
def started(command: list[str], log: Path, *flags: str) -> Iterator[httpx.Client]:
    """Run a llama-server as the wrapper does, until it is ready."""
    port = free_port()
    argv = [*command, "--host", "127.0.0.1", "--port", str(port), "--alias", "chat", "--ctx-size", "1024"]
    argv += ["--parallel", "2", "--metrics", "--slots", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment(), stdout=output, stderr=subprocess.STDOUT)
    try:
        # A connection each: one that is kept is closed by llama-server after 5 s, perhaps as it is used again.
        alone = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, limits=alone) as client:
            wait_until(lambda: client.get("/health").status_code == 200, 60, f"{command}; see {log}")
            yield client
    finally:
        process.kill()
        process.wait(10)


class Pair:
    """The real llama-server and the fake, asked the same."""

    def __init__(self, real: httpx.Client, fake: httpx.Client) -> None:
        self.real = real
        self.fake = fake

    def ask(self, method: str, path: str, body: object = None) -> tuple[httpx.Response, httpx.Response]:
        sent = {} if body is None else {"json": body}
        return self.real.request(method, path, **sent), self.fake.request(method, path, **sent)


def pair_of(directory: Path, *flags: str) -> Iterator[Pair]:
    model = ["--model", str(smollm2())]
    real = [sys.executable, "-m", "gpu_server.embedded", "--threads", "1", "--n-gpu-layers", "0", *model]
    fake = [sys.executable, str(SCRIPT), "--control", str(free_port()), *model]
    with ExitStack() as both:
        yield Pair(
            both.enter_context(started(real, directory / "real", *flags)),
            both.enter_context(started(fake, directory / "fake", *flags)),
        )


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from pair_of(tmp_path_factory.mktemp("chat"), "--jinja")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from pair_of(tmp_path_factory.mktemp("embedding"), "--embedding", "--pooling", "mean")


def shape(value: object) -> object:
    """Return a JSON value with its leaves replaced by their kinds; a list by its first element's shape."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def events(answer: httpx.Response) -> list[object]:
    """Return a stream as (event's name, shape of its data), runs of the same one counted once."""
    assert answer.text.endswith("\n\n")
    found: list[object] = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        *names, data = block.split("\n")
        text = data.removeprefix("data: ")
        seen = (names, text if text == "[DONE]" else shape(json.loads(text)))
        if not found or found[-1] != seen:
            found.append(seen)
    return found


def same_frame(real: httpx.Response, fake: httpx.Response) -> None:
    """Assert the same status and the same headers, as far as they matter to the wrapper."""
    assert fake.status_code == real.status_code
    for name in HEADERS:
        assert str(fake.headers.get(name)).split(";")[0] == str(real.headers.get(name)).split(";")[0], name
    assert ("content-length" in fake.headers) == ("content-length" in real.headers)
    assert (fake.headers.get("connection") == "close") == (real.headers.get("connection") == "close")


@pytest.mark.parametrize("path", GENERATIONS)
def test_a_whole_answer_has_the_same_shape(chat: Pair, path: str) -> None:
    real, fake = chat.ask("POST", path, GENERATIONS[path])
    same_frame(real, fake)
    assert shape(fake.json()) == shape(real.json())


@pytest.mark.parametrize("extra", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "usage"])
@pytest.mark.parametrize("path", GENERATIONS)
def test_a_stream_has_the_same_events_in_the_same_order(chat: Pair, path: str, extra: dict[str, object]) -> None:
    real, fake = chat.ask("POST", path, {**GENERATIONS[path], "stream": True, **extra})
    same_frame(real, fake)
    assert events(fake) == events(real)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        ("POST", "/tokenize", {"content": "hello"}),
        ("POST", "/detokenize", {"tokens": [1, 2]}),
        ("POST", "/apply-template", {"messages": HI}),
        ("POST", "/v1/completions", {"max_tokens": 1}),  # a needed field is missing
        ("POST", "/v1/embeddings", {"input": "no embedding server"}),
        ("GET", "/nowhere", None),
    ],
)
def test_small_answers_and_refusals_have_the_same_shape(chat: Pair, method: str, path: str, body: object) -> None:
    real, fake = chat.ask(method, path, body)
    same_frame(real, fake)
    assert shape(fake.json()) == shape(real.json())


def test_embeddings_have_the_same_shape(embedding: Pair) -> None:
    real, fake = embedding.ask("POST", "/v1/embeddings", {"input": ["a cat", "a dog"]})
    same_frame(real, fake)
    assert shape(fake.json()) == shape(real.json())


def test_what_the_poller_reads_is_told_alike(chat: Pair) -> None:
    """The real one tells much more in /slots and /props; of the fake's fields none may be another than there."""
    chat.ask("POST", "/v1/completions", GENERATIONS["/v1/completions"])
    for path, read in (
        ("/slots", {"id", "n_ctx", "is_processing", "id_task", "n_prompt_tokens_processed", "next_token"}),
        ("/props", {"build_info"}),
    ):
        real, fake = chat.ask("GET", path)
        same_frame(real, fake)
        told, theirs = [
            [document for document in documents if path == "/props" or "id_task" in document]
            for documents in (_listed(fake.json()), _listed(real.json()))
        ]
        assert read <= told[0].keys()
        for key, value in told[0].items():
            assert shape(value) == shape(theirs[0][key]), key


def test_the_counters_have_the_same_names_and_types(chat: Pair) -> None:
    real, fake = chat.ask("GET", "/metrics")
    same_frame(real, fake)
    types = [line for line in fake.text.splitlines() if line.startswith("# TYPE")]
    assert types
    assert set(types) <= set(real.text.splitlines())


def _listed(documents: object) -> list[dict[str, object]]:
    return documents if isinstance(documents, list) else [documents]  # type: ignore[list-item]  # JSON is untyped
