"""LiteLLM's side of the router: `litellm_settings.callbacks: ["corral_routing.hook.routing"]`.

LiteLLM 1.106.2 asks `async_filter_deployments` before each try, after its own cooldowns, and its strategy (least-busy)
then chooses among what is returned: one server, here. Nothing in this file may fail a request: whatever goes wrong is
logged and counted, and LiteLLM chooses by itself.

What LiteLLM tells, found by trying:

- A try is known by `litellm_call_id`, the same through retries. `async_post_call_failure_deployment_hook` is called
  for each failed try; `async_log_failure_event` for the first only.
- Upstream's headers are in `_hidden_params["additional_headers"]` of whole answers and streams, named
  `llm_provider-x-...`; of embeddings they are not. `async_post_call_response_headers_hook` has them when a stream
  begins, `async_post_call_success_deployment_hook` when a whole answer has come, but not on the fast path.
- A stream without `include_usage` ends with all counts 0, and its `timings` are lost.
- A client that leaves a stream causes no event at all; the fast path tells of it (`request_over`).
- The success event waits in a queue: a next request, here or at another worker, may well come before it.
- An exception with `num_retries = 0` is not tried again, and its `headers` reach the client.
"""

import asyncio
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from random import Random
from time import monotonic
from typing import Any
from uuid import uuid4

from litellm.integrations.custom_logger import CustomLogger

import litellm
from corral_routing import explain
from corral_routing.answers import blames_server, headers_of, is_of, usage_of
from corral_routing.choice import Choice
from corral_routing.deployments import names_of, place_of
from corral_routing.gossip import Gossip, Kind, Told, folder_of_workers
from corral_routing.metrics import Metrics
from corral_routing.poller import Place, Poller
from corral_routing.prompts import prompt_of
from corral_routing.reports import load_of
from corral_routing.router import FullError, Router

REMEMBERING = frozenset({None, "chat", "completion", "responses"})
"""Modes of deployments whose servers keep prompts; the others are chosen by their wait alone."""
EXPLAIN = "x-corral-explain"
MOST_RECENT = 128
COMPLAIN_S = 60.0

log = logging.getLogger("corral.routing")


