"""Section J: what others wrote (cells, names, answers, links) must not act on a screen, a file or the ledger."""

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from conftest import Program, call_row, read_results, table, write_export
from importer.cli.output import LONGEST_LINE, escaped
from importer.ledger.schema import create_ledger
from misbehaviour import FOREVER, Fault, Simulator

FORGED = "rows=1 accepted=1 exit=0"
HOSTILE = f"a\x1b[2J\x9b1m\u202e\r\n{FORGED}\x07"
CLEAR = "\x1b[2J"
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def hostile_export(path: Path) -> Path:
    """Return an export whose cells hold terminal codes, line ends and a forged summary."""
    cell = f'"{HOSTILE}"'
    return write_export(path, [call_row(1, id=cell), call_row(2, sender=cell), call_row(3, state=cell)])


def hostile_header(path: Path) -> Path:
    """Return a file of no known format whose header holds terminal codes."""
    path.write_text(f'"{HOSTILE}",b,c\n1,2,3\n', encoding="utf-8", newline="")
    return path


SPEAKS: dict[str, Callable[[Path], list[str | Path]]] = {
    "command": lambda _: [HOSTILE],
    "option": lambda _: ["check", f"--{HOSTILE}"],
    "value": lambda folder: ["check", "--states", HOSTILE, folder / "x.csv"],
    "file that is missing": lambda folder: ["check", folder / HOSTILE],
    "bytes that are no text": lambda folder: ["check", folder / NOT_UTF8],
    "configuration": lambda folder: ["check", "--config", folder / HOSTILE, folder / "x.csv"],
    "ledger": lambda folder: ["status", "--ledger", folder / HOSTILE],
    "format": lambda _: ["formats", HOSTILE],
    "call": lambda _: ["resolve", HOSTILE, "--sent", "--note", HOSTILE],
    "header": lambda folder: ["check", hostile_header(folder / "header.csv")],
    "cells shown": lambda folder: ["detect", hostile_export(folder / "detect.csv")],
    "cells read": lambda folder: ["check", "-v", hostile_export(folder / "check.csv")],
    "name of an input": lambda folder: ["check", "-v", write_export(folder / HOSTILE, [call_row(1)])],
    "results": lambda folder: [
        *("check", "-v", "--results", folder / f"{HOSTILE}.csv"),
        write_export(folder / "export.csv", [call_row(1)]),
    ],
}
"""Command lines that make the program speak of hostile text."""


@pytest.mark.fault(143, 144)
@table("case", SPEAKS)
def test_hostile_text_escaped(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Whatever holds them, terminal codes are shown as text, and a line end in a value begins no line of ours."""
    monkeypatch.setenv("CDR_IMPORTER_LEDGER", str(tmp_path / "ledger.sqlite"))
    create_ledger(tmp_path / "ledger.sqlite", now="2026-03-01 00:00:00")
    ran = program(*SPEAKS[case](tmp_path))
    lines = (ran.stdout + ran.stderr).split("\n")
    assert lines != [""]
    assert [line for line in lines if not line.isprintable() or line.startswith(FORGED)] == []


@pytest.mark.fault(143)
@pytest.mark.parametrize(
    "answer",
    [
        Fault(status=400, headers=(("X-A", CLEAR),), body=rb'{"code":"\u001b[2J\nrows=1","message":"\u001b[2J"}'),
        Fault(raw_answer=f"HTTP/1.1 200 {CLEAR}\r\nrows=1: {CLEAR}\r\nno colon here{CLEAR}\r\n\r\n".encode()),
        Fault(status=302, headers=(("Location", f"http://127.0.0.1:9/{CLEAR}"),)),
    ],
    ids=["code", "headers", "redirect"],
)
def test_hostile_answer(program: Program, account: Simulator, export: Path, tmp_path: Path, answer: Fault) -> None:
    """Nothing of what answers moves the cursor or stands in a line of its own, nor is it a code of the results."""
    account.script(answer.repeated(FOREVER))
    ran = program("import", "-v", "--init-ledger", "--results", tmp_path / "results.csv", export)
    assert ran.code in (3, 4, 76)
    assert (ran.stdout + ran.stderr).replace("\n", "").isprintable()
    assert all(row["code"].isprintable() for row in read_results(tmp_path / "results.csv"))


@pytest.mark.fault(143)
def test_long_text_is_cut(program: Program) -> None:
    """A value of a megabyte does not flood a mail, and what is harmless is shown as it is."""
    said = program("resolve", "x" * 1_000_000, "--sent", "--note", "n")
    assert all(len(line) <= LONGEST_LINE + 3 for line in (said.stdout + said.stderr).splitlines())
    assert escaped("Zoë, 電話") == "Zoë, 電話"


@pytest.mark.fault(144)
def test_odd_input_names(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of any name are read, are named in the results as they can be, and no name decides what is written."""
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names = ("-rf", "a\nb.csv", " .csv", "$(touch owned).csv", "..%2f..%2fx.csv", NOT_UTF8)
    for number, name in enumerate(names):
        write_export(folder / name, [call_row(number)])
    assert program("import", "--init-ledger", "--", NOT_UTF8, *names[:-1]).code == 0
    (made,) = (each for each in folder.iterdir() if each.name not in names)
    assert made.name.startswith("caf\\udce9.results-")
    assert {row["file"] for row in read_results(made)} == {"'-rf", *names[1:-1], "caf\\udce9"}
    assert len(account.accepted) == len(names)


PARTS = ("results.csv", *(f"results.csv{part}.part" for part in (".staging", "", ".carried", ".final")))
BESIDE = ("ledger.sqlite.lock", "ledger.sqlite-wal", "ledger.sqlite.witness", "ledger.sqlite.witness.new")
PLANTED = (*PARTS, "rejects.csv", "run.log", *BESIDE)
PLANTED_HARD = ("run.log", "results.csv.final.part", "ledger.sqlite.lock", "ledger.sqlite.witness")


@pytest.mark.fault(145)
def test_planted_link(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A link where the program is about to write is refused before anything is sent; its target stays."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2), call_row(3, to="104")])
    assert program("import", "--init-ledger", "--limit", "1", "--results", tmp_path / "first.csv", path).code == 3
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name, kind in [*product(PLANTED, ["symlink_to"]), *product(PLANTED_HARD, ["hardlink_to"])]:
        place, kept = tmp_path / name, tmp_path / "kept"
        if place.exists():
            place.rename(kept)
        getattr(place, kind)(victim)
        command = ("import", "--rejects", place, path) if "rejects" in name else ("deliver",)
        ran = program(*command, "--results", tmp_path / "results.csv", "--log", tmp_path / "run.log")
        assert ran.code in (73, 74, 78), (name, kind)
        assert (victim.read_text(), len(account.arrivals)) == ("mine", 1), (name, kind)
        for each in {place, tmp_path / "run.log"}:
            each.unlink(missing_ok=True)
        if kept.exists():
            kept.rename(place)
    assert program("deliver", "--results", tmp_path / "results.csv").code == 0
