"""The compute graph of a model in outline: which results it makes, in which order, how large.

The graph is that of llama.cpp's worst case (`llama_context::sched_reserve`): one full pass over `tokens` with the whole
cache in use. It is built from the tensors that the file has, not from a list of architectures; it follows
src/llama-graph.cpp (`build_inp_embd`, `build_qkv`, `build_attn_mha`, `build_ffn`, `build_moe_ffn`) of b11434.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from corral.gguf.header import Header, TensorInfo
from corral.gguf.shape import Layer, ModelShape
from corral.planner.estimate_allocator import Graph, Tensor
from corral.planner.estimate_server import Resolved

_FLOAT, _HALF, _INDEX, _LONG = 4, 2, 4, 8
_ROTATED_HEADS = 64  # quantised caches of heads of a multiple of this are rotated (Hadamard) before they are stored
_PLAIN_LAYERNORM = frozenset({"bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe"})


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The tensors of one layer by their short names ("attn_q"), and what their shapes say."""

    tensors: Mapping[str, TensorInfo]

    def has(self, name: str) -> bool:
        return name in self.tensors

    def rows(self, name: str) -> int:
        """Length of the result of a product with the tensor; 0 if the layer has none."""
        tensor = self.tensors.get(name)
        return tensor.shape[1] if tensor and len(tensor.shape) > 1 else 0


def compute_graph(header: Header, model: ModelShape, run: Resolved) -> Graph:
    """Return the outline of the graph that llama.cpp reserves its compute buffer for."""
    return _Builder(header, model, run).build()


def blocks_of(header: Header, count: int) -> tuple[_Blocks, ...]:
    """Return the tensors of each of the first `count` layers."""
    layers: list[dict[str, TensorInfo]] = [{} for _ in range(count)]
    for tensor in header.tensors:
        if tensor.name.startswith("blk."):
            _, index, rest = tensor.name.split(".", 2)
            if index.isdecimal() and int(index) < count:
                name = rest.removesuffix(".weight")
                layers[int(index)][name] = tensor
    return tuple(_Blocks(tensors) for tensors in layers)


