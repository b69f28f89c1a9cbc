"""The results file: order, fates, what is private, what a spreadsheet must not run, and what is never replaced."""

import tracemalloc
from pathlib import Path

import pytest

from conftest import read_results, table
from importer.errors import CannotCreateError
from importer.ledger import Fate
from importer.records import Call, Place, ResultRow
from importer.results import CHUNK_ROWS, ResultsFile, defused
from schemas.vocabulary import RESULT_COLUMNS, CallState, Outcome, State


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
@table(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1 212", "'+1 212"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("  =1", "'  =1"),
        ("\u200b=1", "'\u200b=1"),
        ("\u00a0\ufeff=1", "'\u00a0\ufeff=1"),
        ("\uff1d1", "'\uff1d1"),
        ("+12125550101", "+12125550101"),
        ("+12125550101=1", "'+12125550101=1"),
        ("+0123", "'+0123"),
        ("a=1", "a=1"),
        ("", ""),
        ("  ", "  "),
    ],
)
def test_formulas_are_defused(text: str, cell: str) -> None:
    """What a spreadsheet would run gets a quote in front; strict E.164 and plain text stay."""
    assert defused(text) == cell


def test_columns_are_the_contract(tmp_path: Path) -> None:
    """The header stands in the order of the contract, lines end as RFC 4180 says."""
    results = ResultsFile(tmp_path / "r.csv")
    results.finish(lambda _: {})
    assert (tmp_path / "r.csv").read_bytes() == (
        b"file,line,call_id,outcome,state,from,to,start_time,zohouser,source_id,reason,hint,"
        b"http_status,code,attempts,sent_at\r\n"
    )
    assert len(RESULT_COLUMNS) == 16


def test_fates_fill_what_was_pending(tmp_path: Path) -> None:
    """Rows stand as added; only those pending take the ledger's word, and the counts follow."""
    results = ResultsFile(tmp_path / "r.csv")
    results.add([row(2), row(3, Outcome.REJECTED, reason="invalid_number"), row(4), row(5)], Outcome.PENDING)
    asked: list[str] = []

    def fates(call_ids: list[str]) -> dict[str, Fate]:
        asked.extend(call_ids)
        return {"call2": fate(CallState.ACCEPTED), "call4": fate(CallState.REFUSED)}

    finished = results.finish(fates)
    rows = read_results(tmp_path / "r.csv")
    assert asked == ["call2", "call4", "call5"]
    assert [each["outcome"] for each in rows] == ["accepted", "rejected", "refused", "pending"]
    assert [each["attempts"] for each in rows] == ["2", "", "2", ""]
    assert {file: list(lines) for file, lines in finished.to_mend.items()} == {"export.csv": [3, 4]}
    assert sum(finished.outcomes.values()) == 4


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


def test_carried_rows_come_first_and_are_not_to_be_mended(tmp_path: Path) -> None:
    """Calls of earlier runs stand before the input's rows and are not in its rejects."""
    results = ResultsFile(tmp_path / "r.csv")
    results.add([row(2)], Outcome.PENDING)
    results.take_up([call(90)])
    known = {"call2": fate(CallState.ACCEPTED), "call90": fate(CallState.REFUSED)}
    finished = results.finish(lambda ids: {each: known[each] for each in ids})
    rows = [(each["line"], each["outcome"]) for each in read_results(tmp_path / "r.csv")]
    assert rows == [("90", "refused"), ("2", "accepted")]
    assert (finished.carried, dict(finished.to_mend)) == (1, {})


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


def test_parts_are_whole_before_anything_is_sent(tmp_path: Path) -> None:
    """Once synced the rows stand beside the results, and calls taken up at once; a discard leaves nothing."""
    results = ResultsFile(tmp_path / "r.csv")
    results.add([row(2)], Outcome.PENDING)
    assert not (tmp_path / "r.csv.part").exists()
    results.sync()
    results.take_up([call(90)])
    assert [each["outcome"] for each in read_results(tmp_path / "r.csv.part")] == ["pending"]
    assert [each["line"] for each in read_results(tmp_path / "r.csv.carried.part")] == ["90"]
    results.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(34)
def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A file that somebody else made under the results' name in mid-run stays, and the run says so."""
    results = ResultsFile(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text("mine")
    with pytest.raises(CannotCreateError):
        results.finish(lambda _: {})
    assert (tmp_path / "r.csv").read_text() == "mine"
