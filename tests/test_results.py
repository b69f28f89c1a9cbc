"""The results file: order, fates, what is private, what a spreadsheet must not run, what is kept and replaced."""

import csv
import errno
import io
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Program, call_row, cases, read_results, table, write_export
from importer.errors import CannotCreateError
from importer.ledger.values import Fate
from importer.pipeline.run import epoch_of
from importer.records import Call, Place, ResultRow
from importer.results.cells import defused, write_rows
from importer.results.file import CHUNK_ROWS, ResultsFile, complete_parts
from ledgers import execute
from misbehaviour import Fault, Simulator
from schemas.vocabulary import CallState, Outcome, State

CASES = cases("results")


def row(line: int, outcome: Outcome = Outcome.PENDING, **changes: str) -> ResultRow:
    """Return a row of the results."""
    return ResultRow(Place("export.csv", line), outcome, call_id=f"call{line}", **changes)


def call(line: int) -> Call:
    """Return a call of that line of another file."""
    place = Place("earlier.csv", line)
    return Call(
        f"call{line}", State.BUSY, "+12125550101", "+12125550102", "2026-03-02 14:00:00", "", "", "", place
    )


def fate(state: CallState) -> Fate:
    """Return a call's fate as the ledger has it."""
    return Fate(http_status=200, code="SUCCESS", attempts=2, state=state)


@pytest.mark.fault(142)
@table(("text", "cell"), CASES["formulas"])
def test_formulas_are_defused(text: str, cell: str) -> None:
    """What a spreadsheet would run gets a quote in front; strict E.164 and plain text stay."""
    assert defused(text) == cell


@given(st.lists(st.lists(st.text("a,\"\r\n '\u00e9"), min_size=2, max_size=4)))
def test_rows_as_csv(rows: list[list[str]]) -> None:
    """Rows are written byte by byte as `csv` writes them."""
    ours, others = (io.StringIO(newline="") for _ in range(2))
    write_rows(ours, rows)
    csv.writer(others, lineterminator="\r\n").writerows(rows)
    assert ours.getvalue() == others.getvalue()


def test_rejected_rows_take_little_memory(tmp_path: Path) -> None:
    """What is kept of a rejected row until the rejects are written takes less than 60 bytes."""
    results = ResultsFile(tmp_path / "r.csv")
    rows = 5000
    tracemalloc.start()
    try:
        results.add(
            (row(line, Outcome.REJECTED, reason="invalid_number") for line in range(2, rows + 2)), Outcome.PENDING
        )
        finished = results.finish(lambda _: {})
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(finished.to_mend["export.csv"]) == list(range(2, rows + 2))
    assert kept / rows < 60


def test_more_rows_than_one_chunk(tmp_path: Path) -> None:
    """More rows than the ledger is asked for at once: every row stands there once, in order."""
    results = ResultsFile(tmp_path / "r.csv")
    count = CHUNK_ROWS * 2 + 1
    results.add((row(line) for line in range(count)), Outcome.PENDING)
    finished = results.finish(lambda ids: {each: fate(CallState.ACCEPTED) for each in ids})
    assert [each["call_id"] for each in read_results(tmp_path / "r.csv")] == [
        f"call{line}" for line in range(count)
    ]
    assert finished.outcomes == {Outcome.ACCEPTED: count}


