"""Rejected rows that an earlier run has listed: named again, counted apart, and no reason for a mail."""

from pathlib import Path

import pytest

from conftest import Program, call_row, read_results, write_export
from disks import filling_disk
from importer.errors import CannotCreateError
from importer.ledger.ledger import Ledger
from importer.pipeline.run import Listener
from misbehaviour import Simulator
from runs import imported
from steps import Step, at

BAD = call_row(1, to="104")
SHORT = "dialed,busy,half"


def bad_rows(path: Path) -> list[tuple[str, str]]:
    """Return reason and code of the rejected rows of a results file."""
    return [(row["reason"], row["code"]) for row in read_results(path) if row["outcome"] == "rejected"]


def listed(ledger: Ledger, *contents: str, reason: str = "why") -> list[bool]:
    """Return which rows an earlier run has listed, as a staging of them finds out."""
    with ledger.staging() as staging:
        return staging.listed([("file", "", reason, content) for content in contents])


def test_growing_file(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A row is told once: later runs list it as seen before and end with 0, a new one raises 3 as ever."""
    results = [tmp_path / f"results{night}.csv" for night in range(4)]
    rows = [call_row(0), BAD, SHORT]
    nights = []
    for night, more in enumerate(([], [call_row(2)], [call_row(3, to="105")])):
        rows += more
        export = write_export(tmp_path / f"export{night}.csv", rows)  # the same rows in other files
        ran = program("import", "--init-ledger", "--results", results[night], export)
        nights.append((ran.code, bad_rows(results[night])))
    seen = [("short_number", "seen_before"), ("wrong_cell_count", "seen_before")]
    assert nights == [
        (3, [("short_number", ""), ("wrong_cell_count", "")]),
        (0, seen),
        (3, [*seen, ("short_number", "")]),
    ]
    assert (ran.summary()["rejected"], ran.summary()["seen_before"]) == ("3", "2")
    assert "rejected: 1 short_number, 2 seen_before;" in ran.stderr
    checked = program("check", "--ledger", tmp_path / "ledger.sqlite", "--results", results[3], export)
    assert (checked.code, bad_rows(results[3])) == (0, [*seen, ("short_number", "seen_before")])


def test_rows_that_are_new(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A row is told as often as one file has it, and anew with other content, of another site, after a check."""
    later = call_row(1, to="104", start_time="2026-03-03 14:00:00")
    mended = (BAD, call_row(1, to="105"), call_row(1, state="nonsense"), later)
    nights = [("paris", [row], wanted) for row in mended for wanted in "ns"]
    nights += [("paris", [SHORT], "n"), ("paris", [SHORT, SHORT], "sn"), ("paris", [SHORT, SHORT], "ss")]
    nights += [("paris", [SHORT, call_row(2, to="104"), SHORT, SHORT], "snsn")]
    nights += [("rome", [BAD, SHORT], "nn"), ("rome", [BAD, SHORT], "ss")]
    exports = [write_export(tmp_path / f"{night}.csv", rows) for night, (_, rows, _) in enumerate(nights)]
    assert program("import", "--init-ledger", write_export(tmp_path / "good.csv", [call_row(9)])).code == 0
    assert program("check", "--ledger", tmp_path / "ledger.sqlite", exports[0]).code == 3
    for night, (site, _, wanted) in enumerate(nights):
        results = tmp_path / f"results{night}.csv"
        ran = program("import", "--site", site, "--results", results, exports[night])
        told = "".join("s" if code == "seen_before" else "n" for _, code in bad_rows(results))
        assert (ran.code, told) == (3 if "n" in wanted else 0, wanted), night
    assert program("import", "--site", "paris", "--results", tmp_path / "all.csv", *exports[8:12]).code == 0


def stop() -> None:
    """End the run as a kill does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", [Step.NOTED, Step.REJECTS_WRITTEN, Step.RUN_FINISHED, None])
def test_row_is_told_by_a_run_that_ends(account: Simulator, tmp_path: Path, step: Step | None) -> None:
    """A run whose results are not in place, or that died when they were or as it printed its end, told nobody."""
    export = write_export(tmp_path / "export.csv", [call_row(0), BAD])
    with filling_disk() as fill, pytest.raises((KeyboardInterrupt, CannotCreateError)):
        rejects = str(tmp_path / "rejects.csv")
        act = at(step, 1, fill if step is Step.NOTED else stop) if step else None
        imported(export, None if step else Listener(ended=lambda _: stop()), step=act, rejects=rejects)
    assert (tmp_path / "results.csv").exists() == (step is not Step.NOTED)
    for part in tmp_path.glob("results.csv.part"):
        part.unlink()
    assert imported(export, results=str(tmp_path / "next.csv")).exit_code == 3
    assert bad_rows(tmp_path / "next.csv") == [("short_number", "")]


def test_other_reason_makes_a_row_new(ledger: Ledger) -> None:
    """A row that is rejected for another reason than before is told anew: it has to be mended otherwise."""
    listed(ledger, "row")
    ledger.keep_listed(9)
    assert listed(ledger, "row", reason="other") == [False]
    assert listed(ledger, "row") == [True]


def test_rows_are_forgotten(ledger: Ledger) -> None:
    """A purge forgets the rows last listed before its day; of the others the latest are kept, up to a bound."""
    for _ in range(2):  # the clock ticks between
        listed(ledger, *(f"row {number}" for number in range(3)))
        ledger.keep_listed(2)
        listed(ledger, "late")
        ledger.keep_listed(2)
    assert sorted(listed(ledger, "row 0", "row 1", "row 2", "late")) == [False, False, True, True]
    ledger.purge("2027-01-01 00:00:00")
    assert listed(ledger, "late") == [False]
