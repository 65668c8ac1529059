"""Whose fault a 500 of llama-server is."""

import json

import pytest

from gpu_server.errors import blames_request


def said(message: str) -> bytes:
    return json.dumps({"error": {"code": 500, "message": message, "type": "server_error"}}).encode()


@pytest.mark.parametrize(
    "message",
    [
        "Failed to parse messages: [json.exception.type_error.302] type must be string, but is object",
        "'messages' is required",
        "Unsupported param: suffix",
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "Error: dry_sequence_breakers must be a non-empty array of strings",
    ],
)
def test_a_request_that_could_not_be_read_is_the_clients(message: str) -> None:
    assert blames_request(500, said(message), works=True)


@pytest.mark.parametrize(
    "message",
    [
        "Compute error.",
        "failed to get logits",
        "got exception: CUDA error",
        "context shift is disabled",
        "unknown error",
    ],
)
def test_work_that_failed_stays_the_servers(message: str) -> None:
    assert not blames_request(500, said(message), works=True)


def test_a_route_that_only_reads_can_only_fail_by_what_it_read() -> None:
    message = said("vector::_M_range_check: __n (which is 9) >= this->size() (which is 3)")
    assert blames_request(500, message, works=False)
    assert blames_request(500, said("anything"), works=False)


def test_other_statuses_are_as_they_are() -> None:
    assert not blames_request(503, said("'messages' is required"), works=True)
    assert not blames_request(200, b"{}", works=False)
