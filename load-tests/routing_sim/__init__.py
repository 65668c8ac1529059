"""A simulated farm that runs the routing hook's own code: `python -m routing_sim --help`."""
