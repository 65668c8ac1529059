"""Fire drills of cards, hosts, dumps and late answers, all at a time: until somebody is told, and told that it is over.

Prometheus, Alertmanager, node exporter, gpu-servers and the script of the nightly dump are the real ones, and rules and
routes the shipped ones; their times are divided by 1200, but none is below a second and no range below four. What
stands in for what cannot be had here: NVML below the gpu-servers, which answers what a test writes; llama-server,
which loads and reads prompts as long as it is told; /proc/meminfo and the clock below node exporter; pg_dump.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.paths import CHECKOUT
from corral.render.prometheus import parameters
from support.alerting import running
from support.alerting_stack import Alerting, Drills, alerting, promise, scrape
from support.card_server import Askers, CardServer
from support.ports import free_port
from support.tools import tool
from support.waiting import wait_until

pytestmark = pytest.mark.integration

BY = 1200
NIGHTLY = CHECKOUT / "litellm" / "scripts" / "nightly.sh"
WELL = {"temperature": 60, "throttled": 0x4, "used_mib": 6000, "limit_mw": 90_000, "corrected": 0, "uncorrected": 0}
ILL = {"temperature": 88, "throttled": 0x44, "used_mib": 8100, "limit_mw": 180_000, "corrected": 0, "uncorrected": 2}
"""Of 8192 MiB; 0x40 is NVML's HW thermal slowdown, 0x4 the power cap that is no fault."""
OF_READINGS = ("GpuHot", "GpuThrottled", "GpuMemoryNearFull", "GpuPowerLimitLost")
LATE, IN_TIME = 6, 20
DUMPED_AGO_S = 27 * 3600
OF_CARD = 'gpu_temperature_celsius{gpu="GPU-0"}'


class GateHost:
    """What node exporter reads of the gate's host: its memory, what lies beside the dumps, and there its clock too."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.dumps, self._programs = folder / "proc", folder / "dumps", folder / "bin"
        for each in (self.proc, self.dumps, self._programs):
            each.mkdir(parents=True)
        self._answers, self._log = folder / "answers", folder / "nightly.log"
        for name, script in (
            ("psql", "echo t"),
            ("pg_restore", "echo TABLE DATA public LiteLLM_VerificationToken"),
            ("pg_dump", f'[ -e {self._answers} ] && while [ "$1" != --file ]; do shift; done && echo dump >"$2"'),
        ):
            (self._programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (self._programs / name).chmod(0o755)
        self.has_memory(mib=20_000)
        self.dump_now()

    def has_memory(self, *, mib: int) -> None:
        """Of 32 GiB."""
        text = f"MemTotal: {32 * 1024 * 1024} kB\nMemAvailable: {mib * 1024} kB\n"
        (self.proc / "meminfo").write_text(text)

    def clock_is_off(self, *, by_s: float) -> None:
        """Write the clock down. It stands still then, so that it is right for no more than a few seconds."""
        new = self.dumps / "clock.prom.new"
        new.write_text(f"node_time_seconds {time.time() + by_s}\n")
        new.replace(self.dumps / "clock.prom")

    @contextmanager
    def nights_without_dump(self) -> Iterator[None]:
        """Run the nightly service: its last dump is 27 hours old, and its database does not answer."""
        self._answers.unlink()
        for last in self.dumps.glob("*.dump"):
            os.utime(last, (time.time() - DUMPED_AGO_S,) * 2)
        with self._log.open("wb") as log:
            service = subprocess.Popen(
                ["bash", NIGHTLY], env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield
        finally:
            os.killpg(service.pid, signal.SIGTERM)  # what it waits for, too
            service.wait(10)

    def dump_now(self) -> None:
        """Have the database answer, and make a dump as the runbook says."""
        self._answers.touch()
        subprocess.run(["bash", NIGHTLY, "--now"], env=self._environment, check=True, capture_output=True, timeout=20)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._programs}:/usr/bin:/bin", "BACKUP_FOLDER": str(self.dumps), "BACKUP_AT": "03:15",
            "BACKUP_KEEP": "14",
        }  # fmt: skip


@dataclass
class Told(Alerting):
    """Two servers with a card each, and the gate's host, watched."""

    steady: CardServer
    shaky: CardServer
    gate: GateHost


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    exporter, port = tool("prometheus-node-exporter"), free_port()
    gate = GateHost(tmp_path / "gate")
    with ExitStack() as stack:
        steady, shaky = CardServer(tmp_path / "steady", N_PARALLEL=LATE + 2), CardServer(tmp_path / "shaky")
        for server in (steady, shaky):
            server.says(**WELL)
            stack.enter_context(server)
        stack.enter_context(
            running(
                tmp_path / "node.log", exporter, "--collector.disable-defaults", "--collector.meminfo",
                f"--path.procfs={gate.proc}", "--collector.textfile", f"--collector.textfile.directory={gate.dumps}",
                f"--web.listen-address=127.0.0.1:{port}",
            )
        )  # fmt: skip
        servers = {
            steady.port: {"server": "steady-1", "host": "box", "model": "steady"},
            shaky.port: {"server": "shaky-1", "host": "shed", "model": "shaky"},
        }
        promised = [
            *(promise("corral_server_gpu", **labels) for labels in servers.values()),
            promise("corral_server_power_limit_watts", 90, **servers[steady.port]),
        ]
        (of_the_gate,) = parameters((), dumped_on="gate")["groups"]  # type: ignore[misc]
        groups = [{"name": "farm", "rules": promised}, of_the_gate]
        for server in (steady, shaky):  # before anybody looks: what starts is not ready, and has seen no card
            server.ready()
            wait_until(lambda server=server: server.metric(OF_CARD), 10, "its card")
        scrapes = [scrape("gpu-server", servers), scrape("node", {port: {"host": "gate"}})]
        watching = stack.enter_context(alerting(tmp_path, scrapes, groups, by=BY))
        seen = "count(gpu_ecc_errors_total{kind='uncorrected'}) == 2 and on () node_memory_MemAvailable_bytes > 0"
        wait_until(lambda: watching.api.query(seen), 20, "a look at all of it")
        yield Told(watching.people, watching.heart, watching.api, steady, shaky, gate)


