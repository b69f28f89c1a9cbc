"""What looking attended calls up costs an `import`, on generated Asterisk rows and a ledger of some years.

The file was imported before, so nothing is sent: the look-up then weighs most. Each case is a process of its own,
the rounds are interleaved, and the median of each figure is taken; where other work shares the machine, the
processor's seconds (user and system) tell more than the clock's. Aim: at most 1.10.

Usage: python tests/benchmarks/attended.py [ROWS] [CALLS]     (default 300,000; other calls in the ledger: 500,000)
"""

import os
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from prepare import Cost, generate, measure

from importer.ledger import create_ledger

ROUNDS = 5
NOWHERE = "http://127.0.0.1:9"
IMPORT = (
    "import sys; from importer.cli import run; code = run(['import', '--yes', '--timezone', 'America/New_York',"
    " '--country', 'US', '--default-agent-number', '+12125550100', '--results', sys.argv[2], sys.argv[1]]);"
    " sys.exit(3 if code == 69 else code)"
)
WITHOUT = (
    "import numpy; from importer.prepare.rows import RowPreparer;"
    " RowPreparer._held = lambda preparer, rows, conditions: numpy.zeros((2, len(rows)), dtype=numpy.bool_); "
)
CASES = {"without": WITHOUT + IMPORT, "with": IMPORT}


def account(folder: Path) -> None:
    """Put an account into the environment that nobody answers for: nothing is ever sent to it."""
    os.environ["HOME"] = str(folder)
    words = {"LEDGER": str(folder / "ledger.sqlite"), "ACCOUNTS_URL": NOWHERE, "API_URL": NOWHERE}
    words |= dict.fromkeys(("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"), "none")
    os.environ.update({f"CDR_IMPORTER_{name}": value for name, value in words.items()})


def accept_everything(ledger: Path, others: int) -> int:
    """Make the ledger hold its calls, and so many others, as accepted long ago; return how many it has."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE calls SET state = 'accepted', seq = NULL, sent_at = '2025-01-07 00:00:00'")
        connection.execute("DELETE FROM payloads")
        connection.execute(
            """WITH RECURSIVE numbers (number) AS
                    (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)
                INSERT INTO calls (call_id, fingerprint, state, attempts, sent_at)
                SELECT lower(hex(randomblob(16))), randomblob(16), 'accepted', 1, '2025-01-01 00:00:00'
                FROM numbers ORDER BY 1""",
            (others,),
        )
        return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


def main() -> None:
    """Measure and print the ratio."""
    rows, others = (int(word) for word in [*sys.argv[1:], *("300000", "500000")[len(sys.argv) - 1 :]])
    costs: dict[str, list[Cost]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        account(folder)
        generate(folder / "Master.csv", rows)
        create_ledger(folder / "ledger.sqlite", now="2025-01-01 00:00:00")
        measure(IMPORT, str(folder / "Master.csv"), str(folder / "first.csv"))
        calls = accept_everything(folder / "ledger.sqlite", others)
        for number in range(ROUNDS):
            for case, code in CASES.items():
                results = folder / f"{case}-{number}.csv"
                costs[case].append(measure(code, str(folder / "Master.csv"), str(results)))
    print(f"{rows:,} rows, {calls:,} calls in the ledger, median of {ROUNDS} rounds")
    for what, of in (("clock", "seconds"), ("processor", "cpu_seconds")):
        without, with_it = (statistics.median(getattr(cost, of) for cost in costs[case]) for case in CASES)
        print(f"by the {what}: {without:.2f} s without, {with_it:.2f} s with it, ratio {with_it / without:.3f}")


if __name__ == "__main__":
    main()
