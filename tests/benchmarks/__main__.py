"""Every figure of speed against its named baseline, as one table: ``python -m tests.benchmarks [PART...]``.

Each case is a process of its own, except staging and posts; the rounds are interleaved, and medians are shown:
seconds of the processor, then of the clock. A ratio is ours by the baseline's, and its aim holds for the processor
unless it says otherwise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import deliver
import load
from costs import ROOT, Cost, measure, medians
from exports import write_master

from importer.ledger.ledger import Ledger
from importer.ledger.schema import create_ledger
from importer.ledger.values import RunInfo
from importer.records import Call
from tests.clusters import REASON, cluster

Row = tuple[str, str, str, str, str]
"""Figure with its baseline, ours, the baseline's, ratio, aim."""
CHECK = (
    *("-m", "importer", "check", "--timezone", "Europe/Berlin", "--country", "DE"),
    *("--default-agent-number", "+493012345678", "--results"),
)
STAGED = 100_000
LOOP_SHARE = 10
"""The plain loop is timed on a tenth of the rows, scaled."""


def row(figure: str, ours: Cost, baseline: Cost, aim: str) -> Row:
    """Return what two cases took as a row of the table."""
    ratio = f"{ours.cpu_seconds / baseline.cpu_seconds:.2f}, clock {ours.seconds / baseline.seconds:.2f}"
    return figure, *(f"{each.cpu_seconds:.2f} s, {each.seconds:.2f} s" for each in (ours, baseline)), ratio, aim


def check(folder: Path, *paths: Path, options: tuple[str, ...] = ()) -> Cost:
    """Check exports into results of their own."""
    results = folder / "results.csv"
    results.unlink(missing_ok=True)
    return measure(*CHECK, str(results), *options, *map(str, paths))


def peer(folder: Path, name: str, export: Path, *arguments: str, python: str = sys.executable) -> Cost:
    """Read an export in one of the ways of `baselines`."""
    file = str(Path(__file__).with_name("baselines.py"))
    return measure(file, name, str(export), str(folder / "peer.csv"), *arguments, python=python)


