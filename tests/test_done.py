"""`--done`: files of which nothing is open are moved away after the run, and no other."""

import time
from pathlib import Path

import pytest

from conftest import CALLNOTIFY_HEADER, Died, Program, call_row, read_results, write_export
from misbehaviour import Fault, Simulator
from runs import imported, ledger_counts
from steps import Step


@pytest.fixture
def spool(tmp_path: Path, account: Simulator) -> Path:
    """Return the folder of exports, with one for files that are done beside it."""
    (tmp_path / "done").mkdir()
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def night(program: Program, spool: Path, *options: str) -> int:
    """Import the folder as every night, and return the exit code."""
    results = spool.parent / f"results-{len(names(spool.parent))}.csv"
    fixed = ("--init-ledger", "--done", spool.parent / "done", "--results", results)
    return program("import", *fixed, *options, spool).code


def test_files_that_are_done(program: Program, account: Simulator, spool: Path) -> None:
    """A file is moved whatever its rows came to, but not while the ledger has a call of it that is open."""
    account.script(Fault.lost_answer(), Fault.refusal("INVALID_DATA"))
    write_export(spool / "1-uncertain.csv", [call_row(1)])
    write_export(spool / "2-refused.csv", [call_row(2), call_row(1)])
    write_export(
        spool / "3-good.csv", [call_row(3), call_row(3), call_row(4, to="104"), call_row(5, type="received")]
    )
    write_export(spool / "4-pending.csv", [call_row(6)])
    (spool / "5-no-export.csv").write_text("nothing\n")
    assert night(program, spool, "--limit", "3") == 4
    assert names(spool.parent / "done") == ["2-refused.csv", "3-good.csv"]
    # The rows of the open calls are outside of the window: the pending call is sent all the same.
    assert night(program, spool, "--since", "2026-03-03T00:00Z") == 4
    assert names(spool) == ["1-uncertain.csv", "5-no-export.csv"]
    program("resolve", "call00001", "--sent", "--note", "seen")
    assert night(program, spool, "--since", "2026-03-03T00:00Z") == 65
    assert names(spool.parent / "done") == ["1-uncertain.csv", "2-refused.csv", "3-good.csv", "4-pending.csv"]
    assert names(spool) == ["5-no-export.csv"]


def test_name_that_is_taken(program: Program, account: Simulator, spool: Path) -> None:
    """A file of the same name as one that is done gets the run's id behind its name; none is replaced."""
    for number in range(3):
        write_export(spool / "cdr.csv", [call_row(number)])
        assert night(program, spool) == 0
    moved = sorted((spool.parent / "done").iterdir())
    assert [path.name.split(".")[0] for path in moved] == ["cdr"] * 3
    assert {path.read_text().splitlines()[1] for path in moved} == {call_row(number) for number in range(3)}


def test_file_that_changes(account: Simulator, spool: Path) -> None:
    """A file that was written to while the run went on, or whose last row is not whole yet, stays."""
    path = write_export(spool / "1.csv", [call_row(1)])

    def grow(step: Step) -> None:
        if step is Step.STAGED:
            with path.open("a") as stream:
                stream.write(call_row(2) + "\n")

    done = spool.parent / "done"
    imported(path, done=str(done), step=grow)
    assert names(done) == []
    (spool / "results.csv").unlink()
    path.write_text(f"{CALLNOTIFY_HEADER}\n{call_row(1)}\ndialed,busy,call000")
    imported(path, done=str(done))
    assert (names(done), read_results(spool / "results.csv")[-1]["reason"]) == ([], "unfinished_row")


def test_never_moved(program: Program, account: Simulator, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not moved, since it would lead elsewhere; nor is anything in the sandbox, or by `check`."""
    path = write_export(spool.parent / "export.csv", [call_row(1)])
    (spool / "link.csv").symlink_to("../export.csv")
    assert night(program, spool) == 0
    ran = program(
        "import", "--sandbox", "--done", spool.parent / "done", "--results", spool.parent / "s.csv", path
    )
    assert (ran.code, path.exists(), names(spool), names(spool.parent / "done")) == (0, True, ["link.csv"], [])
    monkeypatch.setenv("CDR_IMPORTER_DONE", str(spool.parent / "done"))
    ran = program("check", "--results", spool.parent / "c.csv", path)
    assert (ran.code, path.exists(), names(spool.parent / "done")) == (0, True, [])


def test_folder_that_becomes_unusable(account: Simulator, spool: Path) -> None:
    """A file that cannot be moved in the end stays, which the exit code says (73); all of it was sent."""
    path, done = write_export(spool / "1.csv", [call_row(1)]), spool.parent / "done"
    ended = imported(path, done=str(done), step=lambda step: done.rmdir() if step is Step.RESULTS_LINKED else None)
    assert (int(ended.exit_code), ended.reason, names(spool)) == (73, "not_moved", ["1.csv", "results.csv"])
    assert len(account.accepted) == 1


@pytest.mark.parametrize("step", [Step.RESULTS_LINKED, Step.RUN_FINISHED])
def test_death_before_the_move(died: Died, program: Program, account: Simulator, spool: Path, step: Step) -> None:
    """A run killed before it moved its file loses nothing: the next one moves it and sends nothing twice."""
    write_export(spool / "1.csv", [call_row(1)])
    words = ("import", "--init-ledger", "--done", spool.parent / "done", spool)
    died(step, spool.parent / "results.csv", *words)
    assert names(spool) == ["1.csv"]
    assert night(program, spool) == 0
    assert (names(spool), names(spool.parent / "done")) == ([], ["1.csv"])
    assert (len(account.arrivals), ledger_counts(spool.parent)) == (1, {"accepted": 1})


def test_death_in_the_move(program: Program, account: Simulator, spool: Path) -> None:
    """A file that a death left under both names loses the first with the next run."""
    path = write_export(spool / "1.csv", [call_row(1)])
    (spool.parent / "done" / "1.csv").hardlink_to(path)
    time.sleep(0.05)  # the link is a change of the file too
    assert night(program, spool) == 0
    assert (names(spool), names(spool.parent / "done")) == ([], ["1.csv"])
