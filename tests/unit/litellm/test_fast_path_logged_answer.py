"""What callbacks see of an answer that went through unread."""

from typing import Any

from corral_fast_path.kinds import KINDS
from corral_fast_path.logged_answer import logged_answer

KIND = {kind.path: kind for kind in KINDS}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def chat(*documents: dict[str, Any]) -> Any:
    return logged_answer(KIND["/chat/completions"], "id-1", "chat", USAGE, documents)


def test_the_pieces_of_a_stream_are_one_message() -> None:
    answer = chat(
        event({"role": "assistant", "content": None}),
        event({"reasoning_content": "Hm."}),
        event({"content": "Good "}),
        event({"content": "day"}),
        event({}, "length"),
        {"choices": [], "usage": {}},
    )
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good day")
    assert choice.message.reasoning_content == "Hm."
    assert choice.finish_reason == "length"
    assert (answer.id, answer.model, answer.usage.total_tokens) == ("id-1", "chat", 5)


def test_calls_of_tools_are_put_together_each_by_its_index() -> None:
    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        name = {"name": more.pop("name")} if "name" in more else {}
        return {"index": index, "function": {**name, "arguments": arguments}, **more}

    answer = chat(
        event({"tool_calls": [call(0, "", id="a", type="function", name="look")]}),
        event({"tool_calls": [call(0, '{"x"'), call(1, "{}", id="b", type="function", name="stop")]}),
        event({"tool_calls": [call(0, ":1}")]}, "tool_calls"),
    )
    (choice,) = answer.choices
    said = [(one.id, one.function.name, one.function.arguments) for one in choice.message.tool_calls]
    assert said == [("a", "look", '{"x":1}'), ("b", "stop", "{}")]
    assert choice.finish_reason == "tool_calls"


def test_several_choices_stay_apart() -> None:
    answer = chat(event({"content": "one"}), event({"content": "two"}, index=1), event({"content": "!"}))
    assert [choice.message.content for choice in answer.choices] == ["one!", "two"]


def test_a_whole_answer_is_taken_as_it_is() -> None:
    message = {"role": "assistant", "content": "Good day"}
    answer = chat({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    assert answer.choices[0].message.content == "Good day"


def test_an_answer_of_another_shape_is_logged_without_its_text() -> None:
    answer = chat({"choices": [{"delta": {"tool_calls": [7]}}]})
    assert answer.usage.total_tokens == 5
