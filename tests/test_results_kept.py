"""Where results go and how long they stay, and what stands beside the rejected rows."""

import csv
import os
import time
from pathlib import Path

from conftest import Program, call_row, read_results, write_export
from importer.pipeline import epoch_of
from ledgers import execute
from misbehaviour import Fault, Simulator

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
