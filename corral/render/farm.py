"""All files of a farm."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from corral.farm import FarmFile, Server, servers_of
from corral.render import gpu_host, k6, kubernetes, langfuse, litellm, monitoring_host, proxy_host
from corral.render.document import Rendered


class Target(StrEnum):
    """A part of what is rendered."""

    GPU_HOSTS = "gpu-hosts"
    LITELLM = "litellm"
    MONITORING = "monitoring"
    LANGFUSE = "langfuse"
    LOAD_TESTS = "load-tests"
    KUBERNETES = "kubernetes"


DEFAULT_TARGETS = frozenset(Target) - {Target.KUBERNETES}


def render(
    farm: FarmFile, only: Collection[Target] | None = None, *, servers: Sequence[Server] | None = None
) -> tuple[Rendered, ...]:
    """Return the rendered files of a farm, sorted by path. Nothing is written.

    Args:
        farm: a file in which `farm.checks` finds nothing wrong.
        only: targets; None: all but Kubernetes.
        servers: where the caller knows better than the file which there are: GPUs detected on this machine.
    """
    wanted = DEFAULT_TARGETS if only is None else only
    known = servers_of(farm) if servers is None else tuple(servers)
    files = [file for target, writer in _WRITERS.items() if target in wanted for file in writer(farm, known)]
    return tuple(sorted(files, key=lambda file: file.path))


def _gate(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    yield litellm.render(farm, servers)
    if (containers := proxy_host.render(farm, servers)) is not None:
        yield containers


def _load_tests(farm: FarmFile, servers: Sequence[Server]) -> Iterator[Rendered]:
    yield k6.render(farm, servers)


_WRITERS: Mapping[Target, Callable[[FarmFile, Sequence[Server]], Iterable[Rendered]]] = {
    Target.GPU_HOSTS: gpu_host.render,
    Target.LITELLM: _gate,
    Target.MONITORING: monitoring_host.render,
    Target.LANGFUSE: langfuse.render,
    Target.LOAD_TESTS: _load_tests,
    Target.KUBERNETES: kubernetes.render,
}
