"""Compare ways to choose servers on simulated farms, the same requests for each, and print a table."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from routing_sim.engine import Card
from routing_sim.experiment import POLICIES, WORKLOADS, run

HEAD = (
    "workload",
    "policy",
    "TTFT median",
    "p95",
    "p99",
    "cached of best",
    "prefill work",
    "uneven",
    "prefill busy",
    "refused",
    "failed",
)


def main() -> None:
    """Run all workloads under all policies, the same requests for each."""
    parser = argparse.ArgumentParser(prog="routing_sim", description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[8], help="sizes of farms")
    parser.add_argument("--seconds", type=float, default=3600, help="simulated time of each run")
    parser.add_argument("--workers", type=int, default=2, help="LiteLLM's processes")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES, help="least-busy always")
    names = [one.name for one in WORKLOADS]
    parser.add_argument("--workloads", nargs="+", choices=names, default=names, help="these alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=int, default=100_000, help="tokens a server keeps besides its slots")
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
    if given.validate:
        from routing_sim import validate as validation

        sys.exit(
            validation.main(
                conversations=given.conversations, turns=given.turns, seed=given.seed, each_s=given.each_s,
                runs=given.runs, json_to=given.json,
            )
        )  # fmt: skip
    card = Card(tokens_kept=given.kept)
    rows = []
    for servers in given.servers:
        print(f"\n{servers} servers, {given.workers} workers, {given.seconds:g} s, seed {given.seed}\n")
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
        for workload in [one for one in WORKLOADS if one.name in given.workloads]:
            got = {
                policy: run(
                    workload, policy, servers, seed=given.seed, until=given.seconds, workers=given.workers, card=card
                )
                for policy in POLICIES
                if policy in given.policies or policy == "least-busy"
            }
            base = got["least-busy"]
            for policy, one in got.items():
                rows.append({"servers": servers, "workload": workload.name, "policy": policy, **asdict(one)})
                figures = (
                    f"{one.ttft_median_s:.2f} s", f"{one.ttft_p95_s:.2f} s", f"{one.ttft_p99_s:.2f} s",
                    f"{one.cached_of_best:.0%}" if one.cached_of_best else "-",
                    f"{one.prefilled_tokens / base.prefilled_tokens:.2f}", f"{one.uneven:.0%}",
                    f"{one.utilisation:.0%}",
                    str(one.refused), str(one.failed),
                )  # fmt: skip
                print(f"| {workload.name} | {policy} | {' | '.join(figures)} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
