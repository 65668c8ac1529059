"""Log lines and the ring of llama-server's last lines."""

import asyncio
import io
import json

from gpu_server.output import LogSink, OutputRing


def test_a_line_is_json_or_text_with_the_servers_name() -> None:
    stream = io.StringIO()
    LogSink("gpu-0", "json", stream).write("request", status=200, queue_ms=None)
    line = json.loads(stream.getvalue())
    assert (line["server"], line["event"], line["status"]) == ("gpu-0", "request", 200)
    assert "queue_ms" not in line
    stream = io.StringIO()
    LogSink("gpu-0", "text", stream).write("llama-server", line="model loaded\x1b[0m")
    assert "gpu-0 llama-server model loaded" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_reader_that_left_does_not_stop_the_server() -> None:
    stream = io.StringIO()
    stream.close()
    LogSink("gpu-0", "json", stream).write("request")


async def test_the_ring_keeps_the_last_lines_and_can_be_followed() -> None:
    echoed: list[str] = []
    ring = OutputRing(echoed.append, capacity=3)
    for number in range(5):
        ring.add(str(number))
    assert ring.last() == ["2", "3", "4"]
    assert ring.last(1) == ["4"]
    assert ring.last(0) == []
    assert echoed == ["0", "1", "2", "3", "4"]
    following = ring.follow(1)
    assert await anext(following) == "4"
    later = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    ring.add("5")
    assert await later == "5"
    await following.aclose()
