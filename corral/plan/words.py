"""How figures and names are written in a plan."""

from collections.abc import Sequence

from corral.planner.memory import MIB


def mib(size_bytes: int) -> str:
    """Return bytes as whole MiB, rounded up: `6,942`."""
    return f"{up_to_mib(size_bytes):,}"


def up_to_mib(size_bytes: int) -> int:
    """Return bytes as whole MiB, rounded up."""
    return -(-size_bytes // MIB)


def span(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs joined: `0-2, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def server_names(names: Sequence[str]) -> str:
    """Return the names of one placement's servers: `llama-1 to llama-3`."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
