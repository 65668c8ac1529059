"""What the tests of the gate's fast path ask, and the models of the gate that they share."""

from pathlib import Path
from typing import Any

import httpx

from support import odd_servers  # noqa: F401  # which are among the fake ones from then on
from support.fake_servers import PROMPT_TOKENS, WORDS, FakeServers
from support.gate import ANSWER_PRICE, PROMPT_PRICE, Gate
from support.ports import free_port

MESSAGES = [{"role": "user", "content": "Name a colour."}]
CHAT = {"model": "chat", "messages": MESSAGES}
COST = PROMPT_TOKENS * PROMPT_PRICE + WORDS * ANSWER_PRICE


def models(servers: FakeServers) -> dict[str, list[tuple[str, str]]]:
    refused = f"http://127.0.0.1:{free_port()}/v1"
    failing = {"f500": "fails_500", "f503": "fails_503", "f429": "fails_429", "refused": refused, "timeout": "silent"}
    alone = ("fails_400", "fails_500", "silent", "endless", "dies", "gives_up", "odd", "lies", "floods")
    return {
        "chat": [("chat-1", "good"), ("chat-2", "another")],
        "embed": [("embed-1", "good")],
        "rank": [("rank-1", "good")],
        "ears": [("ears-1", "good")],
        "elsewhere": [("elsewhere-1", "another")],
        **{name: [(f"{name}-bad", where), (f"{name}-good", "good")] for name, where in failing.items()},
        **{f"only-{name}": [(f"only-{name}", name)] for name in alone},
        "falls-back": [("falls-back", "fails_500")],
    }


def fast(gate: Gate) -> bool:
    return "corral_gate_fast_path_active 1.0" in gate.metrics()


def refusal(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


def owned_by(gate: Gate, owner: str, **limits: Any) -> str:
    """A key whose limits are those of the key itself, of its team, or of its user."""
    if owner == "key":
        return gate.new_key(models=["chat"], **limits)
    if owner == "team":
        return gate.new_key(team_id=gate.admin("/team/new", models=["chat"], **limits)["team_id"])
    return gate.new_key(user_id=gate.admin("/user/new", auto_create_key=False, models=["chat"], **limits)["user_id"])


def streaming(gate: Gate, body: dict[str, Any], key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return gate.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, headers=headers)


class Memory:
    """What a gate's process takes, from now on."""

    def __init__(self, gate: Gate) -> None:
        self._process = Path(f"/proc/{gate.pid}")
        (self._process / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._bytes("VmRSS")

    @property
    def peak(self) -> int:
        """The most that it has taken above what it took before, in bytes."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
