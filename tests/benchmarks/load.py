"""What a ledger of some years costs: three figures that must not grow.

* `deliver` with nothing to send: after an end that leaves no doubt about the ledger, against one that has it read
  through. Aim: 1 s.
* `import` of calls that the ledger knows, against one of as many new calls, none of them sent. Aim: at most 1.
* `import` of known calls, against one that looks no attended calls up. Aim: at most 1.10.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from costs import Cost, measure, medians
from exports import write_calls

from importer.ledger.beside import file_mark, read_generation, write_generation
from importer.ledger.schema import create_ledger

NOWHERE = "http://127.0.0.1:9"
RUN = "import sys; from importer.cli import run; code = run(sys.argv[1:]); sys.exit(3 if code == 69 else code)"
WITHOUT = (
    "import numpy; from importer.prepare.rows import RowPreparer;"
    " RowPreparer._held = lambda preparer, rows, conditions: numpy.zeros((2, len(rows)), dtype=numpy.bool_); "
)
IMPORT = (
    *("import", "--yes", "--timezone", "America/New_York", "--country", "US"),
    *("--default-agent-number", "+12125550100", "--results"),
)


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


def closed(ledger: Path, *, doubt: bool = False) -> None:
    """Make the ledger one that a run has closed, or one that the next run has to read through."""
    write_generation(ledger, read_generation(ledger).number or 0, "" if doubt else file_mark(ledger))


def forget_new(ledger: Path) -> None:
    """Take out what an import of new calls left."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("DELETE FROM payloads")
        connection.execute("DELETE FROM calls WHERE state = 'pending'")
    closed(ledger)


def figures(calls: int, rows: int, rounds: int) -> Iterator[tuple[str, Cost, Cost, str]]:
    """Yield each figure as its name, what it and its baseline take, and the aim."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        account(folder)
        ledger = folder / "ledger.sqlite"
        create_ledger(ledger, now="2025-01-01 00:00:00")
        known = write_calls(folder / "known.csv", rows, 1_700_000_000, "12125550142")
        new = write_calls(folder / "new.csv", rows, 1_800_000_000, "12125550142")
        measure("-c", RUN, *IMPORT, str(folder / "first.csv"), str(known))
        count = accept_everything(ledger, calls)

        def deliver(number: int, *, doubt: bool) -> Cost:
            closed(ledger, doubt=doubt)
            return measure("-c", RUN, "deliver", "--results", str(folder / f"deliver-{doubt}-{number}.csv"))

        def take_in(number: int, *, export: Path, code: str = RUN) -> Cost:
            results = folder / f"{export.stem}-{len(code)}-{number}.csv"
            cost = measure("-c", code, *IMPORT, str(results), str(export))
            forget_new(ledger)
            return cost

        cases: dict[str, Callable[[int], Cost]] = {
            "sound": partial(deliver, doubt=False),
            "doubt": partial(deliver, doubt=True),
            "known": partial(take_in, export=known),
            "new": partial(take_in, export=new),
            "without": partial(take_in, export=known, code=WITHOUT + RUN),
        }
        found = medians(cases, rounds)
        held = f"ledger of {count:,} calls"
        yield f"deliver nothing, {held}; baseline: it is read through", found["sound"], found["doubt"], "1 s"
        yield f"import {rows:,} known calls, {held}; baseline: new calls", found["known"], found["new"], "1"
        yield "the same; baseline: no attended calls looked up", found["known"], found["without"], "1.10"
