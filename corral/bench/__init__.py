"""Runs of load tests, kept in a small SQLite file, and compared: `corral bench list`, `corral bench compare A B`."""