@pytest.mark.fault(34)
def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A file that somebody else made under the results' name in mid-run stays, and the run says so."""
    results = ResultsFile(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text("mine")
    with pytest.raises(CannotCreateError):
        results.finish(lambda _: {})
    assert (tmp_path / "r.csv").read_text() == "mine"


def test_where_a_file_has_one_name(
    export: Path, account: Simulator, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, results and their page are made on file systems without hard links too, as on a stick."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    assert program("import", "--init-ledger", "--results", tmp_path / "r.csv", export).code == 0
    assert program("report", tmp_path / "r.csv").code == 0
    assert {path.name for path in tmp_path.iterdir() if "ledger" not in path.name} == {
        "export.csv",
        "r.csv",
        "r.csv.html",
    }
    assert not list(tmp_path.glob("*.new"))


def test_name_that_is_too_long(program: Program, tmp_path: Path) -> None:
    """Results of a file with a long name have its beginning; a chosen name needs room for the parts beside it."""
    export = write_export(tmp_path / f"{'日' * 83}.csv", [call_row(1)])
    assert program("check", export).code == 0
    assert [path.name[:66] for path in tmp_path.glob("*.results-*")] == ["日" * 66]
    refused = program("check", "--results", tmp_path / f"{'x' * 239}.csv", export)
    assert (refused.code, "its name is 1 byte too long for" in refused.stderr) == (73, True)


def test_death_between_a_rename_and_tidying(tmp_path: Path) -> None:
    """Results that have their name already, which a run died on before it removed their parts, are known again."""
    results, path = ResultsFile(tmp_path / "r.csv"), tmp_path / "r.csv"
    results.add([row(1)], Outcome.PENDING)
    results.sync()
    results.leave()
    taken = lambda ids: {each: fate(CallState.ACCEPTED) for each in ids}  # noqa: E731
    parts = {each: each.read_bytes() for each in tmp_path.iterdir()}
    results.finish(taken)
    for part, content in parts.items():  # what a rename leaves of them; a link would leave the last one too
        part.write_bytes(content)
    assert (complete_parts(path, "dead", taken), [*tmp_path.iterdir()]) == ("", [path])


LONG_AGO = "2026-01-02 03:04:05"


def test_old_results_are_deleted(program: Program, account: Simulator, tmp_path: Path) -> None:
    """--keep-results deletes what earlier runs wrote long ago, but for results of open calls and changed files."""
    ledger = tmp_path / "ledger.sqlite"
    names = ("open", "settled", "changed", "other", "older", "latest")
    results = {name: tmp_path / f"{name}.csv" for name in names}
    for number, path in enumerate(results.values()):
        if number == 0:
            account.script(Fault.lost_answer())
        export = write_export(tmp_path / "export.csv", [call_row(number), call_row(number + 100, to="104")])
        kept = ("--keep-results", "90d", "--max-uncertain", "9", "--results", path)
        if path.name == "latest.csv":
            execute(ledger, f"UPDATE runs SET started_at = '{LONG_AGO}', finished_at = '{LONG_AGO}'")
            results["other"].write_text("mine\n")
            written = epoch_of(LONG_AGO)
            moments = {"changed": time.time(), "older": written - 3600}
            for name, old in results.items():
                if old.exists():
                    os.utime(old, (1, moments.get(name, written)))
        program("import", "--init-ledger", *kept, export)
    assert {name for name, path in results.items() if path.exists()} == {*names} - {"settled"}
    program("resolve", "call00000", "--sent", "--note", "n")
    assert program("deliver", "--keep-results", "99999d").code == 0  # from before 1970
    program("deliver", "--keep-results", "90d")
    assert not results["open"].exists()


def test_reasons_beside_rejects(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Each row of the rejects has its line there, its place in the input, reason and hint in a second file."""
    account.script(Fault.refusal("INVALID_DATA"))
    folder = tmp_path / "in"
    folder.mkdir()
    write_export(folder / "1.csv", [call_row(1), call_row(2), 'dialed,busy,"half\nof it",+12125550101'])
    write_export(folder / "2.csv", [call_row(3, to="104")])
    rejects, results = tmp_path / "mend.csv", tmp_path / "results.csv"
    assert program("import", "--init-ledger", "--rejects", rejects, "--results", results, folder).code == 3
    with (tmp_path / "mend.reasons.csv").open(newline="") as stream:
        said = list(csv.DictReader(stream))
    lines = rejects.read_text().splitlines()
    told = {(row["file"], row["line"]): (row["reason"], row["hint"]) for row in read_results(results)}
    places = [(str(folder / "1.csv"), "2"), (str(folder / "1.csv"), "4"), (str(folder / "2.csv"), "2")]
    assert [(row["file"], row["line"]) for row in said] == places
    assert [(row["reason"], row["hint"]) for row in said] == [told[place] for place in places]
    starts = [lines[int(row["rejects_line"]) - 1] for row in said]
    assert starts == [call_row(1), 'dialed,busy,"half', call_row(3, to="104")]
    ran = program("check", "--results", tmp_path / "again.csv", rejects, tmp_path / "mend.reasons.csv")
    assert "mend.reasons.csv is a results file of this program: passed over" in ran.stderr
    assert program("import", "--rejects", rejects.with_name("mend.reasons.csv"), folder).code == 73
