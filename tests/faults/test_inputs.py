"""Section A: exports that are damaged, odd, growing or gone; every row ends as one outcome, none is guessed."""

import encodings
import encodings.aliases
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from pkgutil import iter_modules

import pytest

from conftest import CALLNOTIFY_HEADER, Program, call_row, read_results, write_export
from importer.errors import InputUnusableError, UsageError
from importer.files.export import ExportFile, certain_encoding
from importer.pipeline.run import Listener
from importer.reading.scanning import text_blocks
from importer.settings.loading import load_settings
from misbehaviour import Simulator
from runs import imported, ledger_counts
from steps import Step, at

CODECS = sorted({*encodings.aliases.aliases.values(), *(found.name for found in iter_modules(encodings.__path__))})


@pytest.mark.fault(13)
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_every_encoding_that_python_knows(tmp_path: Path) -> None:
    """Whatever --encoding names: an export is read as Python reads it, or refused as not of this encoding."""
    texts = [f"{CALLNOTIFY_HEADER}\n{each}\n" for each in (call_row(1), call_row(1, zohouser="\u00e9"))]
    exports = [text.encode(encoding) for text in texts for encoding in ("utf-8", "cp1252", "utf-16-le", "utf-7")]
    export, refused = tmp_path / "export.csv", 0
    for name in CODECS:
        try:
            encoding = load_settings({"encoding": name}, {}).encoding
        except UsageError:
            refused += 1
            continue
        for content in (*exports, bytes(range(256)) * 9, b"\xff\xfe\x00\xd8+2AA-"):
            export.write_bytes(content)
            with suppress(InputUnusableError):
                assert certain_encoding(ExportFile(export), encoding) == encoding
                wanted = content.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
                assert b"".join(text_blocks(ExportFile(export), encoding)).decode() == wanted
    assert refused < 20 < len(CODECS)


BAD_ROWS = {
    '2,dialed,busy,c2,+12125550101,"+1\n2125550102",2026-03-02 14:00:00,,': "unusable_characters",
    "dialed,busy,short": "wrong_cell_count",
    f"{call_row(3)},x": "wrong_cell_count",
    call_row(4, zohouser="a\0b"): "control_character",
    call_row(5, voiceuri="x" * 140_000): "over_long_row",
    call_row(6, to="anonymous"): "",
    call_row(7, to="+1212555XXXX"): "",
    call_row(8, to="4711"): "",
    call_row(9, start_time="2099-01-01 00:00:00"): "future_time",
    call_row(10, start_time="2026-02-30 10:00:00"): "",
    call_row(11, state="perhaps"): "",
}
ODD_IDS = ["", "x" * 65, "a-b_c", "Ä1"]


@pytest.mark.fault(8, 9, 10, 11, 20, 21, 22, 24)
def test_rows_that_cannot_be_used(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Each is rejected with its line and one reason; the others go on, and only they reach ledger and service."""
    rows = [row.removeprefix("2,") for row in BAD_ROWS]
    good = [call_row(50 + number, id=name) for number, name in enumerate(ODD_IDS)]
    results = tmp_path / "results.csv"
    export = write_export(tmp_path / "e.csv", [*rows, *good])
    ran = program("import", "--init-ledger", "--results", results, export)
    found = read_results(results)
    reasons = [row["reason"] for row in found if row["outcome"] == "rejected"]
    assert (ran.code, ran.summary()["rows"], len(reasons)) == (3, str(len(rows) + len(good)), len(rows))
    wanted = list(BAD_ROWS.values())
    assert [reason for reason, want in zip(reasons, wanted, strict=True) if want and reason != want] == []
    assert all(row["hint"] and row["line"] for row in found if row["outcome"] == "rejected")
    assert ledger_counts(tmp_path) == {"accepted": len(good)}
    posted = [arrival.fields["id"] for arrival in account.arrivals]
    assert len(set(posted)) == len(good)
    assert all(each.isalnum() and each.isascii() and len(each) <= 64 for each in posted)

    before = len(account.arrivals)
    none = program("import", "--results", tmp_path / "none.csv", write_export(tmp_path / "n.csv", rows))
    again = [(row["outcome"], row["code"]) for row in read_results(tmp_path / "none.csv")]
    assert (none.code, again, len(account.arrivals)) == (0, [("rejected", "seen_before")] * len(rows), before)


@pytest.mark.fault(26)
@pytest.mark.parametrize("change", ["removed", "replaced", "linked", "grown"])
def test_input_gone_after_it_was_taken_in(account: Simulator, tmp_path: Path, change: str) -> None:
    """The run goes on from the ledger; only its rejects cannot be written, which is told and is exit 73."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104"), call_row(3)])
    other = tmp_path / "other.csv"
    other.write_bytes(path.read_bytes().replace(b"104", b"105"))

    acts: dict[str, Callable[[], object]] = {
        "removed": path.unlink,
        "replaced": lambda: other.rename(path),
        "linked": lambda: (path.unlink(), path.symlink_to(other)),
        "grown": lambda: path.write_text(path.read_text() + call_row(8) + "\n"),
    }
    told: list[str] = []
    listener = Listener(problem=lambda problem: told.append(problem.message))
    rejects = tmp_path / "rejects.csv"
    summary = imported(path, listener, step=at(Step.STAGED, 1, acts[change]), rejects=str(rejects))
    outcomes = [row["outcome"] for row in read_results(tmp_path / "results.csv")]
    assert outcomes == ["accepted", "rejected", "accepted"]
    assert (summary.exit_code, rejects.exists(), "removed or changed" in told[0]) == (73, False, True)
    assert ledger_counts(tmp_path) == {"accepted": 2}


@pytest.mark.fault(23)
@pytest.mark.slow
def test_memory_of_many_rows(tmp_path: Path) -> None:
    """Calls are checked within 384 MiB, without a word of progress, each in the results.

    They are 250,000, which take 296 MiB; 100,000 take 269, so a million stay within a gigabyte.
    """
    path, results = tmp_path / "export.csv", tmp_path / "results.csv"
    with path.open("w") as file:
        file.write(CALLNOTIFY_HEADER + "\n")
        for number in range(250_000):
            file.write(f"dialed,busy,c{number},+12125550101,+12125550142,2026-03-02 14:00:00,,\n")
    command = [sys.executable, "-m", "importer", "check", "--results", str(results), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print(f"peak {usage.ru_maxrss >> 10} MiB, {usage.ru_utime:.0f} s")
    assert (process.returncode, said) == (0, b"")
    assert usage.ru_maxrss < 384 << 10
    with results.open("rb") as stream:
        assert sum(b",would_send," in line for line in stream) == 250_000
