"""`corral load-test`: run a k6 script of load-tests/ against a farm, watch the farm beside it, keep the result.

`aim` says what is loaded and with which key, `k6` runs the script, `watch` looks at the farm's processes meanwhile,
`killing` ends servers for chaos.js, `soak` judges what changed over a long run, `samples` reads k6's raw figures.
"""