def loop(folder: Path, export: Path, rows: int) -> Cost:
    """Return what the plain loop would take for all rows."""
    return Cost(*(LOOP_SHARE * each for each in peer(folder, "loop", export, str(rows // LOOP_SHARE))))


def cut(export: Path, rows: int) -> list[Path]:
    """Return files of so many rows each that are together the export."""
    parts = []
    with export.open("rb") as source:
        for first in source:  # not all at once: a process begins with the peak of the one that starts it
            parts.append(export.with_name(f"part{len(parts)}.csv"))
            with parts[-1].open("wb") as target:
                target.writelines(chain([first], islice(source, rows - 1)))
    return parts


def check_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Check one large export, and two halves of it by two processes, against everything."""
    export = write_master(folder / "Master.csv", given.rows)
    cases: dict[str, Callable[[int], Cost]] = {
        "check": lambda _: check(folder, export),
        "read_csv": lambda _: peer(folder, "read_csv", export),
        "plain loop": lambda _: loop(folder, export, given.rows),
    }
    aims = {"read_csv": "1.8", "plain loop": "0.05", "polars": "2.2", "jobs": "clock 1.8"}
    if given.peer_python:
        cases["polars"] = lambda _: peer(folder, "polars", export, python=given.peer_python)
    else:
        print("polars: left out, --peer-python names no interpreter that has it")
    if "--jobs" in subprocess.run([sys.executable, *CHECK[:3], "--help"], capture_output=True, text=True).stdout:
        halves = cut(export, given.rows // 2)
        cases["jobs"] = lambda _: check(folder, *halves, options=("--jobs", "2"))
    else:
        print("--jobs 2: left out, `check` has no such option")
    found = medians(cases, given.rounds)
    ours, jobs = found.pop("check"), found.pop("jobs", None)
    for name, baseline in found.items():
        yield row(f"check, {given.rows:,} rows; {name}", ours, baseline, aims[name])
    if jobs and "polars" in found:
        yield row("check --jobs 2, the same in two files; polars", jobs, found["polars"], aims["jobs"])
    yield f"check, {given.rows:,} rows: peak memory", f"{ours.peak_mb:.0f} MiB", "", "", "350 MiB"


def cluster_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Check four files by two workers of a Dask cluster, which are there before, and by one process."""
    if REASON:
        print(f"cluster: left out, {REASON}")
        return
    export = write_master(folder / "Master.csv", 4 * given.rows)
    parts = cut(export, given.rows)
    export.unlink()
    results = set()
    with cluster(folder / "cluster", 2) as found:

        def checked(_: int, scheduler: bool) -> Cost:
            chosen = ("--scheduler", found.address) if scheduler else ("--jobs", "1")
            before = sum(map(cpu_seconds, found.processes))
            cost = check(folder, *parts, options=chosen)
            results.add(sha256((folder / "results.csv").read_bytes()).hexdigest())
            return cost._replace(cpu_seconds=cost.cpu_seconds + sum(map(cpu_seconds, found.processes)) - before)

        cases = {"cluster": partial(checked, scheduler=True), "one": partial(checked, scheduler=False)}
        costs = medians(cases, given.rounds)
    bytes_are = "same bytes" if len(results) == 1 else "OTHER BYTES"
    figure = f"check --scheduler, 2 workers, 4 files of {given.rows:,} rows; one process"
    yield row(figure, costs["cluster"], costs["one"], f"clock 0.67, {bytes_are}")


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return what a process that goes on has taken of the processor (Linux)."""
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def memory_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Compare the peak memory of `check` of ten times as many rows; each is run once."""
    few, many = (
        check(folder, write_master(folder / "Master.csv", rows)).peak_mb for rows in (given.rows, 10 * given.rows)
    )
    figure = f"peak memory of check, {10 * given.rows:,} rows; {given.rows:,} rows"
    yield figure, f"{many:.0f} MiB", f"{few:.0f} MiB", f"{many / few:.2f}", "1.3, 450 MiB"


def cold_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Check a small file, which is imports above all."""
    sample = ROOT / "sample_data/asterisk-csv/day.csv"
    cases: dict[str, Callable[[int], Cost]] = {
        "check": lambda _: check(folder, sample, options=("--timezone", "America/New_York", "--country", "US")),
        "pandas": lambda _: measure("-c", "import pandas"),
    }
    found = medians(cases, max(given.rounds, 9))
    yield row("check, 37 rows; import pandas", found["check"], found["pandas"], "1.4")


def staging_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Take calls into the ledger, new to it and known."""
    todo = deliver.calls("staged", STAGED)

    def add(number: int, kind: str) -> Cost:
        path = folder / f"{number}.sqlite"
        if kind == "new":
            create_ledger(path, now=deliver.NOW)
        run = RunInfo(kind, deliver.NOW, "0")
        with Ledger.open(path, run=run, now=lambda: deliver.NOW) as ledger, ledger.staging() as staging:
            return Cost(
                *deliver.seconds_of(lambda: staging.add(todo, retry_refused=False, resend_uncertain=False))
            )

    kinds = {"new": "30,000/s", "known": "60,000/s"}
    for kind, cost in medians({kind: partial(add, kind=kind) for kind in kinds}, given.rounds).items():
        yield f"staging, {STAGED:,} {kind} calls", f"{STAGED / cost.seconds:,.0f}/s", "", "", kinds[kind]


def posts_part(folder: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Post calls with all records of the ledger, and with bare sessions of requests, to one simulator."""
    aims = {1: "clock 1.54, 0.8 s", 4: "clock 1.25, 0.8 s", 16: "clock 1, 0.8 s"}
    with deliver.sandbox() as base_url:
        token = deliver.access_token(base_url)
        yield "one sync of the disk", f"{1000 * deliver.sync_seconds(folder):.2f} ms", "", "", ""
        cases: dict[str, Callable[[str, list[Call], int], deliver.Seconds]] = {
            "ours": partial(deliver.ours, folder),
            "bare": lambda _, todo, workers: deliver.bare(base_url, token, todo, workers),
        }

        def posted(number: int, kind: str, workers: int) -> Cost:
            name = f"{kind}{number}w{workers}"
            return Cost(*cases[kind](name, deliver.calls(name, deliver.CALLS), workers))

        for workers, aim in aims.items():
            found = medians({kind: partial(posted, kind=kind, workers=workers) for kind in cases}, given.rounds)
            figure = f"{deliver.CALLS:,} posts, {workers} workers; sessions of requests"
            yield row(figure, found["ours"], found["bare"], aim)


def load_part(_: Path, given: argparse.Namespace) -> Iterator[Row]:
    """Measure what a ledger of some years costs."""
    yield from (row(*each) for each in load.figures(5 * given.rows, given.rows // 10, given.rounds))


PARTS = {
    each.__name__.removesuffix("_part"): each
    for each in (check_part, cluster_part, cold_part, staging_part, posts_part, load_part, memory_part)
}


def main() -> None:
    """Run the parts that are named and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument(
        "parts", nargs="*", choices=(*PARTS, "all"), default="all", metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large export (1,000,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter with polars and phonenumbers")
    parser.add_argument("--long", action="store_true", help="memory too: ten times the rows, 5 GB of disk")
    given = parser.parse_args()
    usual = [name for name in PARTS if given.long or name != "memory"]
    names = usual if "all" in given.parts else given.parts
    rows: list[Row] = [("Figure; baseline", "Ours", "Baseline", "Ratio", "Aim")]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"HOME": folder, "POLARS_MAX_THREADS": "2"}
            rows += PARTS[name](Path(folder), given)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    for cells in rows:
        print("|", " | ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)), "|")


if __name__ == "__main__":
    main()
