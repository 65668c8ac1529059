"""`corral doctor`: looks at this machine and at the farm's servers, and says what is wrong and what mends it.

Each check is a small function that returns `Finding`s; none of them changes anything. What they need of the outside
(NVML, programs, the clock) is handed to them. `gpus`, `tools`, `host` and `network` hold the checks, `examination` runs
all of them, `cli` prints.
"""
