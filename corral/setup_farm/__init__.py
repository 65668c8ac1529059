"""`corral init`: a farm file that fits this machine, and the farm's secrets.

`surroundings` looks at the machine, `presets` knows which models fit which card, `draft` makes the farm file of both,
`command` asks and writes. Only `surroundings` and `command` touch anything outside.
"""
