"""A gpu-server on a faked card and with a fake llama-server, and clients that it answers late."""

import threading
from collections.abc import Callable
from pathlib import Path

from support.fake_llama import FakeLlama
from support.gpu_servers import GpuServer, chat
from support.waiting import wait_until

FAKE_NVML = Path(__file__).resolve().parents[1] / "fakes" / "nvml"
LATE_S = 5.3
"""Over the objective: an answer is late that begins after 5 s."""


class CardServer(GpuServer):
    """A gpu-server on a card that says what `says` last told it to."""

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir()
        self._file = folder / "nvml"
        self.llama = FakeLlama(folder)
        self._file.write_text("")
        super().__init__(
            folder / "server.log", LLAMA_SERVER=self.llama.launcher, N_GPU_LAYERS=99, PYTHONPATH=FAKE_NVML,
            FAKE_NVML=self._file, **settings,
        )  # fmt: skip

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        self.llama.close()

    def says(self, *words: str, **readings: int) -> None:
        """Have the card say this from now on: readings, and `lost` or `xid N`."""
        new = self._file.with_suffix(".new")
        new.write_text("\n".join([*words, *(f"{name} {value}" for name, value in readings.items())]))
        new.replace(self._file)  # never half-written

    def answer(self) -> None:
        """Ask for a stream of one token, and read it."""
        body = chat(max_tokens=1, stream=True)
        with self.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            answer.read()


class Askers:
    """Clients of a server: one that keeps asking, and some that are answered late."""

    def __init__(self, server: CardServer) -> None:
        self.pause_s = 0.25
        self._done = threading.Event()
        self._server = server
        self._threads: list[threading.Thread] = []

    def ask_late(self, count: int) -> None:
        """Have so many wait for LATE_S, beside whom others are answered at once."""
        self._server.llama.set(prefill_s=LATE_S)
        self._start(*[self._server.answer] * count)
        wait_until(lambda: self._server.llama.seen()["busy"] == count, 5, "all of them to be read")
        self._server.llama.set(prefill_s=0)

    def keep_asking(self) -> None:
        def ask() -> None:
            while not self._done.wait(self.pause_s):
                self._server.answer()

        self._start(ask)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _start(self, *asks: Callable[[], None]) -> None:
        threads = [threading.Thread(target=ask) for ask in asks]
        self._threads += threads
        for thread in threads:
            thread.start()
