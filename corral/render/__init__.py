"""`corral render`: writes everything that a farm file decides, and nothing that it does not.

    loaded = load_farm(Path("corral.yaml"))
    for rendered in render(loaded.value): ...  # a path and its text; nothing is written

One module a target: `gpu_host` (compose.yaml of each GPU host), `litellm` and `proxy_host` (the gate), `prometheus`,
`k6`, `kubernetes`. Each builds plain data from typed parts; `document` alone makes text of it, so no string of a farm
file is ever pasted into another language. `writing` compares with what lies on the disk.
"""

from corral.render.document import HEADER, Rendered
from corral.render.farm import DEFAULT_TARGETS, Target, render

__all__ = ["DEFAULT_TARGETS", "HEADER", "Rendered", "Target", "render"]
