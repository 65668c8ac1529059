"""Compare ways to choose servers on simulated farms, the same requests for each, and print a table."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from routing_sim import tables
from routing_sim.engine import Card
from routing_sim.experiment import POLICIES, WORKLOADS, Workload, run
from routing_sim.outcome import Outcome


def main() -> None:
    """Run all workloads under all policies, the same requests for each."""
    given = _arguments()
    if given.validate:
        from routing_sim import validate as validation

        sys.exit(
            validation.main(
                conversations=given.conversations, turns=given.turns, seed=given.seed, each_s=given.each_s,
                runs=given.runs, json_to=given.json,
            )
        )  # fmt: skip
    workloads = [one for one in WORKLOADS if one.name in given.workloads]
    if given.prompt_each_s:
        workloads = [replace(one, prompt_each_s=given.prompt_each_s) for one in workloads if one.prompt_each_s]
    policies = [one for one in POLICIES if one in given.policies or one == "least-busy"]
    rows = []
    for servers in given.servers:
        seeds = f"seed {given.seed}" + (f" to {given.seed + given.rounds - 1}" if given.rounds > 1 else "")
        print(f"\n{servers} servers, {given.workers} workers, {given.seconds:g} s, {seeds}\n")
        found = _compare(workloads, policies, servers, given)
        rows += [{"servers": servers, "workload": name, "policy": policy, **asdict(one)} for name, policy, one in found]
        if given.details:
            print("", tables.head(tables.DETAILS_HEAD), *(tables.details(*one) for one in found), sep="\n")
            uneven = [one for one in found if len(one[2].by_speed) > 1]
            if uneven:
                lines = [line for one in uneven for line in tables.of_speeds(*one)]
                print("", tables.head(tables.SPEEDS_HEAD), *lines, sep="\n")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def _compare(
    workloads: Sequence[Workload], policies: Sequence[str], servers: int, given: argparse.Namespace
) -> list[tuple[str, str, Outcome]]:
    """Run and print row by row; return workload, policy and outcome of each."""
    print(tables.head(tables.HEAD), flush=True)
    card = Card(tokens_kept=given.kept, batch=given.batch)
    found = []
    for workload in workloads:
        got = {
            policy: run(
                workload, policy, servers, seed=given.seed, until=given.seconds, workers=given.workers, card=card,
                rounds=given.rounds,
            )
            for policy in policies
        }  # fmt: skip
        for policy, one in got.items():
            print(tables.row(workload.name, policy, one, got["least-busy"]), flush=True)
            found.append((workload.name, policy, one))
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="routing_sim", description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[8], help="sizes of farms")
    parser.add_argument("--seconds", type=float, default=3600, help="simulated time of each run")
    parser.add_argument("--workers", type=int, default=2, help="LiteLLM's processes")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES, help="least-busy always")
    names = [one.name for one in WORKLOADS]
    parser.add_argument("--workloads", nargs="+", choices=names, default=names, help="these alone")
    parser.add_argument(
        "--prompt-each-s", type=float, help="another load: seconds a single prompt, of a server of speed 1"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="runs with this seed and those after it, taken together")
    parser.add_argument("--kept", type=int, default=100_000, help="tokens a server keeps besides its slots")
    parser.add_argument("--batch", type=int, default=Card.batch, help="tokens a server computes in one go: its N_BATCH")
    parser.add_argument(
        "--details", action="store_true", help="more percentiles, and what came of each speed's servers"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    validate = parser.add_argument_group("--validate", "hold the simulator against two real servers")
    validate.add_argument("--validate", action="store_true", help="do that instead; exit 1 if 15 %% apart or more")
    validate.add_argument("--conversations", type=int, default=12)
    validate.add_argument("--turns", type=int, default=5)
    validate.add_argument("--each-s", type=float, default=4.0, help="seconds between two that begin")
    validate.add_argument("--runs", type=int, default=2, help="of each policy, some two minutes each")
    given = parser.parse_args()
    if (
        min(given.conversations, given.turns, given.runs) < 1
        or given.conversations * given.turns < 2
        or given.each_s <= 0
    ):
        parser.error("--conversations, --turns, --runs and --each-s are above 0, and one turn alone compares nothing")
    if min(given.rounds, given.workers, given.batch, *given.servers) < 1 or given.seconds <= 0:
        parser.error("--servers, --workers, --rounds, --batch and --seconds are above 0")
    if given.prompt_each_s is not None:
        if given.prompt_each_s <= 0:
            parser.error("--prompt-each-s is above 0")
        if not any(one.prompt_each_s for one in WORKLOADS if one.name in given.workloads):
            parser.error("--prompt-each-s: none of these workloads has single prompts")
    return given


if __name__ == "__main__":
    main()
