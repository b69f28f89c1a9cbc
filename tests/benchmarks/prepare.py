"""Rows per second of `check` on generated Asterisk rows, against `pandas.read_csv` and a plain loop, in one run.

Usage: python tests/benchmarks/prepare.py [ROWS]     (default 1,000,000; needs about 300 MB of disk)

Each case is a process of its own; the rounds are interleaved and the fastest of each is taken, since other work
may share the machine. The loop is timed on a tenth of the rows, scaled. Aims: at most 3x the time of read_csv, at
least 10x faster than the loop, peak memory under 350 MB.
"""

import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
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


def measure(code: str, *arguments: str) -> tuple[float, float]:
    """Run code in a process of its own; return seconds and peak MB."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = _wait(process.pid)
    seconds = time.perf_counter() - begun
    if status not in (0, 3 << 8):
        raise SystemExit(f"a case failed with status {status >> 8}")
    return seconds, usage.ru_maxrss / 1024


def _wait(pid: int) -> tuple[int, int, resource.struct_rusage]:
    import os

    return os.wait4(pid, 0)


def plain_loop(path: Path, rows: int) -> float:
    """Time the row by row way: csv.DictReader, phonenumbers, datetime; return seconds."""
    import phonenumbers

    names = [f"c{number}" for number in range(18)]
    begun = time.perf_counter()
    with path.open(newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream, names)):
            if number == rows:
                break
            local = datetime.strptime(row["c9"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE)
            local.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
            for text in (row["c1"], row["c2"]):
                try:
                    parsed = phonenumbers.parse(text, "US")
                except phonenumbers.NumberParseException:
                    continue
                if phonenumbers.is_valid_number(parsed):
                    phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print the ratios."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Master.csv"
        generate(path, rows)
        best: dict[str, tuple[float, float]] = {}
        for number in range(ROUNDS):
            for name, code in CASES.items():
                found = measure(code, str(path), str(Path(folder) / f"results-{number}.csv"))
                best[name] = min(best.get(name, found), found)
        loop = plain_loop(path, rows // LOOP_SHARE) * LOOP_SHARE
    for name, (seconds, peak) in best.items():
        print(f"{name:<14} {seconds:7.2f} s  {rows / seconds:>10,.0f} rows/s  peak {peak:5.0f} MB")
    print(f"{'plain loop':<14} {loop:7.2f} s  {rows / loop:>10,.0f} rows/s  (a share of {LOOP_SHARE}, scaled)")
    check = best["check"][0]
    print(f"check / read_csv = {check / best['read_csv'][0]:.2f}   plain loop / check = {loop / check:.1f}")


if __name__ == "__main__":
    main()
