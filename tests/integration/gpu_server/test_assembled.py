"""Answers that the relay puts together from streams are llama-server's own, and clients that leave free their slots."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.gpu_servers import KEY, GpuServer, chat
from support.waiting import wait_until

pytestmark = pytest.mark.integration

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "maximum": 99}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
CHATS: dict[str, dict[str, object]] = {
    "plain": {},
    "stream: false": {"stream": False, "stream_options": None},
    "n=2": {"n": 2},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "logprobs after sampling": {"logprobs": True, "top_logprobs": 2, "post_sampling_probs": True},
    "stop word": {"stop": [" to", "e"]},
    "stop word that comes late, logprobs": {"stop": ["help you"], "logprobs": True, "max_tokens": 30},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "max_tokens": 60},
    "tools": {"tools": [TOOL], "tool_choice": "auto", "max_tokens": 30},
    "empty": {"grammar": 'root ::= ""'},
    "not ASCII, escapes": {"grammar": 'root ::= "ä€ \\"\\\\ 😀\\n\\x7f"', "max_tokens": 40},
    "one token": {"max_tokens": 1},
    "timings a token": {"timings_per_token": True},
    "verbose": {"verbose": True},
    "too long": {"messages": [{"role": "user", "content": "word " * 6000}]},
    "n too large": {"n": 9},
    "wrong type": {"messages": 3},
    "wrong grammar": {"grammar": "root :="},
    "temperature of text": {"temperature": "hot"},
}
TEXTS: dict[str, dict[str, object]] = {
    "plain": {},
    "n=2": {"n": 2},
    "logprobs": {"logprobs": 2},
    "stop word": {"stop": ["the"], "max_tokens": 40},
    "two prompts": {"prompt": ["Once", "Twice upon a"]},
    "tokens": {"prompt": [1, 2, 3]},
    "no token": {"max_tokens": 0},
    "no prompt": {"prompt": None},
}


@pytest.fixture(scope="module")
def direct(server: GpuServer) -> Iterator[httpx.Client]:
    """A client of the llama-server behind `server`, past the wrapper."""
    with httpx.Client(base_url=f"http://127.0.0.1:{upstream_port(server)}", timeout=60, trust_env=False) as client:
        yield client


def upstream_port(server: GpuServer) -> int:
    arguments = server.child().cmdline()
    return int(arguments[arguments.index("--port") + 1])


def but_for_chance(text: str) -> str:
    """Blank out ids, times and what they make of speeds; field names and their order stay."""
    text = re.sub(r'"id":"chatcmpl-[^"]*"', '"id":""', text)
    text = re.sub(r'"created":\d+', '"created":0', text)
    text = re.sub(r'"(t_\w+|\w+_ms|\w+_per_second)":[-\d.e+]+', r'"\1":0', text)
    return re.sub(r'"id_slot":\d+', '"id_slot":0', text)


def check_same(server: GpuServer, direct: httpx.Client, path: str, body: dict[str, object]) -> None:
    relayed = server.client.post(path, json=body)
    original = direct.post(path, json=body)
    assert relayed.status_code == original.status_code
    assert relayed.headers["content-type"].startswith("application/json")
    if original.status_code == 200:
        assert relayed.headers["content-type"] == original.headers["content-type"]
        assert but_for_chance(relayed.text) == but_for_chance(original.text)
    else:
        assert relayed.json()["error"]["message"] == original.json()["error"]["message"]


@pytest.mark.parametrize("case", CHATS)
def test_a_chat_is_what_llama_server_would_have_answered(server: GpuServer, direct: httpx.Client, case: str) -> None:
    check_same(server, direct, "/v1/chat/completions", {**chat("Say hello."), "cache_prompt": False, **CHATS[case]})


@pytest.mark.parametrize("case", TEXTS)
def test_a_completion_is_what_llama_server_would_have_answered(
    server: GpuServer, direct: httpx.Client, case: str
) -> None:
    body = {"prompt": "Once upon", "max_tokens": 8, "temperature": 0, "seed": 1, "cache_prompt": False, **TEXTS[case]}
    check_same(server, direct, "/v1/completions", body)


@pytest.fixture(scope="module")
def small_batches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A server that handles 64 prompt tokens at a time: work can be dropped between batches only."""
    with GpuServer(tmp_path_factory.mktemp("small") / "log", N_BATCH=64, N_UBATCH=64) as server:
        yield server.ready()


