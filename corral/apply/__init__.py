"""Change a running farm to what its farm file says now, one server at a time, and put it back where that fails."""
