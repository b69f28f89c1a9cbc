"""By how many bytes a row raises the peak memory of `check --rejects`, from one number of rows to the next.

Rows that are rejected, since the customer's number is an extension, and rows that would be sent, each with an id
of its own. Aim: at most 60 bytes. Each run is a process of its own; what it takes anyway does not count, since
peaks are compared. Measured is the tree in which this is started: start it in two of them to compare.

Usage: python tests/benchmarks/memory.py [ROWS ...]     (default 1, 2 and 4 million; needs 4 GB of disk)
"""

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from load import write_calls
from prepare import measure

CHECK = (
    "import sys; from importer.cli import run; sys.exit(run(['check', '--timezone', 'America/New_York',"
    " '--country', 'US', '--default-agent-number', '+12125550100', '--results', sys.argv[2],"
    " '--rejects', sys.argv[3], sys.argv[1]]))"
)


def peak_bytes(customer: str, rows: int) -> float:
    """Return the peak memory of `check --rejects` of so many calls to this customer."""
    with tempfile.TemporaryDirectory() as name:
        export = write_calls(Path(name) / "Master.csv", rows, 1_600_000_000, customer)
        written = (export.with_name("results.csv"), export.with_name("rejects.csv"))
        return measure(CHECK, *map(str, (export, *written))).peak_mb * 2**20


def main() -> None:
    """Measure and print the growth."""
    counts = [int(word) for word in sys.argv[1:]] or [1_000_000, 2_000_000, 4_000_000]
    for kind, customer in (("rejected", "123"), ("to be sent", "12125550142")):
        peaks = [(rows, peak_bytes(customer, rows)) for rows in counts]
        print(f"{kind}: {peaks[0][1] / 2**20:.0f} MB for {counts[0]:,} rows")
        for (few, before), (many, after) in pairwise(peaks):
            print(f"{kind}: {(after - before) / (many - few):.0f} bytes a row from {few:,} to {many:,} rows")


if __name__ == "__main__":
    main()
