"""A plan for people: a table of servers, bars of GPUs and hosts, a line for each finding, and the verdict."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from corral.plan.bars import (
    CACHE,
    COMPUTE,
    FREE,
    LEGEND,
    MARGIN,
    OTHER,
    PROMPTS,
    TOO_MUCH,
    WEIGHTS,
    bar,
    gpu_bar,
    host_parts,
)
from corral.plan.confirming import Comparison
from corral.plan.figures import Finding, Plan, PlannedGpu, PlannedHost, PlannedServer
from corral.plan.on_servers import placements
from corral.plan.words import mib, server_names, span
from corral.planner.memory import MIB
from corral.yamlfile import Positions

_LETTER_STYLES = {
    WEIGHTS: "black on blue",
    CACHE: "black on cyan",
    COMPUTE: "black on magenta",
    PROMPTS: "black on green",
    OTHER: "black on white",
    FREE: "dim",
    MARGIN: "yellow",
    TOO_MUCH: "bold white on red",
}
_LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_RED = "bold red"


def show(
    plan: Plan, console: Console, positions: Positions | None = None, confirmed: Sequence[Comparison] = ()
) -> None:
    """Print a plan. With `positions`, a finding names its line in the file."""
    console.print(_servers(plan))
    if plan.gpus:
        console.print()
        console.print(_gpus(plan.gpus))
    console.print()
    console.print(_hosts([host for host in plan.hosts if host.servers or host.gate_bytes]))
    console.print(_legend())
    if confirmed:
        console.print()
        console.print(_comparisons(confirmed))
    if plan.findings:
        console.print()
    for finding in plan.findings:
        console.print(_line(finding, positions), soft_wrap=True)
    console.print()
    console.print(_verdict(plan), soft_wrap=True)


def _servers(plan: Plan) -> Table:
    table = Table("server, MiB each", "on", "ports", "slots x context", box=None, pad_edge=False)
    for name in ("weights", "KV", "compute", "other", "GPU", "host", "mapped", "prompts", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    full = {(gpu.host_name, gpu.index) for gpu in plan.gpus if not gpu.fits}
    for alike in placements(plan.servers):
        first = alike[0].server
        red = any((server.server.host_name, server.server.gpu_index) in full for server in alike)
        table.add_row(
            Text(server_names([server.server.name for server in alike]), _RED if red else ""),
            _where(alike),
            span([server.server.port for server in alike]),
            "" if first.model.mode == "image" else _context(alike[0]),
            *_figures(alike[0]),
            f"{first.memory_mib:,}" if first.memory_mib else "-",
        )
    return table


def _where(alike: Sequence[PlannedServer]) -> str:
    first = alike[0].server
    cards = [server.server.gpu_index for server in alike if server.server.gpu_index is not None]
    return f"{first.host_name} GPU {span(sorted(cards))}" if cards else f"{first.host_name} CPU"


def _context(server: PlannedServer) -> str:
    model = server.server.model
    kinds = dict.fromkeys((model.kv_cache.k, model.kv_cache.v))
    cache = f" {'/'.join(kinds)}" if server.estimate and server.estimate.gpu.cache + server.estimate.host.cache else ""
    return f"{model.slots} x {model.context:,}{cache}"


def _figures(server: PlannedServer) -> Iterator[str]:
    """Give a server's figures: of its GPU, or of the host where it has none."""
    if server.estimate is None:
        yield from ("?",) * 8
        return
    gpu, host = server.estimate.gpu, server.estimate.host
    if gpu.total:
        sizes = (gpu.weights, gpu.cache, gpu.compute + gpu.scratch, gpu.driver + gpu.projector)
    else:
        buffers = host.compute + host.output
        sizes = (host.mapped, host.cache, buffers, server.fixed_bytes - host.cache - buffers)
    yield from (mib(size) for size in sizes)
    yield mib(gpu.total) if gpu.total else "-"
    yield mib(server.fixed_bytes)
    yield mib(server.mapped_bytes)
    yield f"{server.cache_ram_mib:,}"


def _gpus(gpus: Sequence[PlannedGpu]) -> Table:
    table = Table("GPU", "servers", "memory", box=None, pad_edge=False)
    for name in ("used", "of MiB", "left", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for gpu in gpus:
        more = "" if gpu.known else " + ?"
        table.add_row(
            Text(f"{gpu.host_name} GPU {gpu.index} {gpu.gpu.name}".rstrip()),
            ", ".join(server.server.name for server in gpu.servers) or "-",
            _coloured(gpu_bar(gpu)),
            Text(f"{mib(gpu.used_bytes)}{more}", "" if gpu.fits else _RED),
            f"{gpu.gpu.memory_mib:,}",
            Text(f"{gpu.left_bytes // MIB:,}", "" if gpu.fits else _RED),
            mib(gpu.margin_bytes),
            Text("fits", "green") if gpu.fits else Text("DOES NOT FIT", _RED),
        )
    return table


def _hosts(hosts: Sequence[PlannedHost]) -> Table:
    table = Table("host", "memory", box=None, pad_edge=False)
    for name in ("used", "limits", "of MiB", "threads", "cores", "power W", "of W"):
        table.add_column(name, justify="right", no_wrap=True)
    for host in hosts:
        given = host.host.memory_mib
        short = given is not None and host.need_bytes > given * MIB
        table.add_row(
            host.name,
            _coloured(bar(host_parts(host), given * MIB)) if given else "",
            Text(mib(host.need_bytes), _RED if short else ""),
            mib(host.limit_bytes),
            f"{given:,}" if given else "?",
            str(host.threads) if host.threads else "?" if host.servers else "-",
            str(host.host.cores or "?"),
            str(host.power_w) if host.power_w else "-",
            str(host.host.power_budget_w or "-"),
        )
    return table


def _coloured(letters: str) -> Text:
    text = Text()
    for letter in letters:
        text.append(letter, _LETTER_STYLES[letter])
    return text


def _legend() -> Text:
    text = Text()
    for letter, meaning in LEGEND.items():
        text.append(letter, _LETTER_STYLES[letter])
        text.append(f" {meaning}  ")
    return text


def _comparisons(confirmed: Sequence[Comparison]) -> Table:
    table = Table("confirmed, MiB", "device", "part", box=None, pad_edge=False)
    for name in ("planned", "llama-server", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for comparison in confirmed:
        for row in comparison.rows:
            table.add_row(
                comparison.name, row.device, row.part, f"{row.planned_mib:,.1f}", f"{row.told_mib:,}",
                f"{row.planned_mib - row.told_mib:+,.1f}",
            )  # fmt: skip
    return table


def _line(finding: Finding, positions: Positions | None) -> Text:
    text = Text.assemble((finding.level, _LEVEL_STYLES[finding.level]), f": {finding}")
    if positions is not None and finding.level != "note":
        text.append(f" (line {positions.of(finding.path).line})", "dim")
    return text


def _verdict(plan: Plan) -> Text:
    errors = [finding.code for finding in plan.findings if finding.level == "error"]
    what = f"{_count(len(plan.servers), 'server')} on {_count(len(plan.hosts), 'host')}"
    if errors and set(errors) == {"unknown"}:
        return Text(f"Whether it fits is not known: {_count(len(errors), 'error')} with {what}.", _RED)
    if errors:
        return Text(f"It does not fit: {_count(len(errors), 'error')} with {what}.", _RED)
    margin = f", and each GPU keeps its margin of {mib(plan.margin_bytes)} MiB" if plan.gpus else ""
    return Text(f"It fits: {what}{margin}.", "green")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
