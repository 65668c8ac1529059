"""ggml's graph allocator, replayed: how large a buffer a compute graph needs.

llama.cpp reserves its compute buffer by running this allocator over its worst-case graph. The figure cannot be had from
a sum or a peak, since freed room is reused best-fit, in the order of the graph; so the same is done here on a small
copy of the graph. Source: ggml/src/ggml-alloc.c (`ggml_gallocr_alloc_graph_impl`) of llama.cpp b11434.
"""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Tensor:
    """A result in the graph. `root` is what a view looks into; a view takes no room of its own.

    `in_place`: the operation may write over a source of the same size that nothing else needs. `kept`: an output of
    the graph, whose room is never given to another.
    """

    bytes: int
    sources: tuple["Tensor", ...] = ()
    in_place: bool = False
    root: "Tensor | None" = None
    kept: bool = False


@dataclass(slots=True)
class Graph:
    """A compute graph in the order of execution, as the `ggml_*` functions would append to it."""

    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Tensor] = field(default_factory=list)

    def input(self, size: int) -> Tensor:
        """Add what the host gives; all inputs get their room before the first operation."""
        tensor = Tensor(size)
        self.inputs.append(tensor)
        return tensor

    def op(self, size: int, *sources: Tensor, in_place: bool = False) -> Tensor:
        """Add an operation whose result takes `size` bytes."""
        return self._add(Tensor(size, sources, in_place=in_place))

    def changed(self, source: Tensor, *others: Tensor) -> Tensor:
        """Add an operation that may write its result over `source`."""
        return self.op(source.bytes, source, *others, in_place=True)

    def view(self, source: Tensor) -> Tensor:
        """Add a view: a reshaped whole, or a part."""
        return self._add(Tensor(0, (source,), root=source.root or source))

    def use(self, *sources: Tensor) -> None:
        """Add an operation whose result lies elsewhere (in the KV cache)."""
        self.op(0, *sources)

    def keep(self, tensor: Tensor) -> None:
        """Mark an output of the graph: its room is never given to another."""
        (tensor.root or tensor).kept = True

    def _add(self, tensor: Tensor) -> Tensor:
        self.nodes.append(tensor)
        return tensor


def buffer_bytes(graph: Graph, alignment: int) -> int:
    """Return the bytes of the buffer that holds all of the graph's results, each when it is needed."""
    return _Allocator(alignment).run(graph)


class _Allocator:
    """Places tensors in one address space, lowest best fit first, and remembers how far up it got."""

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment
        self._free: list[tuple[int, int]] = []  # (offset, size) by offset, below the top
        self._top = 0
        self._highest = 0
        self._placed: dict[Tensor, tuple[int, int]] = {}
        self._users: dict[Tensor, int] = {}
        self._views: dict[Tensor, int] = {}

    def run(self, graph: Graph) -> int:
        for tensor in graph.inputs:
            self._place(tensor)
        for node in graph.nodes:
            if node.root is not None:
                self._views[node.root] = self._views.get(node.root, 0) + 1
            for source in node.sources:
                self._users[source] = self._users.get(source, 0) + 1
        for node in graph.nodes:
            if node.root is None and node.bytes:
                self._place_result(node)
            for source in node.sources:
                self._release(source)
        return self._highest

    def _place_result(self, node: Tensor) -> None:
        for parent in node.sources if node.in_place else ():
            if self._reusable(parent, node):
                self._placed[node] = self._placed.pop(parent)
                return
        self._place(node)

    def _reusable(self, parent: Tensor, node: Tensor) -> bool:
        """Say whether `node` may take over the room of `parent`; ggml never does so through a view."""
        return (
            parent.root is None
            and parent.bytes == node.bytes
            and not parent.kept
            and parent in self._placed
            and self._users.get(parent, 0) == 1
            and self._views.get(parent, 0) == 0
        )

    def _release(self, source: Tensor) -> None:
        self._users[source] -= 1
        if self._users[source] or self._views.get(source, 0):
            return
        owner = source
        if source.root is not None:
            owner = source.root
            self._views[owner] -= 1
            if self._views[owner] or self._users.get(owner, 0):
                return
        if owner in self._placed and not owner.kept:
            self._give_back(*self._placed.pop(owner))

    def _place(self, tensor: Tensor) -> None:
        size = -(-tensor.bytes // self._alignment) * self._alignment
        fitting = [(free, offset) for offset, free in self._free if free >= size]
        if fitting:
            free, offset = min(fitting, key=lambda block: (block[0], -block[1]))
            self._free.remove((offset, free))
            if free > size:
                self._free.append((offset + size, free - size))
                self._free.sort()
        else:
            offset = self._top
            self._top += size
            self._highest = max(self._highest, self._top)
        self._placed[tensor] = (offset, size)

    def _give_back(self, offset: int, size: int) -> None:
        blocks = sorted([*self._free, (offset, size)])
        merged: list[tuple[int, int]] = []
        for start, length in blocks:
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        if merged and merged[-1][0] + merged[-1][1] == self._top:
            self._top = merged.pop()[0]
        self._free = merged
