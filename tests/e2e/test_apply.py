"""A farm changes while it is used: no request is dropped, and what cannot become ready is taken back."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.farm import LAPTOP, Farm, farm_in
from support.waiting import wait_until

pytestmark = pytest.mark.e2e

USERS = 3


class Load:
    """Users who ask one short question after another, and what became of each."""

    def __init__(self, farm: Farm) -> None:
        self._url = f"{farm.endpoint}/chat/completions"
        self._key = farm.key
        self._enough = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.servers: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(USERS)]

    def _ask(self, number: int) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self._key}"}, timeout=60, trust_env=False) as client:
            while not self._enough.is_set():
                words = [{"role": "user", "content": f"Count to {number}."}]
                try:
                    answer = client.post(self._url, json={"model": "chat", "messages": words, "max_tokens": 12})
                except httpx.HTTPError as error:
                    self.outcomes[type(error).__name__] += 1
                    continue
                self.outcomes["200" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:300]}"] += 1
                self.servers[answer.headers.get("x-corral-server", "none")] += 1

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask for as long as the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: self.outcomes["200"] >= USERS, 30, "the first answers")
            yield self
        finally:
            self._enough.set()
            for thread in self._threads:
                thread.join(90)

    def goes_on(self) -> None:
        """Wait for some more answers."""
        before = self.outcomes["200"]
        wait_until(lambda: self.outcomes["200"] >= before + 2 * USERS, 30, "more answers")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "corral.yaml"
    path.write_text(LAPTOP.read_text())
    return path


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Iterator[Farm]:
    with farm_in(tmp_path_factory.mktemp("farm") / "state") as farm:
        farm.environment["CORRAL_FILE"] = str(file)
        yield farm.up()


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


def pids(farm: Farm) -> dict[str, int]:
    return {part["name"]: part["pid"] for part in farm.status()["parts"] if part["pid"]}


def context(farm: Farm) -> set[int]:
    key = next(line for line in (farm.state / ".env").read_text().splitlines() if line.startswith("GPU_SERVER_KEY="))
    headers = {"Authorization": f"Bearer {key.partition('=')[2]}"}
    return {
        httpx.get(f"http://127.0.0.1:{farm.part(name)['port']}/status", headers=headers).json()["slots"]
        for name in ("chat-1", "chat-2")
    }


def test_nothing_to_change_is_said_and_done(farm: Farm) -> None:
    before = pids(farm)
    assert "nothing to change" in farm.corral("apply").stdout
    assert pids(farm) == before


def test_a_dry_run_says_what_would_change_and_changes_nothing(farm: Farm, file: Path) -> None:
    before = pids(farm)
    edit(file, "slots: 2", "slots: 3")
    said = farm.corral("apply", "--dry-run").stdout
    edit(file, "slots: 3", "slots: 2")
    assert "chat-1" in said
    assert "slots: 2 -> 3" in said
    assert "embed-1" not in said
    assert pids(farm) == before


def test_a_change_of_one_model_drops_no_request_and_leaves_the_rest_alone(farm: Farm, file: Path) -> None:
    before = pids(farm)
    edit(file, "slots: 2", "slots: 3")
    with Load(farm).running() as load:
        farm.corral("apply", timeout_s=120)
        load.goes_on()
    assert set(load.outcomes) == {"200"}
    after = pids(farm)
    assert {name for name in before if after[name] != before[name]} == {"chat-1", "chat-2"}
    assert context(farm) == {3}
    assert "apply" in farm.corral("history").stdout


def test_what_cannot_become_ready_is_put_back_with_the_farm_serving_throughout(farm: Farm, file: Path) -> None:
    good = file.read_text()
    edit(file, "cache_ram_mib: 256", "extra_args: [--nonsense]")
    with Load(farm).running() as load:
        result = farm.corral("apply", timeout_s=120, check=False)
        load.goes_on()
    file.write_text(good)
    assert result.returncode == 1
    assert "put back" in result.stderr
    assert "--nonsense" in result.stderr
    assert set(load.outcomes) == {"200"}
    assert {part["state"] for part in farm.status()["parts"]} <= {"ready", "done"}
    assert "nothing to change" in farm.corral("apply").stdout


def test_a_faulty_file_changes_nothing_and_is_placed(farm: Farm, file: Path) -> None:
    good, before = file.read_text(), pids(farm)
    edit(file, "slots: 3", "slotz: 3")
    result = farm.corral("apply", check=False)
    file.write_text(good)
    assert result.returncode == 2
    line = next(number for number, text in enumerate(good.splitlines(), 1) if "slots: 3" in text)
    assert f"corral.yaml:{line}:" in result.stderr
    assert "did you mean `slots`?" in result.stderr
    assert pids(farm) == before


def test_a_rollback_brings_the_earlier_file_back(farm: Farm, file: Path) -> None:
    assert "entry 1" in farm.corral("rollback", timeout_s=120).stdout
    assert context(farm) == {2}
    assert "slots: 3" in file.read_text()
    farm.corral("apply", timeout_s=120)
    assert context(farm) == {3}


def test_a_server_more_is_known_to_the_gate(farm: Farm, file: Path) -> None:
    edit(file, "count: 2", "count: 3")
    edit(file, "8080-8089", "8080-8082")
    refused = farm.corral("apply", check=False)
    assert refused.returncode == 2
    assert "the gate restarts" in refused.stdout
    farm.corral("apply", "--yes", timeout_s=120)
    assert farm.part("chat-3")["state"] == "ready"
    with Load(farm).running() as load:
        wait_until(lambda: load.servers["chat-3"] > 0, 60, "the new server to be asked")
    assert set(load.outcomes) == {"200"}