STREAMS: list[tuple[str, dict[str, object]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 150}]}),
    ("/v1/completions", {"prompt": "word " * 150}),
    ("/v1/completions", {"prompt": ["Once", "word " * 150]}),
]


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_the_prompts_progress_is_not_seen_in_a_stream(
    small_batches: GpuServer, path: str, body: dict[str, object]
) -> None:
    body = {**body, "max_tokens": 4, "temperature": 0, "stream": True, "cache_prompt": False}

    def events(client: httpx.Client) -> list[str]:
        return sorted(but_for_chance(client.post(path, json=body).text).split("\n\n"))  # two prompts come mixed

    relayed = events(small_batches.client)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{upstream_port(small_batches)}", timeout=60, trust_env=False
    ) as direct:
        assert relayed == events(direct)
    assert len(relayed) >= 4


@pytest.mark.parametrize("body", [b'{"messages":[]}}', b"{} {}", b'{"messages":[1,}'])
def test_a_broken_body_gets_llama_servers_own_words(server: GpuServer, direct: httpx.Client, body: bytes) -> None:
    relayed = server.client.post("/v1/chat/completions", content=body)
    original = direct.post("/v1/chat/completions", content=body)
    assert (relayed.status_code, original.status_code) == (400, original.status_code)
    assert relayed.json()["error"]["message"] == original.json()["error"]["message"]


REASONING_TEMPLATE = """{%- for message in messages %}{%- if message.role == "assistant" %}<|im_start|>assistant
{%- if message.reasoning_content %}
<think>
{{ message.reasoning_content }}
</think>
{% endif %}
{{ message.content }}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_reasoning_is_kept_apart(tmp_path: Path) -> None:
    arguments = f"--chat-template '{REASONING_TEMPLATE}'"
    with GpuServer(tmp_path / "log", EXTRA_ARGS=arguments) as server:
        port = upstream_port(server.ready())
        grammar = 'root ::= "<think>\\nhm\\n</think>\\n\\nhello"'
        body = {**chat(max_tokens=40), "grammar": grammar, "cache_prompt": False}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as direct:
            check_same(server, direct, "/v1/chat/completions", body)
            assert server.client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"][
                "reasoning_content"
            ]


def leave(server: GpuServer, path: str, body: dict[str, object], when: str) -> float:
    """Ask, leave in prefill or in decode, and return after how many seconds llama-server's slot was idle."""
    text = json.dumps(body)
    request = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(text)}\r\n\r\n{text}"
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{upstream_port(server)}", trust_env=False) as direct:

        def working() -> list[dict[str, object]]:
            return [slot for slot in direct.get("/slots").json() if slot["is_processing"]]

        def decoding() -> bool:
            return any(slot["next_token"][0]["n_decoded"] > 3 for slot in working())  # type: ignore[index]

        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(request.encode())
            wait_until(decoding if when == "decode" else working, 20, f"the slot in {when}", interval_s=0.01)
            if when == "prefill":
                assert not decoding()
            before = cancelled(server)
        left = time.monotonic()
        # Asking /slots now would put off what is to be seen: a question answered makes llama-server look later.
        wait_until(lambda: cancelled(server) > before, 5, "llama-server to drop the work", interval_s=0.01)
        idle_s = time.monotonic() - left
        wait_until(lambda: not working(), 1, "the slot to be idle")
    wait_until(lambda: server.status()["busy"] == 0, 1, "the wrapper's own slot")
    return idle_s


def cancelled(server: GpuServer) -> int:
    return server.log.read_text().count("cancel task")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["prefill", "decode"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_slot_is_idle_within_a_second_after_its_client_left(
    small_batches: GpuServer, path: str, when: str, stream: bool
) -> None:
    words = " ".join(f"{when}{number}{stream}" for number in range(250 if when == "prefill" else 1))
    body: dict[str, object] = {"max_tokens": 800, "ignore_eos": True, "stream": stream, "cache_prompt": False}
    body |= {"prompt": words} if path == "/v1/completions" else {"messages": [{"role": "user", "content": words}]}
    assert leave(small_batches, path, body, when) < 1
    assert small_batches.metric('gpu_server_requests_total{outcome="client_gone"}') > 0
