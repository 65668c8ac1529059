"""A view as a terminal shows it."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from corral.top.view import GpuRow, ServerRow, View

_STATE_STYLES = {"ready": "green", "starting": "yellow", "restarting": "yellow", "draining": "yellow", "failed": "red"}
_HOT_C = 80
_GIB = 1 << 30
_CELLS = "▏▎▍▌▋▊▉█"
_NOTHING = "-"


def screen(view: View, farm: str, moment: str) -> RenderableType:
    """Return a frame.

    Args:
        view: what is in it.
        farm: the farm's name.
        moment: the clock.
    """
    busy, slots = (_sum(view, name) for name in ("busy", "slots"))
    speed = sum(row.tokens_per_s or 0 for row in view.servers)
    queued = _sum(view, "queued")
    head = Text.assemble(
        (farm, "bold"), f"  {moment}   slots {busy}/{slots} {_bar(busy, slots)}   queued {queued}   {speed:,.0f} tok/s"
    )
    parts: list[RenderableType] = [head, "", _servers(view)]
    if view.gpus:
        parts += ["", _gpus(view.gpus)]
    parts += ["", _keys(view), "", _faults(view)]
    return Group(*parts)


def _servers(view: View) -> Table:
    table = _table("SERVER", "MODEL", "STATE", ">SLOTS", "", ">QUEUE", ">TOK/S", ">REQ/S", ">TTFT", ">CACHED", ">LOST")
    for row in view.servers:
        table.add_row(
            escape(row.name),
            escape(row.model),
            Text(row.state, style=_STATE_STYLES.get(row.state, "red")),
            _slots(row),
            _bar(row.busy or 0, row.slots or 0),
            _or_nothing(row.queued, "{:d}"),
            _or_nothing(row.tokens_per_s, "{:,.1f}"),
            _or_nothing(row.requests_per_s, "{:,.1f}"),
            _seconds(row.ttft_p95_s),
            _or_nothing(row.cached_share, "{:.0%}"),
            Text(str(row.restarts), style="yellow" if row.restarts else ""),
        )
    return table


def _gpus(rows: tuple[GpuRow, ...]) -> Table:
    table = _table("GPU", "SERVERS", ">LOAD", "", ">MEMORY", ">TEMP", ">POWER", "HELD BACK BY")
    for row in rows:
        hot = row.temperature_c is not None and row.temperature_c >= _HOT_C
        table.add_row(
            f"{escape(row.name)} {row.gpu[-8:]}",
            escape(", ".join(row.servers)),
            _or_nothing(row.utilisation, "{:.0%}"),
            _bar(row.utilisation or 0, 1),
            _of(row.memory_used, row.memory_total, "{:.1f}", " GiB", _GIB),
            Text(_or_nothing(row.temperature_c, "{:.0f} °C"), style="red" if hot else ""),
            _of(row.power_w, row.power_limit_w, "{:.0f}", " W", 1),
            Text(", ".join(row.throttled), style="yellow"),
        )
    return table


def _keys(view: View) -> RenderableType:
    if not view.keys:
        return Text(f"keys: {view.keys_note}", style="dim")
    table = _table("BUSIEST KEYS", ">TOK/S", ">REQ/S")
    for row in view.keys:
        table.add_row(escape(row.alias), f"{row.tokens_per_s:,.1f}", f"{row.requests_per_s:,.1f}")
    return table


def _faults(view: View) -> RenderableType:
    if not view.faults:
        return Text("no fault seen", style="dim")
    return Group(Text("LAST FAULTS", style="bold"), *(Text(told) for told in view.faults))


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return table


def _slots(row: ServerRow) -> str:
    return _NOTHING if row.busy is None or row.slots is None else f"{row.busy}/{row.slots}"


def _sum(view: View, name: str) -> int:
    return sum(getattr(row, name) or 0 for row in view.servers)


def _bar(value: float, whole: float, cells: int = 8) -> Text:
    """Return a bar, an eighth of a cell exact."""
    share = min(1.0, value / whole) if whole else 0.0
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_CELLS[rest - 1] if rest else "")
    return Text(drawn.ljust(cells, "·"), style="red" if share > 0.9 else "yellow" if share > 0.6 else "green")


def _seconds(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _of(used: float | None, whole: float | None, form: str, unit: str, size: float) -> str:
    if used is None:
        return _NOTHING
    return form.format(used / size) + (f"/{form.format(whole / size)}" if whole else "") + unit


def _or_nothing(value: float | None, form: str) -> str:
    return _NOTHING if value is None else form.format(value)
