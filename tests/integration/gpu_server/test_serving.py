"""What a client gets from a gpu-server on a real llama-server."""

import json
import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from support.gpu_servers import GpuServer, chat
from support.waiting import wait_until

pytestmark = pytest.mark.integration


def direct(server: GpuServer) -> httpx.Client:
    """Return a client of the llama-server behind `server`, past the wrapper."""
    arguments = server.child().cmdline()
    port = arguments[arguments.index("--port") + 1]
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)


def same_but_for_chance(body: str) -> str:
    """Blank out what differs between two equal answers: ids, times, and what the prompt cache held."""
    body = re.sub(r'"(id)":"[^"]*"', r'"\1":""', body)
    body = re.sub(r'"created":\d+', '"created":0', body)
    return re.sub(r'"timings":\{[^}]*\}', '"timings":{}', body)


def test_a_chat_is_answered_with_the_load_in_its_headers(server: GpuServer) -> None:
    answer = server.client.post("/v1/chat/completions", json=chat(), headers={"x-request-id": "job-7"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"]["content"].strip()
    assert body["model"] == "chat"
    assert body["usage"]["completion_tokens"] > 0
    assert answer.headers["x-corral-server"] == f"chat-{server.port}"
    assert answer.headers["x-corral-busy"] == "1"
    assert answer.headers["x-corral-queued"] == "0"
    assert answer.headers["x-corral-slots"] == "2"
    assert answer.headers["x-request-id"] == "job-7"


def test_a_stream_is_byte_for_byte_what_llama_server_sends(server: GpuServer) -> None:
    request = chat("Count to five.", stream=True, stream_options={"include_usage": True}, cache_prompt=False)
    relayed = server.client.post("/v1/chat/completions", json=request)
    with direct(server) as client:
        original = client.post("/v1/chat/completions", json=request)
    assert relayed.headers["content-type"] == original.headers["content-type"] == "text/event-stream"
    assert same_but_for_chance(relayed.text) == same_but_for_chance(original.text)
    assert relayed.content.endswith(b"data: [DONE]\n\n")
    assert relayed.text.count("data: ") > 8


def test_a_whole_answer_is_byte_for_byte_what_llama_server_sends(server: GpuServer) -> None:
    request = chat("Name a colour.", cache_prompt=False)
    relayed = server.client.post("/v1/chat/completions", json=request)
    with direct(server) as client:
        original = client.post("/v1/chat/completions", json=request)
    assert same_but_for_chance(relayed.text) == same_but_for_chance(original.text)


def test_the_first_token_comes_long_before_the_last(server: GpuServer) -> None:
    request = chat("Tell a story.", stream=True, max_tokens=100, ignore_eos=True)
    with server.client.stream("POST", "/v1/chat/completions", json=request) as answer:
        events = answer.iter_lines()
        next(events)
        assert server.status()["busy"] == 1  # it still works on the rest
        assert sum(1 for line in events if line.startswith("data:")) >= 100


@pytest.mark.parametrize(
    ("path", "body", "has"),
    [
        ("/v1/completions", {"prompt": "Once", "max_tokens": 4}, "choices"),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 4}, "output"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}, "content"),
        ("/tokenize", {"content": "hello"}, "tokens"),
        ("/detokenize", {"tokens": [1, 2]}, "content"),
        ("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}, "prompt"),
    ],
)
def test_the_other_routes_of_a_chat_server_answer(server: GpuServer, path: str, body: object, has: str) -> None:
    answer = server.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert has in answer.json()


def test_the_model_is_listed_under_its_alias(server: GpuServer) -> None:
    assert [model["id"] for model in server.client.get("/v1/models").json()["data"]] == ["chat"]


@pytest.mark.parametrize(
    "path", ["/slots", "/props", "/lora-adapters", "/models/load", "/cors-proxy", "/tools", "/infill"]
)
def test_nothing_else_of_llama_server_can_be_reached(server: GpuServer, path: str) -> None:
    for method in ("GET", "POST"):
        answer = server.client.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_a_path_is_not_talked_into_another_one(server: GpuServer) -> None:
    for path in ("/v1/models/../../slots", "/v1//models", "/v1/models%2f..%2f..%2fslots", "/v1/chat/completions/"):
        with httpx.Client(trust_env=False) as client:
            request = client.build_request("GET", f"http://127.0.0.1:{server.port}", headers=server.client.headers)
            request.url = request.url.copy_with(raw_path=path.encode())
            assert client.send(request).status_code == 404, path


def test_a_route_of_another_mode_says_which_mode_serves_it(server: GpuServer) -> None:
    answer = server.client.post("/v1/embeddings", json={"input": "hi"})
    assert answer.status_code == 404
    assert "MODE=embedding" in answer.json()["error"]["message"]


def test_a_wrong_method_is_refused(server: GpuServer) -> None:
    answer = server.client.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Bearer sk-test2", "Basic sk-test", "sk-test"])
@pytest.mark.parametrize("path", ["/v1/models", "/status", "/logs", "/openapi.json", "/nowhere"])
def test_without_the_key_nothing_is_told(server: GpuServer, header: str, path: str) -> None:
    answer = server.client.get(path, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_health_and_metrics_need_no_key(server: GpuServer) -> None:
    for path in ("/health", "/metrics"):
        assert httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b'{"messages":', b"\x00", b"\xff\xfe{}", b'{"messages": 3}', b'{"max_tokens": "x"}'],
)
def test_a_bad_body_is_a_400_in_openais_shape(server: GpuServer, body: bytes) -> None:
    answer = server.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-corral-server"]


