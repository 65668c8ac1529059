"""What an application sees at the gate, through the official SDK."""

import json
import math
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from support.farm import Farm
from support.waiting import wait_until

pytestmark = pytest.mark.e2e

QUESTION = [{"role": "user", "content": "Name a colour."}]


def test_the_printed_curl_line_answers_with_text_of_the_model(farm: Farm) -> None:
    answer = json.loads(
        subprocess.run(shlex.split(farm.curl), capture_output=True, text=True, timeout=60, check=True).stdout
    )
    assert answer["choices"][0]["message"]["content"].strip()


def test_up_printed_all_that_one_needs(farm: Farm) -> None:
    assert farm.endpoint in farm.said
    assert farm.said.count(farm.key) == 2  # the line, and the curl line
    assert "chat, embed" in farm.said
    assert "/ui" in farm.said
    assert "login admin / " in farm.said


def test_the_admin_ui_is_there_and_takes_the_printed_login(farm: Farm) -> None:
    user, password = re.search(r"login (\S+) / (\S+)", farm.said).groups()  # type: ignore[union-attr]
    root = farm.endpoint.removesuffix("/v1")
    with httpx.Client(trust_env=False, timeout=30, follow_redirects=False) as client:
        page = client.get(f"{root}/ui/")
        assert page.status_code == 200
        assert "<html" in page.text.lower()
        right = client.post(f"{root}/v2/login", json={"username": user, "password": password})
        wrong = client.post(f"{root}/v2/login", json={"username": user, "password": "guessed"})
    assert right.status_code == 200
    assert wrong.status_code == 401


def test_chat(farm: Farm) -> None:
    answer = farm.client().chat.completions.create(model="chat", messages=QUESTION, max_tokens=16)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 16


def test_chat_streamed_with_usage(farm: Farm) -> None:
    stream = farm.client().chat.completions.create(
        model="chat", messages=QUESTION, max_tokens=16, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) > 3  # in pieces, not at once
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 16


def test_text_completion(farm: Farm) -> None:
    answer = farm.client().completions.create(model="chat", prompt="The sky is", max_tokens=8)
    assert answer.choices[0].text.strip()


def test_the_nearest_neighbour_of_a_paraphrase_is_the_sentence_itself(farm: Farm) -> None:
    sentences = [
        "How do I reset my password?",
        "Stock markets fell sharply on Tuesday.",
        "The cat sleeps on the warm roof.",
        "Bake the bread for forty minutes.",
    ]
    paraphrase = "I forgot my login credentials, what can I do?"
    answer = farm.client().embeddings.create(model="embed", input=[*sentences, paraphrase])
    *vectors, asked = [row.embedding for row in answer.data]
    assert len(asked) == 384
    assert max(range(4), key=lambda i: cosine(vectors[i], asked)) == 0


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_models(farm: Farm) -> None:
    assert {model.id for model in farm.client().models.list()} == {"chat", "embed"}


def test_answers_name_the_server_and_both_chat_servers_get_traffic(farm: Farm) -> None:
    def ask(number: int) -> str:
        raw = farm.client().chat.completions.with_raw_response.create(
            model="chat", messages=[{"role": "user", "content": f"Count from {number}."}], max_tokens=24
        )
        return raw.headers["x-corral-server"]

    with ThreadPoolExecutor(6) as pool:
        servers = list(pool.map(ask, range(18)))
    assert set(servers) == {"chat-1", "chat-2"}


def test_a_stream_names_its_server_too(farm: Farm) -> None:
    with farm.client().chat.completions.with_streaming_response.create(
        model="chat", messages=QUESTION, max_tokens=4, stream=True
    ) as response:
        assert response.headers["x-corral-server"] in ("chat-1", "chat-2")
        assert b"[DONE]" in response.read()


