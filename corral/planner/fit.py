"""What would make a server fit: for the mend of a plan that does not, with exact numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from corral.gguf.header import Header
from corral.gguf.shape import model_shape
from corral.gguf.tensor_types import BY_NAME
from corral.planner.estimate_server import CONTEXT_STEP, ServerShape
from corral.planner.memory import estimate

# The types that llama.cpp's CUDA kernels take without a build of their own (GGML_CUDA_FA_ALL_QUANTS).
CHEAPER_TYPES = ("f16", "q8_0", "q4_0")


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Settings that fit, each with one thing changed; None where no value of it does.

    Attributes:
        context: the largest context (a multiple of 256 a slot), up to what the model was trained for.
        slots: the most slots, each with the context it was to have.
        cache_type: the best type of the KV cache, of those no larger than the one asked for.
        gpu_layers: the most layers on the GPU.
    """

    context: ServerShape | None
    slots: ServerShape | None
    cache_type: ServerShape | None
    gpu_layers: ServerShape | None

    def mend(self, server: ServerShape) -> str:
        """Return "context 12,288 would fit, or 1 slot, or q4_0 cache, or 29 layers"; empty if nothing helps.

        Only what asks for less than `server` does is named.
        """
        words = []
        if self.context and self.context.context < server.context:
            words.append(f"context {self.context.context:,}")
        if self.slots and self.slots.slots < server.slots:
            count = self.slots.slots
            words.append(f"{count} slot{'s' if count > 1 else ''} with context {self.slots.context:,}")
        if self.cache_type and self.cache_type.type_k != server.type_k:
            words.append(f"{self.cache_type.type_k} cache")
        if self.gpu_layers and self.gpu_layers.gpu_layers < server.gpu_layers:
            words.append(f"{self.gpu_layers.gpu_layers} layers on the GPU")
        return f"{words[0]} would fit{''.join(f', or {word}' for word in words[1:])}" if words else ""


def largest_that_fits(header: Header, server: ServerShape, budget_bytes: int) -> Alternatives:
    """Find, for each setting alone, the largest value with which the server needs at most `budget_bytes` of its GPU.

    The budget is what is left of the GPU for this server: without the other servers on it and without the margin.

    Raises:
        GgufError: as `estimate`.
    """
    return _Search(header, server, budget_bytes).alternatives()


class _Search:
    """Tries settings against the budget."""

    def __init__(self, header: Header, server: ServerShape, budget_bytes: int) -> None:
        self._header = header
        self._server = server
        self._budget = budget_bytes
        self._model = model_shape(header)

    def alternatives(self) -> Alternatives:
        return Alternatives(
            context=self._context(), slots=self._slots(), cache_type=self._cache_type(), gpu_layers=self._gpu_layers()
        )

    def _fits(self, server: ServerShape) -> bool:
        return estimate(self._header, server).gpu.total <= self._budget

    def _context(self) -> ServerShape | None:
        shares = 1 if self._server.kv_unified else self._server.slots
        step = CONTEXT_STEP * shares
        asked = -(-self._server.context // step)
        most = max(self._model.context_train * self._server.slots // step, asked, 1)
        return self._largest(most, lambda steps: replace(self._server, context=steps * step))

    def _slots(self) -> ServerShape | None:
        a_slot = self._server.context if self._server.kv_unified else self._server.context // self._server.slots

        def with_slots(count: int) -> ServerShape:
            context = a_slot if self._server.kv_unified else a_slot * count
            return replace(self._server, slots=count, context=max(context, 1))

        most = self._server.slots
        while most < _MOST_SLOTS and self._fits(with_slots(most)):
            most = min(2 * most, _MOST_SLOTS)
        return self._largest(most, with_slots)

    def _cache_type(self) -> ServerShape | None:
        size = _bits(self._server.type_k) + _bits(self._server.type_v)
        for name in CHEAPER_TYPES:
            if 2 * _bits(name) > size or (BY_NAME[name].quantised and self._server.flash_attention == "off"):
                continue
            candidate = replace(self._server, type_k=name, type_v=name)
            if self._fits(candidate):
                return candidate
        return None

    def _gpu_layers(self) -> ServerShape | None:
        return self._largest(self._model.layer_count + 1, lambda count: replace(self._server, gpu_layers=count))

    def _largest(self, most: int, make: Callable[[int], ServerShape]) -> ServerShape | None:
        """Return the settings with the largest number from 1 to `most` that fit; sizes grow with the number."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(make(middle)):
                low = middle
            else:
                high = middle - 1
        return make(low) if low else None


_MOST_SLOTS = 256  # LLAMA_MAX_SEQ


def _bits(name: str) -> float:
    kind = BY_NAME[name]
    return 8 * kind.block_bytes / kind.block