def test_a_remote_picture_is_not_fetched(server: GpuServer) -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/secret.png"}}
    body = json.dumps({"messages": [{"role": "user", "content": [picture]}]})
    for disguised in (body, body.replace("image_url", "image\\u005furl")):
        answer = server.client.post("/v1/chat/completions", content=disguised)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "remote_media_refused"


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: GpuServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (33 * 1024 * 1024)
        )
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"x-corral-server" in answer


def test_a_body_over_the_limit_of_unknown_length_is_refused(server: GpuServer) -> None:
    mebibyte = b" " * 1024 * 1024
    try:
        answer = server.client.post("/v1/chat/completions", content=(mebibyte for _ in range(34)))
        assert answer.status_code == 413
    except httpx.WriteError:  # the server may close before all is sent, and the client then misses the answer
        assert server.state() == "ready"


def test_status_has_the_fields_routers_rely_on(server: GpuServer) -> None:
    server.client.post("/v1/chat/completions", json=chat())
    status = server.status()
    assert set(status) == {
        "state", "model", "mode", "slots", "busy", "queued", "max_queue", "context", "generation", "uptime_s",
        "tokens_per_second", "prompt_tokens_per_second", "cache_ram_mib",
    }  # fmt: skip
    assert (status["state"], status["model"], status["mode"], status["slots"]) == ("ready", "chat", "chat", 2)
    assert status["context"] == 2048
    assert status["tokens_per_second"] > 0
    assert status["prompt_tokens_per_second"] > 0


def test_a_request_is_counted_and_logged_without_its_text(server: GpuServer) -> None:
    before = server.metric('gpu_server_requests_total{outcome="ok"}')
    generated = server.metric("gpu_server_tokens_out_total")
    request = chat("A secret about marzipan.", stream=True)
    server.client.post(
        "/v1/chat/completions", json=request, headers={"x-request-id": "counted", "x-corral-key-hash": "ab12" * 16}
    )
    wait_until(lambda: '"id": "counted"' in server.log.read_text(), 5, "the log line")
    assert server.metric('gpu_server_requests_total{outcome="ok"}') == before + 1
    assert server.metric("gpu_server_tokens_out_total") > generated
    text = server.log.read_text()
    line = json.loads(next(line for line in text.splitlines() if '"id": "counted"' in line))
    assert (line["event"], line["outcome"], line["status"]) == ("request", "ok", 200)
    assert line["tokens_out"] == 8
    assert 0 < line["ttft_ms"] <= line["duration_ms"]
    assert line["key"] == "ab12" * 16
    assert "marzipan" not in text


def test_the_clients_key_does_not_reach_llama_server(server: GpuServer) -> None:
    assert "sk-test" not in " ".join(server.child().cmdline())
    assert "sk-test" not in server.child().environ().values()


def test_the_logs_of_llama_server_can_be_read_and_followed(server: GpuServer) -> None:
    assert "model loaded" in server.client.get("/logs").text
    assert len(server.client.get("/logs?lines=3").text.splitlines()) == 3
    assert server.client.get("/logs?lines=x").json()["error"]["param"] == "lines"
    with server.client.stream("GET", "/logs?follow=true&lines=0") as answer:
        asking = threading.Thread(target=server.client.post, args=("/v1/chat/completions",), kwargs={"json": chat()})
        asking.start()
        assert next(answer.iter_lines())
        asking.join()


def test_a_client_that_leaves_a_stream_frees_its_slot(server: GpuServer) -> None:
    request = chat("Tell a long story.", stream=True, max_tokens=1500, ignore_eos=True)
    with direct(server) as upstream:
        with server.client.stream("POST", "/v1/chat/completions", json=request) as answer:
            lines = answer.iter_lines()  # kept: httpx hangs up when it is forgotten
            next(lines)
            assert server.status()["busy"] == 1
            assert any(slot["is_processing"] for slot in upstream.get("/slots").json())
        wait_until(lambda: server.status()["busy"] == 0, 1, "the wrapper's slot")
        wait_until(lambda: not any(slot["is_processing"] for slot in upstream.get("/slots").json()), 1, "its slot")


def test_a_client_that_leaves_a_whole_answer_frees_its_slot(server: GpuServer) -> None:
    def cancelled() -> int:  # asking /slots would put the cancelling off: see BUSY_INTERVAL_S
        return server.log.read_text().count("cancel task")

    before = cancelled()
    request = chat("Tell a long story.", max_tokens=1500, ignore_eos=True)
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/v1/chat/completions", json=request, timeout=0.5)
    wait_until(lambda: server.status()["busy"] == 0, 1, "the wrapper's slot")
    wait_until(lambda: cancelled() > before, 5, "llama-server to stop working on it")


def test_an_embedding_server_embeds_and_does_not_chat(tmp_path: Path) -> None:
    with GpuServer(tmp_path / "log", MODE="embedding", MODEL_ALIAS="embed", EXTRA_ARGS="--pooling mean") as server:
        answer = server.ready().client.post("/v1/embeddings", json={"input": ["a cat", "a dog"]})
        assert [len(item["embedding"]) for item in answer.json()["data"]] == [576, 576]
        assert answer.headers["x-corral-server"] == f"embed-{server.port}"
        assert server.client.post("/v1/chat/completions", json=chat()).status_code == 404
        status = server.status()
        assert (status["mode"], status["model"]) == ("embedding", "embed")
        assert status["prompt_tokens_per_second"] > 0
