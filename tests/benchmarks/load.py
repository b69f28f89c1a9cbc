"""What a ledger of some years costs: two figures that must not grow.

* `deliver` with nothing to send: after an end that leaves no doubt about the ledger, against one that has it read
  through. Aim: 1 s.
* `import` of calls that the ledger knows, against one of as many new calls, none of them sent. Aim: at most 1.

Each case is a process of its own, the rounds are interleaved, and the median of each figure is taken; where other
work shares the machine, the processor's seconds (user and system) tell more than the clock's.

Usage: python tests/benchmarks/load.py [CALLS] [ROWS]     (default 5,000,000 in the ledger; 100,000 in each export)
"""

import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from attended import IMPORT, accept_everything, account
from prepare import Cost, measure

from importer.ledger import create_ledger
from importer.ledger.beside import file_mark, read_generation, write_generation

ROUNDS = 3
FIRST = datetime(2025, 1, 6, 13, tzinfo=UTC)
DELIVER = "import sys; from importer.cli import run; sys.exit(run(['deliver', '--results', sys.argv[1]]))"


def write_calls(path: Path, count: int, first_id: int, customer: str) -> Path:
    """Write a Master.csv of so many unanswered outgoing calls to one customer."""
    with path.open("w", newline="") as stream:
        for number in range(count):
            start = f"{FIRST + timedelta(seconds=20 * number):%Y-%m-%d %H:%M:%S}"
            agent = 101 + number % 200
            stream.write(
                f'"","{agent}","{customer}","from-internal","""User"" <{agent}>","PJSIP/{agent}-{number:08x}",'
                f'"PJSIP/trunk-{number + 1:08x}","Dial","PJSIP/{customer}@trunk,30","{start}","","{start}",32,0,'
                f'"BUSY","DOCUMENTATION","{first_id + number}.1",""\n'
            )
    return path


def closed(ledger: Path, *, doubt: bool = False) -> None:
    """Make the ledger one that a run has closed, or one that the next run has to read through."""
    write_generation(ledger, read_generation(ledger).number or 0, "" if doubt else file_mark(ledger))


def forget_new(ledger: Path) -> None:
    """Take out what an import of new calls left."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("DELETE FROM payloads")
        connection.execute("DELETE FROM calls WHERE state = 'pending'")
    closed(ledger)


def compare(cases: dict[str, Callable[[int], Cost]]) -> None:
    """Run two cases in turn and print what they took, and the ratio of the first to the second."""
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name, case in cases.items():
            costs[name].append(case(number))
    (one, ones), (other, others) = costs.items()
    for what, of in (("clock", "seconds"), ("processor", "cpu_seconds")):
        first, second = (statistics.median(getattr(cost, of) for cost in each) for each in (ones, others))
        print(f"by the {what}: {one} {first:.2f} s, {other} {second:.2f} s, ratio {first / second:.2f}")


def main() -> None:
    """Measure and print the two figures."""
    calls, rows = (int(word) for word in [*sys.argv[1:], *("5000000", "100000")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        account(folder)
        ledger = folder / "ledger.sqlite"
        create_ledger(ledger, now="2025-01-01 00:00:00")
        known = write_calls(folder / "known.csv", rows, 1_700_000_000, "12125550142")
        new = write_calls(folder / "new.csv", rows, 1_800_000_000, "12125550142")
        measure(IMPORT, str(known), str(folder / "first.csv"))
        print(f"{accept_everything(ledger, calls):,} calls in the ledger of {ledger.stat().st_size >> 20} MiB")

        def deliver(case: str, number: int) -> Cost:
            closed(ledger, doubt=case == "doubt")
            return measure(DELIVER, str(folder / f"deliver-{case}-{number}.csv"))

        def take_in(export: Path, number: int) -> Cost:
            cost = measure(IMPORT, str(export), str(folder / f"{export.stem}-{number}-results.csv"))
            forget_new(ledger)
            return cost

        print("deliver with nothing to send")
        compare({case: partial(deliver, case) for case in ("closed", "doubt")})
        print(f"import of {rows:,} calls")
        compare({export.stem: partial(take_in, export) for export in (known, new)})


if __name__ == "__main__":
    main()
