"""A plan for programs: plain data, sizes in MiB (rounded up) unless a key says `_bytes`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from corral.plan.confirming import Comparison
from corral.plan.figures import Finding, Plan, PlannedGpu, PlannedHost, PlannedServer
from corral.plan.words import up_to_mib
from corral.yamlfile import Positions


def document(
    plan: Plan, positions: Positions, origins: Mapping[str, str], confirmed: Sequence[Comparison] = ()
) -> dict[str, Any]:
    """Return the plan as JSON can have it."""
    return {
        "fits": plan.fits,
        "margin_mib": up_to_mib(plan.margin_bytes),
        "servers": [_server(server, origins) for server in plan.servers],
        "gpus": [_gpu(gpu) for gpu in plan.gpus],
        "hosts": [_host(host) for host in plan.hosts],
        "findings": [_finding(finding, positions) for finding in plan.findings],
        **({"confirmed": [asdict(comparison) for comparison in confirmed]} if confirmed else {}),
    }


def _server(server: PlannedServer, origins: Mapping[str, str]) -> dict[str, Any]:
    of = server.server
    estimate = server.estimate
    return {
        "name": of.name,
        "model": of.model_name,
        "header": origins.get(of.model_name),
        "host": of.host_name,
        "gpu": of.gpu_index,
        "port": of.port,
        "threads": server.threads,
        "gpu_bytes": {**asdict(estimate.gpu), "total": estimate.gpu.total} if estimate else None,
        "host_bytes": _host_bytes(server),
        "gpu_layers": estimate.gpu_layers if estimate else None,
        "layers": estimate.layers if estimate else None,
        "context_slot": estimate.context_slot if estimate else None,
        "cache_ram_mib": server.cache_ram_mib if estimate else None,
        "memory_limit_mib": of.memory_mib,
        "unknown": server.unknown or None,
    }


def _host_bytes(server: PlannedServer) -> dict[str, int] | None:
    if server.estimate is None:
        return None
    host = server.estimate.host
    return {
        "mapped": host.mapped,
        "cache": host.cache,
        "compute": host.compute,
        "output": host.output,
        "programs": server.fixed_bytes - host.cache - host.compute - host.output,
        "fixed": server.fixed_bytes,
    }


def _gpu(gpu: PlannedGpu) -> dict[str, Any]:
    return {
        "host": gpu.host_name,
        "index": gpu.index,
        "name": gpu.gpu.name,
        "servers": [server.server.name for server in gpu.servers],
        "memory_mib": gpu.gpu.memory_mib,
        "used_mib": up_to_mib(gpu.used_bytes),
        "left_mib": gpu.left_bytes // 2**20,
        "known": gpu.known,
        "fits": gpu.fits,
    }


def _host(host: PlannedHost) -> dict[str, Any]:
    return {
        "name": host.name,
        "memory_mib": host.host.memory_mib,
        "need_mib": up_to_mib(host.need_bytes),
        "limits_mib": up_to_mib(host.limit_bytes),
        "mapped_mib": up_to_mib(host.mapped_bytes),
        "threads": host.threads,
        "cores": host.host.cores,
        "power_w": host.power_w,
        "power_budget_w": host.host.power_budget_w,
    }


def _finding(finding: Finding, positions: Positions) -> dict[str, Any]:
    return {
        "level": finding.level,
        "code": finding.code,
        "where": finding.where,
        "line": positions.of(finding.path).line,
        "what": finding.what,
        "mend": finding.mend or None,
        "mends": [
            {"text": mend.text, "edits": [{"path": list(edit.path), "value": edit.value} for edit in mend.edits]}
            for mend in finding.mends
        ],
    }