class _Builder:
    """Appends the operations of one pass to a graph."""

    def __init__(self, header: Header, model: ModelShape, run: Resolved) -> None:
        self._model = model
        self._run = run
        self._graph = Graph()
        self._blocks = blocks_of(header, len(model.layers))
        self._names = {tensor.name for tensor in header.tensors}
        self._tokens = run.tokens
        self._masks: dict[int, Tensor] = {}
        self._key_index: Tensor
        self._value_index: Tensor
        self._rotation: Tensor

    def build(self) -> Graph:
        hidden = self._embed()
        outputs = self._graph.input(_INDEX * self._run.outputs)
        selected = self._representative_layers()
        for index in selected:
            last = index == selected[-1]
            hidden = self._layer(index, hidden, outputs if last else None)
        self._head(hidden)
        return self._graph

    def _representative_layers(self) -> list[int]:
        """Return the layers to lay out: all that differ, each with a neighbour; the rest repeat them exactly."""
        kinds = [self._kind(index) for index in range(len(self._model.layers))]
        count = len(kinds)
        seen: dict[tuple[object, object], int] = {}
        chosen = {0, 1, count - 2, count - 1}
        for index in range(1, count):
            pair = (kinds[index - 1], kinds[index])
            if pair not in seen:
                seen[pair] = index
                chosen |= {index - 1, index}
        return sorted(index for index in chosen if 0 <= index < count)

    def _kind(self, index: int) -> object:
        shapes = tuple(sorted((name, tensor.shape) for name, tensor in self._blocks[index].tensors.items()))
        return self._model.layers[index], shapes

    def _row(self, length: int, tokens: int | None = None) -> int:
        return _FLOAT * length * (self._tokens if tokens is None else tokens)

    def _embed(self) -> Tensor:
        """The input, three ways (tokens, embeddings, both mixed): the graph keeps the results of all of them."""
        graph, width = self._graph, self._row(self._model.embedding)
        tokens = graph.input(_INDEX * self._tokens)
        graph.input(width)
        mixed_tokens, mixed_slots = graph.input(_INDEX * self._tokens), graph.input(_LONG * self._tokens)
        mixed = graph.input(width)
        self._positions = graph.input(_INDEX * self._tokens)
        hidden = graph.op(width, tokens)
        rows = graph.op(width, mixed_tokens)
        copied = graph.op(width, mixed)
        graph.keep(copied)
        graph.use(rows, mixed_slots, copied)
        self._attention_inputs()
        if "position_embd.weight" in self._names:
            hidden = graph.changed(graph.op(width, self._positions), hidden)
        if "token_embd_norm.weight" in self._names:
            hidden = graph.op(width, hidden)
        return hidden

    def _attention_inputs(self) -> None:
        run, graph, model = self._run, self._graph, self._model
        length = max((layer.key_length for layer in model.layers), default=0)
        rotations = run.type_k.quantised + run.type_v.quantised
        self._rotation = graph.input(rotations * _FLOAT * length * length if model.kv_cache else 0)
        widest = max((layer.value_row for layer in model.layers), default=0)
        for layer in model.layers:
            if not layer.key_row or layer.window in self._masks:
                continue
            if model.kv_cache:
                self._key_index = graph.input(_LONG * self._tokens)
                self._value_index = graph.input(_LONG * self._tokens * (1 if run.flash else widest))
            cells = self._cells(layer) if model.kv_cache else self._tokens
            self._masks[layer.window] = graph.input((_HALF if run.flash else _FLOAT) * cells * self._tokens)

    def _cells(self, layer: Layer) -> int:
        return window_cells(layer.window, self._run)

    def _layer(self, index: int, hidden: Tensor, outputs: Tensor | None) -> Tensor:
        graph, block, layer = self._graph, self._blocks[index], self._model.layers[index]
        residual = hidden
        current = graph.changed(hidden) if block.has("attn_norm") else hidden
        if layer.state_row:
            current = self._recurrent(block, layer, current)
        if layer.key_row:
            current = self._attention(block, layer, current)
        if outputs is not None:
            chosen = self._row(self._model.embedding, self._run.outputs)
            current, residual = graph.op(chosen, current, outputs), graph.op(chosen, residual, outputs)
        tokens = self._run.outputs if outputs is not None else self._tokens
        current = self._post_norm(current, block, "post_attention_norm")
        current = graph.changed(current, residual)
        current = self._post_norm(current, block, "attn_output_norm")
        current = self._feed_forward(block, current, tokens)
        return self._post_norm(current, block, "layer_output_norm")

    def _post_norm(self, current: Tensor, block: _Blocks, name: str) -> Tensor:
        if not block.has(name):
            return current
        # RMS norms are done in place, plain ones are not.
        if self._model.architecture in _PLAIN_LAYERNORM:
            return self._graph.op(current.bytes, current)
        return self._graph.changed(current)

    def _attention(self, block: _Blocks, layer: Layer, current: Tensor) -> Tensor:
        query, key, value = self._query_key_value(block, layer, current)
        graph, run = self._graph, self._run
        mask = self._masks[layer.window]
        if self._model.kv_cache:
            graph.use(key, self._key_index)
            graph.use(value, self._value_index)
            sources = self._read_cache(layer)
        elif run.flash:
            keys, values = self._row(layer.key_row) // 2, self._row(layer.value_row) // 2  # in f16
            sources = (graph.op(keys, key), graph.op(values, value))
        else:
            sources = (key, graph.op(self._row(layer.value_row), value))
        heads = max(layer.heads, 1)
        result = self._row(heads * layer.value_length)
        if run.flash:
            current = graph.op(result, query, *sources, mask)
        else:
            cells = self._cells(layer) if self._model.kv_cache else self._tokens
            scores = graph.op(self._row(heads * cells), query, *sources[:1])
            scores = graph.changed(scores, mask)
            current = graph.op(result, graph.op(result, scores, *sources[1:]))
        if self._rotated(layer, run.type_v.quantised):
            current = graph.op(result, current, self._rotation)
        return graph.op(self._row(self._model.embedding), current)

    def _read_cache(self, layer: Layer) -> tuple[Tensor, ...]:
        """The cache lies elsewhere, but flash attention has one of f32 copied to f16."""
        if not self._run.flash:
            return ()
        cells = self._run.streams * self._cells(layer)
        rows = ((self._run.type_k, layer.key_row), (self._run.type_v, layer.value_row))
        return tuple(self._graph.op(_HALF * row * cells) for kind, row in rows if kind.name == "f32" and row)

    def _query_key_value(self, block: _Blocks, layer: Layer, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        graph, heads = self._graph, max(layer.heads, 1)
        query_bytes = self._row(block.rows("attn_q") or heads * layer.key_length)
        key_bytes, value_bytes = self._row(layer.key_row), self._row(layer.value_row or layer.key_row)
        if block.has("attn_kv_a_mqa"):
            return self._latent(layer, current)
        if block.has("attn_qkv"):
            joined = graph.op(query_bytes + key_bytes + value_bytes, current)
            value = graph.view(joined)
            query = graph.op(query_bytes, graph.view(joined), self._positions)
            key = graph.op(key_bytes, graph.view(joined), self._positions)
            return query, key, value
        turned = bool(self._model.rope_dimensions) and "position_embd.weight" not in self._names
        query = self._projection(query_bytes, current, turned=turned)
        query = self._rotate(layer, query, self._run.type_k.quantised)
        value = self._rotate(layer, graph.op(value_bytes, current), self._run.type_v.quantised)
        key = self._projection(key_bytes, current, turned=turned)
        return query, self._rotate(layer, key, self._run.type_k.quantised), value

    def _projection(self, size: int, current: Tensor, *, turned: bool) -> Tensor:
        """A query or key; norms and rotary positions work on a reshaped view, so that their result is another."""
        projected = self._graph.op(size, current)
        return self._graph.op(size, self._graph.view(projected), self._positions) if turned else projected

    def _latent(self, layer: Layer, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Multi-head latent attention: the query is made in parts that are joined; an upper bound, all at once."""
        graph, query_bytes = self._graph, self._row(max(layer.heads, 1) * layer.key_length)
        parts = graph.op(query_bytes, current)
        absorbed = graph.op(query_bytes, parts)
        key = graph.op(self._row(layer.key_row), current)
        return graph.op(query_bytes, absorbed, parts), key, key

    def _rotate(self, layer: Layer, tensor: Tensor, quantised: bool) -> Tensor:
        return self._graph.op(tensor.bytes, tensor, self._rotation) if self._rotated(layer, quantised) else tensor

    def _rotated(self, layer: Layer, quantised: bool) -> bool:
        return self._model.kv_cache and quantised and layer.key_length % _ROTATED_HEADS == 0

    def _feed_forward(self, block: _Blocks, current: Tensor, tokens: int) -> Tensor:
        if not any(block.has(name) for name in ("ffn_up", "ffn_up_exps", "ffn_gate_up_exps")):
            return current
        graph = self._graph
        inner = graph.changed(current) if block.has("ffn_norm") else current
        results = list(self._feed_forwards(block, inner, tokens))
        result = results[0]
        for other in results[1:]:
            result = graph.changed(result, other)
        result = self._post_norm(result, block, "post_ffw_norm")
        return graph.changed(result, current)

    def _feed_forwards(self, block: _Blocks, current: Tensor, tokens: int) -> Iterator[Tensor]:
        if block.has("ffn_up_exps") or block.has("ffn_gate_up_exps"):
            yield self._experts(block, current, tokens)
        for up, gate in (("ffn_up", "ffn_gate"), ("ffn_up_shexp", "ffn_gate_shexp")):
            if block.has(up):
                yield self._dense(block, up, gate, current, tokens)

    def _dense(self, block: _Blocks, up: str, gate: str, current: Tensor, tokens: int) -> Tensor:
        graph = self._graph
        rows = block.rows(up)
        inner_length = block.tensors[up.replace("up", "down")].shape[0]
        if block.has(gate):
            gated = graph.op(self._row(rows, tokens), current)
            inner = graph.op(self._row(rows, tokens), gated, graph.op(self._row(rows, tokens), current))
        elif rows != inner_length:  # gate and up in one tensor
            inner = graph.op(self._row(inner_length, tokens), graph.op(self._row(rows, tokens), current))
        else:
            inner = graph.changed(graph.op(self._row(rows, tokens), current))
        return graph.op(self._row(self._model.embedding, tokens), inner)

    def _experts(self, block: _Blocks, current: Tensor, tokens: int) -> Tensor:
        graph, model = self._graph, self._model
        used = max(model.experts_used, 1)
        down = block.tensors["ffn_down_exps"]
        probabilities = graph.changed(graph.op(self._row(model.experts, tokens), current))
        order = graph.op(self._row(model.experts, tokens), probabilities)
        chosen = graph.view(order)
        weights = graph.op(self._row(used, tokens), probabilities, chosen)
        weights = graph.changed(weights, graph.op(self._row(1, tokens), weights))
        width = self._row(used * down.shape[0], tokens)
        if block.has("ffn_gate_up_exps"):
            joined = graph.op(2 * width, current, chosen)
            inner = graph.op(width, graph.view(joined), graph.view(joined))
        else:
            gate = graph.op(width, current, chosen)
            inner = graph.op(width, gate, graph.op(width, current, chosen))
        outputs = graph.changed(graph.op(self._row(used * model.embedding, tokens), inner, chosen), weights)
        views = [graph.view(outputs) for _ in range(used)]
        total = graph.op(self._row(model.embedding, tokens), *views[:2])
        for view in views[2:]:
            total = graph.changed(total, view)
        return total

    def _recurrent(self, block: _Blocks, layer: Layer, current: Tensor) -> Tensor:
        """A state-space or linear-attention layer, bounded: its projections, convolution and states all at once."""
        graph, slots = self._graph, self._run.slots
        states = graph.op(_FLOAT * layer.state_row * slots, current)
        projections = [
            graph.op(self._row(tensor.shape[1]), current)
            for name, tensor in block.tensors.items()
            if len(tensor.shape) == 2 and name.startswith(("ssm_", "time_mix", "shortconv", "attn_qkv", "attn_gate"))
        ]
        widest = max((projection.bytes for projection in projections), default=current.bytes)
        scanned = graph.op(2 * widest + _FLOAT * layer.state_row * slots, states, *projections)
        return graph.op(self._row(self._model.embedding), graph.op(widest, scanned))

    def _head(self, hidden: Tensor) -> None:
        graph, run, model = self._graph, self._run, self._model
        rows = run.outputs
        if "output_norm.weight" in self._names:
            hidden = graph.changed(hidden)
        graph.keep(hidden)
        if model.kv_cache or model.recurrent:
            graph.keep(graph.op(self._row(model.vocabulary, rows), hidden))
        if run.embeddings and model.pooling == "mean":
            means = graph.input(_FLOAT * rows * run.slots)
            graph.keep(graph.op(self._row(model.embedding, run.slots), graph.op(hidden.bytes, hidden), means))


def window_cells(window: int, run: Resolved) -> int:
    """Return the tokens that a layer's cache holds a stream: all, or what a sliding window and a pass over it need.

    Source: llama-kv-cache-iswa.cpp.
    """
    if not window:
        return run.cells
    wanted = min(run.cells, window * (run.slots if run.streams == 1 else 1) + run.ubatch)
    return -(-wanted // 256) * 256
