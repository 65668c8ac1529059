"""The keeper: the one process that starts the farm's parts, restarts them, and stops them in order."""