class CorralRouting(CustomLogger):
    """Chooses the server that will answer first."""

    def __init__(self, random: Random | None = None) -> None:
        super().__init__()
        self._random = random or Random()
        self.router = Router(self._random)
        self.metrics = Metrics(self._staleness)
        self._gossip = Gossip(folder_of_workers(), self._heard)
        self._places: dict[str, Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._polling: asyncio.Task[None] | None = None
        self._recent: OrderedDict[str, Choice] = OrderedDict()
        self._complained = -COMPLAIN_S

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """See LiteLLM's `CustomLogger`: returns the deployment chosen, or all where none could be.

        Raises:
            litellm.RateLimitError: All servers are full; carries `Retry-After` and is not tried again.
        """
        try:
            return self._choose(healthy_deployments, messages, {} if request_kwargs is None else request_kwargs)
        except FullError as full:
            self.metrics.refused()
            raise litellm.RateLimitError(
                message=(
                    f"every server of {model!r} is full: all slots work and all queues are full;"
                    f" try again in {full.retry_after_s} s"
                ),
                llm_provider="",
                model=model,
                num_retries=0,
                headers={"retry-after": str(full.retry_after_s)},
            ) from None
        except Exception as error:  # noqa: BLE001  # a request must go out whatever happens here
            self._went_wrong(error)
            self.metrics.passed_on("error")
            return healthy_deployments

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """See LiteLLM's `CustomLogger`: takes note of a failed try."""
        self._failed(str(request_data.get("litellm_call_id")), exception)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: object,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, object] | None = None,
    ) -> dict[str, str] | None:
        """See LiteLLM's `CustomLogger`: takes note of an answer that begins; explains the choice to who asks."""
        try:
            call = str(data.get("litellm_call_id"))
            if response is not None:
                self.router.began(call, load_of(headers_of(response)), monotonic())
                if getattr(response, "usage", None) is not None:  # a whole answer, of which nothing else tells in time
                    self._answered(call, response, {}, None)
            if EXPLAIN not in (request_headers or {}):
                return None
            pick = self.router.picks.get(call)
            choice = pick.choice if pick else self._recent.get(call)
            return {"x-corral-routing": explain.header(choice)} if choice else None
        except Exception as error:  # noqa: BLE001
            self._went_wrong(error)
            return None

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`: takes note of a whole answer at once; the event below may come much later."""
        if not hasattr(response, "__aiter__"):
            self._answered(str(request_data.get("litellm_call_id")), response, {}, None)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`: takes note of a stream that ended, and of answers not noted before."""
        self._answered(str(kwargs.get("litellm_call_id")), response_obj, kwargs, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`: takes note of a stream that broke. Other failures were noted try by try."""
        try:
            call = str(kwargs.get("litellm_call_id"))
            pick = self.router.picks.get(call)
            if pick is not None and is_of(kwargs, pick, end_time):
                self._failed(call, kwargs.get("exception"))
        except Exception as error:  # noqa: BLE001
            self._went_wrong(error)

    def request_over(self, call: str) -> None:
        """Take from the fast path that a request holds its slot no more, however it ended; its events come later."""
        try:
            pick = self.router.over(call, monotonic())
            if pick is not None:
                self._gossip.tell(Kind.LEFT, call, pick.server)
        except Exception as error:  # noqa: BLE001
            self._went_wrong(error)

    def _failed(self, call: str, exception: object) -> None:
        try:
            status = getattr(exception, "status_code", None)
            if status != 429 and not blames_server(status):
                pick = self.router.left(call, monotonic())
                if pick is not None:
                    self._gossip.tell(Kind.LEFT, call, pick.server)
                return
            pick = self.router.failed(call, monotonic(), full=status == 429)
            if pick is not None:
                self._gossip.tell(Kind.FORGOTTEN, call, pick.server, pick.prompt)
                self.metrics.failed(pick.server, "full" if status == 429 else "failed")
        except Exception as error:  # noqa: BLE001
            self._went_wrong(error)

    def _answered(self, call: str, response: Any, kwargs: Mapping[str, Any], end_time: Any) -> None:
        try:
            now = monotonic()
            pick = self.router.picks.get(call)
            if pick is None:
                return
            usage = usage_of(kwargs, response, end_time)
            if usage.took_s is None:
                usage = replace(usage, took_s=now - pick.at)
            if pick.first_token_s is None:  # else its load was taken when it began
                began = now if usage.first_token_s is None else min(now, pick.at + usage.first_token_s)
                self.router.began(call, load_of(headers_of(response)), began)
            self.router.ended(call, usage, now)
            self._gossip.tell(Kind.ANSWERED, call, pick.server)
            self.metrics.answered(pick, usage)
            self._remember(call, pick.choice)
        except Exception as error:  # noqa: BLE001
            self._went_wrong(error)

    def start(self) -> None:
        """Begin to poll and to listen; called again, does nothing while it goes on. Needs a running event loop."""
        if self._polling is not None and not self._polling.done():
            return
        poller = Poller(self.router, self._all_places, self._is_ready, self._random)
        self._polling = self._task(poller.run(), "corral routing: polls")
        self._task(self._listen(), "corral routing: other workers")

    async def stop(self) -> None:
        """End what `start` began."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _heard(self, told: Told) -> None:
        router, now = self.router, monotonic()
        if told.prompt is None:
            router.heard_end(told.call, told.server, now, answered=told.kind is Kind.ANSWERED)
        elif told.kind is Kind.PICKED:
            router.heard(told.call, told.server, told.prompt, now)
        else:
            router.unheard(told.call, told.server, told.prompt, now)

    async def _listen(self) -> None:
        try:
            await self._gossip.run()
        except OSError as error:
            log.warning("this worker does not hear of the others' choices: %s", error)

    def document(self) -> dict[str, Any]:
        """Return what this process believes, and its latest choices."""
        latest = [explain.header(choice) for choice in reversed(self._recent.values())]
        return {"worker": os.getpid(), **explain.document(self.router, monotonic()), "latest": latest[:20]}

    def _choose(self, deployments: list[Any], messages: list[Any] | None, request: dict[str, Any]) -> list[Any]:
        places = [place for one in deployments if (place := place_of(one)) is not None]
        if not places or len(places) < len(deployments):
            return deployments  # a provider's
        by_name = dict(zip(names_of(places), deployments, strict=True))
        for name, place in zip(by_name, places, strict=True):
            self._places[name] = place if name == place.name else replace(place, name=name)
        self.start()
        able = {name: one for name, one in by_name.items() if not _at_its_rpm(one)} or by_name
        call = str(request.setdefault("litellm_call_id", str(uuid4())))
        mode = (deployments[0].get("model_info") or {}).get("mode")
        prompt = prompt_of(request, messages) if mode in REMEMBERING else None
        choice = self.router.pick(call, list(able), prompt, monotonic())
        if choice is None:
            self.metrics.passed_on("out")
            return deployments
        self.metrics.picked(choice)
        self._gossip.tell(Kind.PICKED, call, choice.chosen.name, prompt)
        if log.isEnabledFor(logging.INFO):
            log.info("%s -> %s", call, explain.header(choice))
        return [able[choice.chosen.name]]

    def _all_places(self) -> Iterable[Place]:
        """Return where to poll: all deployments of LiteLLM's router, and those seen where there is none to ask."""
        router = _litellm_router()
        if router is None:
            return self._places.values()
        places = [place for one in list(router.model_list) if (place := place_of(one)) is not None]
        self._places = {name: replace(place, name=name) for name, place in zip(names_of(places), places, strict=True)}
        self.router.keep(set(self._places))
        return self._places.values()

    def _is_ready(self, name: str) -> None:
        """End LiteLLM's cooldown of a server that says it is ready: it was for failures before that."""
        router = _litellm_router()
        if router is None:
            return
        cooldowns = router.cooldown_cache
        key = cooldowns.get_cooldown_cache_key(name)
        if cooldowns.in_memory_cache.get_cache(key) is not None:
            cooldowns.cooldown_store.delete_cache(key)

    def _remember(self, call: str, choice: Choice) -> None:
        self._recent[call] = choice
        while len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)

    def _staleness(self) -> dict[str, float]:
        now = monotonic()
        return {name: server.age_s(now) for name, server in self.router.servers.items() if server.load}

    def _went_wrong(self, error: Exception) -> None:
        now = monotonic()
        if now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.error("routing failed; LiteLLM chooses by itself. Told at most once a minute.", exc_info=error)