def test_faults_of_cards_hosts_dumps_and_answers_are_told_and_so_are_their_ends(told: Told) -> None:
    steady, shaky, gate, drills = told.steady, told.shaky, told.gate, Drills(told.people)
    asking = Askers(steady)
    for _ in range(IN_TIME):
        steady.answer()
    with gate.nights_without_dump():
        try:
            drills.begin("BackupMissing")
            asking.ask_late(LATE)
            asking.keep_asking()
            drills.begin("TtftBudgetBurnsSlowly")

            steady.says(**ILL)
            drills.begin(*OF_READINGS)
            drills.happen("GpuEccErrors")
            shaky.llama.plan("--start-s", "600")  # as a large model on a slow disk
            shaky.says("xid 79", **WELL)
            drills.happen("GpuXid")
            drills.begin("GpuServerNotReady")
            gate.has_memory(mib=1000)
            gate.clock_is_off(by_s=60)
            drills.begin("HostMemoryLow", "HostClockSkewed")

            drills.told("HostMemoryLow", "HostClockSkewed")
            gate.has_memory(mib=20_000)
            gate.clock_is_off(by_s=4)
            drills.end("HostMemoryLow", "HostClockSkewed")

            drills.told("GpuXid", "GpuServerNotReady")
            shaky.says("lost")
            drills.begin("GpuLost")
            drills.told(*OF_READINGS, "GpuEccErrors", "BackupMissing")
            steady.says(**WELL | {"uncorrected": 2})
            drills.end(*OF_READINGS)
            gate.dump_now()
            drills.end("BackupMissing")

            drills.told("GpuLost")
            shaky.says(**WELL)
            shaky.llama.plan()
            shaky.client.post("/restart").raise_for_status()
            drills.end("GpuLost", "GpuServerNotReady")

            drills.told("TtftBudgetBurnsSlowly")
            asking.pause_s = 0.02
            drills.end("TtftBudgetBurnsSlowly")
            drills.over()
        finally:
            asking.stop()
    assert told.people.first("TtftBudgetBurnsFast", "firing") is None
    assert {alert["labels"]["gpu"] for _, alert in told.people.came if alert["labels"].get("host") == "box"} == {
        "GPU-0"
    }
