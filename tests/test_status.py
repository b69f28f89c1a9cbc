"""The history of runs that `status --runs` shows: what each read, under which settings, and how it ended."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import Program, call_row, write_export
from importer.cli.ledger import duration_text
from importer.ledger import open_reader
from misbehaviour import Fault, Simulator


def history(program: Program) -> list[dict[str, Any]]:
    """Return what `status --runs --json` tells, newest first."""
    return json.loads(program("status", "--runs", "--json").stdout)["runs"]


def test_run_is_told_whole(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A run has its command, version, start, end, exit code, counts, results path, settings and inputs."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104")])
    program("import", "--init-ledger", "--batch-size", "7", "--results", tmp_path / "results.csv", path)
    (run,) = history(program)
    assert (run["command"], run["exit"], run["results"]) == ("import", 3, str(tmp_path / "results.csv"))
    assert run["started_at"] <= run["finished_at"]
    summary = run["summary"]
    assert (summary["rows"], summary["accepted"], summary["rejected"], summary["reason"]) == (2, 1, 1, "rejected")
    assert (run["settings"]["batch-size"], run["settings"]["workers"]) == (7, 1)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert run["inputs"] == [{"file": str(path), "sha256": digest, "bytes": len(content), "rows": 2}]


def test_damaged_input_has_no_rows(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A file that turned out damaged stands among the inputs without rows; one of an unknown format does not."""
    good = write_export(tmp_path / "good.csv", [call_row(1)])
    damaged = write_export(tmp_path / "damaged.csv", [call_row(2, voiceuri='"open'), call_row(3)])
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("a,b\n1,2\n")
    assert program("import", "--init-ledger", good, damaged, unknown).code == 65
    assert [(each["file"], each["rows"]) for each in history(program)[0]["inputs"]] == [
        (str(good), 1),
        (str(damaged), None),
    ]


def test_settings_hold_no_secret(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the default agent's number nor a proxy's password is kept, nor any credential."""
    monkeypatch.setenv("CDR_IMPORTER_DEFAULT_AGENT_NUMBER", "+447700900999")
    monkeypatch.setenv("CDR_IMPORTER_PROXY", "http://ann:canary-4711@127.0.0.1:9")
    program("import", "--init-ledger", write_export(tmp_path / "export.csv", []))
    with open_reader(tmp_path / "ledger.sqlite") as ledger:
        kept = ledger.runs(1)[0].settings
    credentials = account.credentials
    told = ["447700900999", "canary-4711", credentials.client_id, credentials.client_secret]
    assert [each for each in told if each in kept] == []
    assert json.loads(kept)["init-ledger"] is True


def test_runs_fit_a_terminal(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The table has one line per run, newest first, none wider than 80 columns, --last of them."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2)])
    account.script(Fault.lost_answer())
    program("import", "--init-ledger", path)
    program("import", path)
    program("resolve", "call00001", "--sent", "--note", "seen")
    lines = program("status", "--runs").stdout.splitlines()
    assert lines[0].split() == ["run", "command", "took", "exit", "rows", "accepted", "reason"]
    assert [line.split()[1] for line in lines[1:]] == ["resolve", "import", "import"]
    assert [line.split()[3:] for line in lines[1:]] == [
        ["0", "-", "-", "done"],
        ["4", "2", "0", "uncertain"],
        ["4", "2", "1", "uncertain"],
    ]
    assert max(map(len, lines)) <= 80
    assert len(program("status", "--runs", "--last", "1").stdout.splitlines()) == 2


def test_status_hides_no_call_that_waits_for_a_person(
    program: Program, account: Simulator, tmp_path: Path
) -> None:
    """Of many uncertain calls twenty are named and the rest counted; of calls attended since each is named."""
    account.script(*[Fault.lost_answer(), Fault()] * 22)
    for state in ("busy", "answered"):
        calls = (call_row(number, state=state) for number in range(44))
        path = write_export(tmp_path / f"{state}.csv", calls)
        program("import", "--init-ledger", "--max-uncertain", "99", "--rate", "1000/second", path)
    lines = program("status").stdout.splitlines()
    named = Counter(line.partition(": ")[0] for line in lines if ": " in line)
    assert named == {"uncertain": 20, "attended since it was notified": 22}
    assert "2 more uncertain calls are named here once these are settled" in lines


def test_failed_command_has_its_end(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A command that changed nothing stands there with its exit code and reason, not as one that died."""
    program("import", "--init-ledger", write_export(tmp_path / "export.csv", [call_row(1)]))
    program("resolve", "call00099", "--sent", "--note", "seen")
    run = history(program)[0]
    assert (run["command"], run["exit"], run["summary"]["reason"]) == ("resolve", 2, "usage")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (725, "12m05s"), (12_000, "3h20m"), (187_200, "2d04h")]
)
def test_duration_is_short(seconds: int, text: str) -> None:
    """A duration takes at most six characters up to ten days."""
    day, rest = divmod(seconds, 86_400)
    end = f"2026-03-{1 + day:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    assert duration_text("2026-03-01 00:00:00", end) == text
    assert duration_text("2026-03-01 00:00:00", None) == "-"
