"""A plan for people: a table of servers, bars of GPUs and hosts, a line for each finding, and the verdict."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from corral.plan import bars
from corral.plan.confirming import Comparison
from corral.plan.figures import Finding, Plan, PlannedGpu, PlannedHost, PlannedServer
from corral.plan.on_servers import placements
from corral.plan.words import mib, span
from corral.planner.memory import MIB
from corral.yamlfile import Positions

_LETTER_STYLES = {
    bars.WEIGHTS: "black on blue",
    bars.CACHE: "black on cyan",
    bars.COMPUTE: "black on magenta",
    bars.PROMPTS: "black on green",
    bars.OTHER: "black on white",
    bars.FREE: "dim",
    bars.MARGIN: "yellow",
    bars.TOO_MUCH: "bold white on red",
}
_LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_RED = "bold red"

_WIDE = 140  # columns that the wide table takes; below, it is cut in two and bars are short
_NARROW_BAR = 16
_WORDS = ("on", "ports", "slots x context")
_ON_DEVICE = ("on", "weights", "KV", "compute", "other", "GPU")
_ON_HOST = ("ports", "slots x context", "host", "mapped", "prompts", "limit")
_COLUMNS = (*_WORDS, *_ON_DEVICE[1:], *_ON_HOST[2:])


def show(
    plan: Plan, console: Console, positions: Positions | None = None, confirmed: Sequence[Comparison] = ()
) -> None:
    """Print a plan. With `positions`, a finding names its line in the file."""
    wide = console.width >= _WIDE
    for columns in (_COLUMNS,) if wide else (_ON_DEVICE, _ON_HOST):
        console.print(_servers(plan, columns))
        console.print()
    if plan.gpus:
        console.print(_gpus(plan.gpus, wide=wide))
        console.print()
    hosts = [host for host in plan.hosts if host.servers or host.gate_bytes]
    console.print(_hosts(hosts, bars.WIDTH if wide else _NARROW_BAR))
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


def _servers(plan: Plan, columns: Sequence[str]) -> Table:
    table = Table(_folded("server, MiB each"), box=None, pad_edge=False)
    for name in columns:
        table.add_column(
            name, justify="left" if name in _WORDS else "right", no_wrap=name not in _WORDS, overflow="fold"
        )
    full = {(gpu.host_name, gpu.index) for gpu in plan.gpus if not gpu.fits}
    for alike in placements(plan.servers):
        red = any((server.server.host_name, server.server.gpu_index) in full for server in alike)
        cells = dict(zip(_COLUMNS, _cells(alike), strict=True))
        table.add_row(Text(_names(alike), _RED if red else ""), *(cells[name] for name in columns))
    return table


def _names(alike: Sequence[PlannedServer]) -> str:
    """Return `llama-1..3`."""
    first, last = alike[0].server.name, alike[-1].server.name
    return first if len(alike) == 1 else f"{first}..{last.rpartition('-')[2]}"


def _cells(alike: Sequence[PlannedServer]) -> Iterator[str]:
    """Give the columns' cells of a placement."""
    first = alike[0]
    yield _where(alike)
    yield span([server.server.port for server in alike])
    yield "" if first.server.model.mode == "image" else _context(first)
    yield from _figures(first)
    yield f"{first.server.memory_mib:,}" if first.server.memory_mib else "-"


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


def _gpus(gpus: Sequence[PlannedGpu], *, wide: bool) -> Table:
    table = Table(_folded("GPU"), _folded("servers"), Column("memory", no_wrap=True), box=None, pad_edge=False)
    for name in ("used", "of MiB", "left", *(("margin",) if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for gpu in gpus:
        more = "" if gpu.known else " + ?"
        table.add_row(
            Text(f"{gpu.host_name} GPU {gpu.index} {gpu.gpu.name}".rstrip()),
            ", ".join(server.server.name for server in gpu.servers) or "-",
            _coloured(bars.gpu_bar(gpu, bars.WIDTH if wide else _NARROW_BAR)),
            Text(f"{mib(gpu.used_bytes)}{more}", "" if gpu.fits else _RED),
            f"{gpu.gpu.memory_mib:,}",
            Text(f"{gpu.left_bytes // MIB:,}", "" if gpu.fits else _RED),
            *((mib(gpu.margin_bytes),) if wide else ()),
            Text("fits", "green") if gpu.fits else Text("DOES NOT FIT", _RED),
        )
    return table


def _hosts(hosts: Sequence[PlannedHost], width: int) -> Table:
    table = Table(_folded("host"), Column("memory", no_wrap=True), box=None, pad_edge=False)
    for name in ("used", "limits", "of MiB", "threads", "cores", "power W", "of W"):
        table.add_column(name, justify="right", no_wrap=True)
    for host in hosts:
        given = host.host.memory_mib
        short = given is not None and host.need_bytes > given * MIB
        table.add_row(
            host.name,
            _coloured(bars.bar(bars.host_parts(host), given * MIB, width=width)) if given else "",
            Text(mib(host.need_bytes), _RED if short else ""),
            mib(host.limit_bytes),
            f"{given:,}" if given else "?",
            str(host.threads) if host.threads else "?" if host.servers else "-",
            str(host.host.cores or "?"),
            str(host.power_w) if host.power_w else "-",
            str(host.host.power_budget_w or "-"),
        )
    return table


def _folded(title: str) -> Column:
    """Return a column whose words go on below where there is no room, and are never cut off."""
    return Column(title, overflow="fold")


def _coloured(letters: str) -> Text:
    text = Text()
    for letter in letters:
        text.append(letter, _LETTER_STYLES[letter])
    return text


def _legend() -> Text:
    text = Text()
    for letter, meaning in bars.LEGEND.items():
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
