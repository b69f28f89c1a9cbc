"""Rows per second of `check` on generated Asterisk rows, against `pandas.read_csv` and a plain loop, in one run.

Usage: python tests/benchmarks/prepare.py [ROWS]     (default 1,000,000; needs about 300 MB of disk)

Each case is a process of its own; the rounds are interleaved and the best of each figure is taken, since other
work may share the machine. Where it does, the processor's seconds (user and system) tell more than the clock's.
The loop is timed on a tenth of the rows, scaled. Aims: at most 3x the time of read_csv, at least 10x faster than
the loop, peak memory under 350 MB.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/New_York")
FIRST_SECOND = int(datetime(2025, 1, 6, 13, tzinfo=UTC).timestamp())
ROUNDS = 3
LOOP_SHARE = 10


def generate(path: Path, rows: int) -> None:
    """Write a Master.csv of 18 columns: 48 % outgoing, of which a third unattended; 50,000 distinct customers."""
    rng = random.Random(1)
    customers = [f"1{rng.choice((212, 305, 415, 617, 702))}555{number:04d}" for number in range(100, 10_100)]
    customers += [f"+1{number}" for number in range(2_125_550_100, 2_125_590_100)]
    with path.open("w", newline="") as stream:
        for number in range(rows):
            stream.write(_row(number, rng, customers))


def _row(number: int, rng: random.Random, customers: list[str]) -> str:
    second = FIRST_SECOND + number * 20
    start = datetime.fromtimestamp(second, ZONE).strftime("%Y-%m-%d %H:%M:%S")
    agent = str(101 + rng.randrange(220))
    customer = customers[min(int(rng.paretovariate(0.4)), len(customers)) - 1]
    kind = rng.random()
    disposition = rng.choices(("ANSWERED", "NO ANSWER", "BUSY", "FAILED"), (62, 26, 9, 3))[0]
    if kind < 0.48:
        source, target, channel, far = agent, customer, f"PJSIP/{agent}", "PJSIP/trunk-a"
    elif kind < 0.78:
        source, target, channel, far = customer, agent, "PJSIP/trunk-a", f"PJSIP/{agent}"
    else:
        other = str(101 + rng.randrange(220))
        source, target, channel, far = agent, other, f"PJSIP/{agent}", f"PJSIP/{other}"
    answer = start if disposition == "ANSWERED" else ""
    context = "from-internal" if kind < 0.48 or kind >= 0.78 else "from-trunk"
    return (
        f'"","{source}","{target}","{context}","""User {source}"" <{source}>","{channel}-{number:08x}",'
        f'"{far}-{number + 1:08x}","Dial","PJSIP/{target}@trunk-a,30,rT","{start}","{answer}","{start}",'
        f'32,{30 if answer else 0},"{disposition}","DOCUMENTATION","{second}.{number}",""\n'
    )


CASES = {
    "import pandas": "import pandas",
    "read_csv": "import pandas, sys; pandas.read_csv(sys.argv[1], header=None, dtype=str)",
    "check": (
        "import sys; from importer.cli import run; sys.exit(run(['check', '--timezone', 'America/New_York',"
        " '--country', 'US', '--default-agent-number', '+12125550100', '--results', sys.argv[2], sys.argv[1]]))"
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a case takes: seconds on the clock and of the processor, and peak MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float = 0.0

    def best(self, other: "Cost") -> "Cost":
        """Return the lesser of each figure."""
        return Cost(
            min(self.seconds, other.seconds),
            min(self.cpu_seconds, other.cpu_seconds),
            min(self.peak_mb, other.peak_mb),
        )


def measure(code: str, *arguments: str) -> Cost:
    """Run code in a process of its own and return what it took."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if status not in (0, 3 << 8):
        raise SystemExit(f"a case failed with status {status >> 8}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def plain_loop(path: Path, rows: int) -> Cost:
    """Time the row by row way on a share of the rows, scaled: csv.DictReader, phonenumbers, datetime."""
    import phonenumbers

    names = [f"c{number}" for number in range(18)]
    begun, cpu_begun = time.perf_counter(), time.process_time()
    with path.open(newline="") as stream:
        for row in islice(csv.DictReader(stream, names), rows // LOOP_SHARE):
            local = datetime.strptime(row["c9"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE)
            local.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
            for text in (row["c1"], row["c2"]):
                try:
                    parsed = phonenumbers.parse(text, "US")
                except phonenumbers.NumberParseException:
                    continue
                if phonenumbers.is_valid_number(parsed):
                    phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    return Cost(seconds * LOOP_SHARE, cpu_seconds * LOOP_SHARE)


def main() -> None:
    """Measure and print the ratios."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Master.csv"
        generate(path, rows)
        best: dict[str, Cost] = {}
        for number in range(ROUNDS):
            for name, code in CASES.items():
                found = measure(code, str(path), str(Path(folder) / f"results-{number}.csv"))
                best[name] = found.best(best.get(name, found))
            found = plain_loop(path, rows)
            best["plain loop"] = found.best(best.get("plain loop", found))
    for name, cost in best.items():
        print(
            f"{name:<14} {cost.seconds:7.2f} s  {cost.cpu_seconds:7.2f} s of the processor  "
            f"{rows / cost.seconds:>10,.0f} rows/s  peak {cost.peak_mb:5.0f} MB"
        )
    check, read_csv, loop = best["check"], best["read_csv"], best["plain loop"]
    for what, of in (("clock", "seconds"), ("processor", "cpu_seconds")):
        print(
            f"by the {what}: check / read_csv = {getattr(check, of) / getattr(read_csv, of):.2f}   "
            f"plain loop / check = {getattr(loop, of) / getattr(check, of):.1f}"
        )


if __name__ == "__main__":
    main()
