import contextlib
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.hooks import load_hook


@pytest.fixture(scope="module")
def hook():
    return load_hook("corral_body_guard")


@pytest.fixture
def client(hook) -> httpx.AsyncClient:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), 200)

    app = Starlette(routes=[Route("/v1/chat/completions", echo, methods=["POST", "GET"])])
    hook.guard.install(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate")


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "7", " \n[1]", "\x00", "true"])
async def test_json_that_is_no_object_gets_a_400_that_says_so(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "must be a JSON object" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", ["{}", ' \n\t{"model": "chat"}', "", "{broken"])
async def test_what_may_be_an_object_goes_on_byte_for_byte(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.text) == (200, body)


async def test_a_body_in_pieces_goes_on_whole(client: httpx.AsyncClient) -> None:
    async def pieces():
        yield b"  "
        yield b'{"a": '
        yield b"1}"

    answer = await client.post("/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"})
    assert answer.text == '  {"a": 1}'


async def test_other_kinds_and_methods_are_none_of_its_business(client: httpx.AsyncClient) -> None:
    form = await client.post("/v1/chat/completions", content="[]", headers={"content-type": "multipart/form-data"})
    assert form.status_code == 200
    assert (await client.get("/v1/chat/completions")).status_code == 200


LARGE = 5
"""Bytes of a body that are too many, for these tests."""


@pytest.fixture
def small(hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "MOST_OF_A_BODY", LARGE - 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("said", [True, False])
async def test_a_body_that_is_too_large_gets_a_413_before_it_is_read(
    client: httpx.AsyncClient, kind: str, said: bool
) -> None:
    read = []

    async def pieces():
        for piece in (b"{    "[:LARGE], b"more", b"and more"):
            read.append(piece)
            yield piece

    headers = {"content-type": kind, **({"content-length": "17"} if said else {})}
    answer = await client.post("/v1/chat/completions", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert "has more than" in answer.json()["error"]["message"]
    assert len(read) <= 1


@pytest.mark.usefixtures("small")
async def test_a_body_as_large_as_may_be_goes_on(client: httpx.AsyncClient) -> None:
    async def pieces():
        yield b"{ "
        yield b" }"

    answer = await client.post("/v1/chat/completions", content=pieces())
    assert (answer.status_code, answer.text) == (200, "{  }")


async def test_what_the_application_makes_of_a_body_that_breaks_off_is_not_sent(
    hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def careless(scope: object, receive: Any, send: Any) -> None:
        with contextlib.suppress(Exception):
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"what was that?"})

    monkeypatch.setattr(hook, "MOST_OF_A_BODY", 3)

    async def pieces():
        yield b"{  "
        yield b" }"

    transport = httpx.ASGITransport(hook.BodyGuard(careless))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        answer = await client.post("/", content=pieces())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "413")
