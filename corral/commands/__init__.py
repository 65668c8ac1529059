"""The commands that start, show and stop the farm of this machine; the others stand with their subjects."""