def _at_its_rpm(deployment: Mapping[str, Any]) -> bool:
    """Say whether LiteLLM's pre-call check would leave a deployment out, having had its requests of this minute."""
    rpm = (deployment.get("litellm_params") or {}).get("rpm")
    router = _litellm_router()
    if not isinstance(rpm, int) or router is None or not router.enable_pre_call_checks:
        return False
    return int(router.cache.get_cache(key=deployment["model_info"]["id"], local_only=True) or 0) >= rpm


def _litellm_router() -> Any:
    proxy = sys.modules.get("litellm.proxy.proxy_server")
    return getattr(proxy, "llm_router", None)


routing = CorralRouting()


def _load() -> None:
    proxy = sys.modules.get("litellm.proxy.proxy_server")
    if proxy is None:  # in a test, or where LiteLLM is used as a library
        return
    level = os.environ.get("CORRAL_ROUTING_LOG", "").upper()
    if level in ("DEBUG", "INFO", "WARNING", "ERROR"):
        log.setLevel(level)
        log.addHandler(logging.StreamHandler())
    try:
        from corral_routing.pages import add_pages

        add_pages(proxy.app, routing.document, routing.metrics.text)
    except Exception:  # requests are routed without the pages too
        log.exception("no /corral/routing and no /corral/metrics")
    try:
        routing.start()
    except RuntimeError:  # no event loop yet: the first request starts it
        return


_load()
