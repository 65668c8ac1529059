"""One gpu-server put together: supervisor, poller, admission, relay and control around one llama-server."""

import asyncio
import os
import time

from prometheus_client import CollectorRegistry

from gpu_server.admission import Admission
from gpu_server.app import App
from gpu_server.child import spawn
from gpu_server.control import Status, control_app
from gpu_server.engine import Engine, arguments, child_environment, is_device_error
from gpu_server.gpu import GpuMonitor
from gpu_server.metrics import Meter, Sources
from gpu_server.output import LogSink, OutputRing
from gpu_server.poller import Poller, Progress
from gpu_server.relay import Relay
from gpu_server.routes import routes_for
from gpu_server.settings import Settings
from gpu_server.states import Cause, Drain, Outcome, Phase, Resume, Snapshot, Stalled
from gpu_server.supervisor import Child, Supervisor
from gpu_server.upstream import Upstream, free_port


class Wrapper:
    """Made inside a running event loop; `run` does the work until cancelled, `stop` ends it in order."""

    def __init__(self, settings: Settings, engine: Engine, sink: LogSink) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.ring = OutputRing(lambda line: sink.write("llama-server", line=line))
        self.admission = Admission(settings.n_parallel, settings.max_queue)
        self.supervisor = Supervisor(self._spawn, self._changed)
        self._engine = engine
        self._sink = sink
        self._started = time.monotonic()
        self._draining: asyncio.Task[None] | None = None
        self._upstream = Upstream()
        progress = Progress()
        self._poller = Poller(self._upstream, self.supervisor, progress, settings.stall_timeout_s)
        routes = routes_for(settings.mode)
        sources = Sources(
            snapshot=lambda: self.supervisor.snapshot,
            losses=lambda: self.supervisor.losses,
            reading=lambda: self._poller.reading,
            admission=self.admission,
            engine=engine.kind,
        )
        self._meter = Meter(self.registry, settings.alias, routes, sources)
        self._relay = Relay(settings, self._upstream, self.supervisor, self.admission, progress, self._meter, sink)
        self._gpu = GpuMonitor(settings.gpu_uuid, self._gpu_fault)
        self.registry.register(self._gpu)
        self.app = App(self._relay, control_app(self), routes, settings.api_key.get_secret_value())

    async def run(self) -> None:
        """Supervise and poll until cancelled; llama-server is gone when this returns."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.supervisor.run(), name="supervisor")
                tasks.create_task(self._poller.run(), name="poller")
                if self.settings.n_gpu_layers != 0:
                    tasks.create_task(self._gpu.run(), name="gpu")
        finally:
            if self._draining is not None:
                self._draining.cancel()
            self._upstream.close()

    def status(self) -> Status:
        """Describe the server for routers, from what is known already."""
        snapshot = self.supervisor.snapshot
        return Status(
            state=snapshot.state,
            model=self.settings.alias,
            mode=self.settings.mode,
            slots=self.admission.slots,
            busy=self.admission.busy,
            queued=self.admission.queued,
            max_queue=self.admission.max_queue,
            context=self._poller.reading.context or self.settings.n_ctx // self.settings.n_parallel,
            generation=snapshot.generation,
            uptime_s=round(time.monotonic() - self._started, 1),
            tokens_per_second=self._meter.decode_rate.value,
            prompt_tokens_per_second=self._meter.prefill_rate.value,
            cache_ram_mib=self.settings.cache_ram_mib,
        )

    def begin_drain(self) -> None:
        """Refuse new work; llama-server is stopped when the present work is done."""
        self.supervisor.tell(Drain())
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="drain")

    def resume(self) -> None:
        """Take work again."""
        if self._draining is not None:
            self._draining.cancel()
        self.supervisor.tell(Resume())

    async def drained(self) -> None:
        """Drain and return when llama-server is gone."""
        self.begin_drain()
        if self._draining is not None:
            await self._draining

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self.settings.drain_timeout_s):
                await self._relay.idle()
        except TimeoutError:
            self._sink.write("drain_timeout", busy=self.admission.busy, queued=self.admission.queued)
        await self.supervisor.shut_down()

    async def _spawn(self, generation: int) -> Child:
        self._upstream.port = free_port()
        argv = [*self._engine.command, *arguments(self.settings, self._upstream.port)]
        env = child_environment(self.settings, os.environ)

        def on_line(line: str) -> None:
            self.ring.add(line)
            if is_device_error(line):
                self.supervisor.tell(Stalled(generation, Cause.DEVICE_ERROR))

        return await spawn(argv, env, on_line)

    def _gpu_fault(self, cause: Cause) -> None:
        now = self.supervisor.snapshot
        if cause is Cause.XID and now.phase is not Phase.READY:
            return  # an echo of the llama-server that died of it
        self.supervisor.tell(Stalled(now.generation, cause))

    def _changed(self, before: Snapshot, outcome: Outcome) -> None:
        now = outcome.snapshot
        if now.phase is Phase.READY:
            self.admission.open()
        else:
            self.admission.shut()
        if now.phase in (Phase.FAILED, Phase.STOPPED):
            self.admission.turn_away(self._relay.unavailable)
        lost_to = None if outcome.lost_to is None else outcome.lost_to.value
        if lost_to or now.state != before.state or now.generation != before.generation:
            self._sink.write("state", state=now.state, generation=now.generation, was=before.state, lost_to=lost_to)
