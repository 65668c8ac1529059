"""How the memory of a server's container is shared out, as far as it can be known without the model's file."""

from corral.farm import Server

CUDA_PROCESS_MIB = 350
"""Host memory of a llama-server with a CUDA context and no model: libraries, context, pinned staging buffers."""
WRAPPER_MIB = 100
"""The gpu-server around it: CPython, FastAPI, NVML; about 60 MiB, and bodies that it holds."""
BUFFERS_MIB = 128
"""Host side of compute buffers, output logits, and the page cache that reading the weights needs at least."""


def cache_ram_mib(server: Server) -> int | None:
    """Return llama-server's `--cache-ram` for a server; None to leave it to the gpu-server (512 MiB).

    llama-server's own default of 8,192 MiB in a container of 2,048 is an OOM kill that comes when it has been busy for
    a while. What counts against the limit and cannot be dropped is the process, the buffers and this cache; mapped
    weights are page cache, which the kernel takes back. On the CPU weights are read for every token and the KV cache
    lies in the same memory, so there at most a quarter of the rest goes to prompts.
    """
    model = server.model
    if model.mode != "chat":
        return 0  # only chats come back to a prompt
    if server.memory_mib is None:
        return model.cache_ram_mib
    on_gpu = server.gpu_index is not None
    left = server.memory_mib - WRAPPER_MIB - BUFFERS_MIB - (CUDA_PROCESS_MIB if on_gpu else 0)
    room = max(0, left if on_gpu else left // 4)
    return room if model.cache_ram_mib is None else min(model.cache_ram_mib, room)
