"""Run seeds again and tell what happened: ``python tests/simulation/replay.py SEED ...``."""

# ruff: noqa: T201 (it is a command)

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scenarios")]

from faults import scenario_of  # noqa: E402

from simulation import require_holds, simulate  # noqa: E402


def main() -> None:
    """Say what was planned, what the machines said, and how it ended."""
    for text in sys.argv[1:]:
        scenario = scenario_of(int(text))
        print(scenario)
        outcome = simulate(scenario)
        print(*outcome.told, sep="\n")
        print(
            f"{outcome.broken or 'everything holds'}; {len(outcome.rounds)} rounds closed, "
            f"{'finished' if outcome.is_finished else 'not finished'} after "
            f"{outcome.virtual_s:.0f} virtual s, {outcome.num_events} events, "
            f"{outcome.num_requests} requests, {outcome.num_checks} checks"
        )
        require_holds(outcome)


if __name__ == "__main__":
    main()
