"""The `corral` command line: brings a farm up on one machine, watches it and keeps its keys."""