def test_no_key(farm: Farm) -> None:
    result = subprocess.run(
        ["curl", "-s", "-w", "%{http_code}", farm.endpoint + "/models"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert result.stdout.endswith("401")


def test_wrong_key(farm: Farm) -> None:
    with pytest.raises(openai.AuthenticationError):
        farm.client("sk-nobody-has-this-one").models.list()


def test_model_that_the_key_may_not_use(farm: Farm) -> None:
    key = farm.new_key("--models", "embed")
    with pytest.raises(openai.APIStatusError, match="chat") as refused:
        farm.client(key).chat.completions.create(model="chat", messages=QUESTION)
    assert refused.value.status_code in (401, 403)


def test_requests_a_minute_over(farm: Farm) -> None:
    key = farm.new_key("--models", "embed", "--rpm", "2")
    client = farm.client(key)
    client.embeddings.create(model="embed", input="x")
    client.embeddings.create(model="embed", input="x")
    with pytest.raises(openai.RateLimitError):
        client.embeddings.create(model="embed", input="x")


def test_budget_over(farm: Farm) -> None:
    key = farm.new_key("--models", "chat", "--budget", "0.000001")
    client = farm.client(key)

    def refused() -> openai.APIStatusError | None:
        try:
            client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=2)
        except openai.APIStatusError as error:
            return error
        return None

    error = wait_until(refused, 30, "the budget to be over", interval_s=0.5)
    assert "budget" in str(error).lower()


def test_revoked_key(farm: Farm) -> None:
    key = farm.new_key("--models", "embed")
    farm.client(key).embeddings.create(model="embed", input="x")
    farm.corral("keys", "revoke", key, "--yes")
    with pytest.raises(openai.AuthenticationError):
        farm.client(key).embeddings.create(model="embed", input="x")


def test_unknown_model(farm: Farm) -> None:
    with pytest.raises(openai.APIStatusError, match="gpt-99") as refused:
        farm.client(farm.new_key("--models", "chat,embed")).chat.completions.create(model="gpt-99", messages=QUESTION)
    assert 400 <= refused.value.status_code < 500


@pytest.mark.parametrize("body", ["{", "[]", "null", '{"model": 7}', '{"model": "chat", "messages": "hi"}', "\x00", ""])
def test_malformed_body(farm: Farm, body: str) -> None:
    headers = ["-H", f"Authorization: Bearer {farm.key}", "-H", "Content-Type: application/json"]
    result = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", f"{farm.endpoint}/chat/completions", *headers, "--data-binary", "@-"],
        input=body,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    text, _, code = result.stdout.rpartition("\n")
    assert 400 <= int(code) < 500, result.stdout
    assert json.loads(text)["error"]["message"]


def test_a_body_of_33_mib_is_refused_as_too_large(farm: Farm) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        farm.client().chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "x" * (33 * 1024 * 1024)}], max_tokens=1
        )
    assert refused.value.status_code == 413


def test_a_key_is_listed_shown_and_refused_after_its_end(farm: Farm) -> None:
    key = farm.new_key("--models", "embed", "--alias", "a-shop", "--rpm", "60", "--budget", "5", "--expires", "30d")
    farm.client(key).embeddings.create(model="embed", input="x")
    listed = json.loads(farm.corral("keys", "list", "--json").stdout)
    assert any(row["alias"] == "a-shop" for row in listed)
    table = farm.corral("keys", "list").stdout
    assert "a-shop" in table
    assert key not in table  # shown once, when it was made
    shown = json.loads(farm.corral("keys", "show", "a-shop", "--json").stdout)
    assert (shown["rpm"], shown["models"]) == (60, ["embed"])
    again = farm.corral("keys", "create", "--alias", "a-shop", check=False)
    assert again.returncode == 2
    assert "'a-shop' is taken" in again.stderr
    assert farm.corral("keys", "create", "--models", "chatt", check=False).returncode == 2
    farm.corral("keys", "revoke", "a-shop", "--yes")
    with pytest.raises(openai.AuthenticationError):
        farm.client(key).embeddings.create(model="embed", input="x")


def test_an_applications_key_administers_nothing(farm: Farm) -> None:
    root = farm.endpoint.removesuffix("/v1")
    for path in ("/key/list", "/key/generate", "/model/info"):
        answer = httpx.post(root + path, headers={"Authorization": f"Bearer {farm.key}"}, json={}, trust_env=False)
        assert answer.status_code in (401, 403, 405), path
