"""`check --ledger` says of each row what `import` would say, and changes nothing."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, call_row, read_results, sample_options, write_export
from importer.ledger.schema import create_ledger
from ledgers import CREATED, bring_to, call, execute, opened
from misbehaviour import Fault, Simulator
from runs import ledger_counts
from states import SENDING

PENDING_NOW = {"would_send", "pending"}


@pytest.fixture(name="known")
def make_known(program: Program, account: Simulator, tmp_path: Path) -> Path:
    """Leave calls of every kind in the ledger, and return an export with all of them and new ones.

    0 accepted, 1 refused, 2 uncertain, 3 and 4 pending, 5 closed; 6 and 7 accepted.
    """
    account.script(Fault.refusal("INVALID_DATA"), Fault.lost_answer(), Fault.lost_answer())
    first = write_export(tmp_path / "first.csv", [call_row(number) for number in (1, 2, 5)])
    assert program("import", "--init-ledger", "--results", tmp_path / "1.csv", first).code == 4
    assert program("resolve", "call00005", "--close", "--note", "x").code == 0
    second = write_export(tmp_path / "second.csv", [call_row(number) for number in (0, 6, 7, 3, 4)])
    assert program("import", "--limit", "3", "--results", tmp_path / "2.csv", second).code == 4
    assert ledger_counts(tmp_path) == {"accepted": 3, "refused": 1, "uncertain": 1, "pending": 2, "closed": 1}
    rows = [call_row(number) for number in (0, 1, 2, 3, 5, 8, 8, 9)]
    rows += [call_row(6, state="noanswer"), call_row(10, to="104"), call_row(4, to="+12125550199")]
    return write_export(tmp_path / "all.csv", rows)


def told(path: Path) -> list[tuple[str, ...]]:
    """Return what the results say of each call of the input, without what sending it brought."""
    rows = [row for row in read_results(path) if row["file"].endswith("all.csv")]
    names = ("line", "call_id", "outcome", "state", "from", "to", "reason", "hint")
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.fault(19, 79, 133)
def test_says_what_import_says(known: Path, program: Program, account: Simulator) -> None:
    """Outcome, reason and hint of each row are those of the import after it, which sends what it said."""
    folder, ledger = known.parent, known.parent / "ledger.sqlite"
    kept, sent = ledger.read_bytes(), len(account.arrivals)

    def ids() -> list[str]:
        return [arrival.fields["id"] for arrival in account.arrivals[sent:]]

    checked = program("check", "--ledger", ledger, "--results", folder / "checked.csv", known)
    assert (ledger.read_bytes(), len(account.arrivals)) == (kept, sent)
    imported = program("import", "--results", folder / "imported.csv", known)
    said, done = told(folder / "checked.csv"), told(folder / "imported.csv")
    assert [row[2] for row in said] == [
        *("already_accepted", "refused", "uncertain", "pending", "skipped", "would_send", "duplicate"),
        *("would_send", "conflict", "rejected", "pending"),
    ]
    assert [(*row[:2], "accepted", *row[3:]) if row[2] in PENDING_NOW else row for row in said] == done
    assert (checked.code, imported.code) == (4, 4)
    assert said[8][6] == "same_id_other_content" and "correct the call in Zoho" in said[8][7]
    # Neither what was accepted nor what was refused is sent again unasked.
    assert sorted(ids()) == ["call00003", "call00004", "call00008", "call00009"]
    program("import", "--retry-refused", "--results", folder / "retried.csv", known)
    assert ids()[4:] == ["call00001"]
    counts = {name: int(checked.summary()[name]) for name in ("would_send", "pending", "conflict", "rows")}
    assert counts == {"would_send": 2, "pending": 2, "conflict": 1, "rows": 11}


@pytest.mark.parametrize(
    ("limit", "seconds", "line"),
    [
        ("", 120, "An import would send 5 calls now, 1 of them left by earlier runs: at 2/minute until "),
        ("2", 30, "An import would send 2 calls now: at 2/minute until "),
        ("1", None, "An import would send 0 calls now."),
    ],
)
def test_outlook_line(
    known: Path, program: Program, monkeypatch: pytest.MonkeyPatch, limit: str, seconds: int | None, line: str
) -> None:
    """One line says how many calls an import would send now, at which rate and, if there are any, until when."""
    write_export(known, [call_row(number) for number in (0, 3, 8, 9, 11)[: 5 if seconds else 1]])
    monkeypatch.setenv("CDR_IMPORTER_RATE", "2/minute")
    monkeypatch.setenv("CDR_IMPORTER_LIMIT", limit)
    ran = program("check", "--ledger", known.parent / "ledger.sqlite", known)
    (said,) = [each for each in ran.stderr.splitlines() if "would send" in each]
    assert (ran.code, line in said) == (4, True)
    if seconds is None:
        assert said == f"cdr-importer: {line}"
    else:
        end = datetime.strptime(said[-21:-5], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert seconds - 70 < (end - datetime.now(UTC)).total_seconds() <= seconds


def test_while_a_run_goes_on(tmp_path: Path, program: Program, account: Simulator) -> None:
    """A run that holds the ledger is not disturbed; the call that it is sending is uncertain meanwhile."""
    path = tmp_path / "ledger.sqlite"
    export = write_export(tmp_path / "all.csv", [call_row(1), call_row(2)])
    create_ledger(path, now=CREATED)
    with opened(path) as ledger:
        same = {"agent_number": "+12125550101", "customer_number": "+12125550101", "zohouser": ""}
        bring_to(ledger, SENDING, replace(call("call00001"), start_time="2026-03-02 14:00:01", **same))
        ran = program("check", "--ledger", path, "--results", tmp_path / "checked.csv", export)
        assert (ran.code, ledger.fates(["call00001"])["call00001"].state) == (4, SENDING)
    rows = [(row["outcome"], row["reason"]) for row in read_results(tmp_path / "checked.csv")]
    assert rows == [("uncertain", "sending"), ("would_send", "")]


@pytest.mark.parametrize(("damage", "words"), [("DELETE", "no ledger at"), ("OLD", "older than"), ("NOTHING", "")])
def test_what_import_would_refuse(
    tmp_path: Path, program: Program, account: Simulator, monkeypatch: pytest.MonkeyPatch, damage: str, words: str
) -> None:
    """A ledger that is missing or was restored is refused as by `import`; old first calls are named."""
    monkeypatch.delenv("CDR_IMPORTER_YES")
    path = tmp_path / "ledger.sqlite"
    export = write_export(tmp_path / "all.csv", [call_row(1, start_time="2026-01-01 10:00:00")])
    if damage != "DELETE":
        create_ledger(path, now=CREATED)
    if damage == "OLD":
        execute(path, "UPDATE meta SET value = value - 1 WHERE key = 'generation'")
    ran = program("check", "--ledger", path, "--results", tmp_path / "checked.csv", export)
    assert (ran.code, (words or "this ledger has sent nothing yet") in ran.stderr) == (78, True)
    assert (tmp_path / "checked.csv").exists() == (damage == "NOTHING")


def test_other_format_of_the_system(program: Program, account: Simulator, tmp_path: Path) -> None:
    """`check` and `import` reject calls of a time that another format gave other ids, and take the later ones."""
    web, cdr = SAMPLES / "3cx-web/9-columns.csv", SAMPLES / "3cx-cdr/day.csv"
    begin = ("import", "--init-ledger", "--yes", *sample_options(web))
    program(*begin, "--results", tmp_path / "web.csv", web)
    last, sent = max(row["start_time"] for row in read_results(tmp_path / "web.csv")), len(account.arrivals)
    again = (*sample_options(cdr), "--results", tmp_path / "cdr.csv", cdr)
    for command in (("check", "--ledger", tmp_path / "ledger.sqlite"), ("import",)):
        program(*command, *again)
        rows = [row for row in read_results(tmp_path / "cdr.csv") if row["zohouser"]]
        told = {row["line"] for row in rows if row["reason"] == "other_id_columns"}
        assert told == {row["line"] for row in rows if row["start_time"] <= last}
        (tmp_path / "cdr.csv").unlink()
    assert len(account.arrivals) == sent + len(rows) - len(told)


def test_other_id_in_another_format(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call that Dialpad's API knows by its first leg is not sent again from an export without that column."""
    leg = '{"call_id":"7529997769220001","entry_point_call_id":"7529997769220000","date_connected":null,'
    leg += '"direction":"outbound","external_number":"+12125550142","internal_number":"+12125550101",'
    leg += '"date_started":"1772460847388","state":"hangup","target":{"type":"user","phone":"+12125550101"}}\n'
    (tmp_path / "answer.json").write_text(leg)
    (tmp_path / "export.csv").write_text(
        "date_started,call_id,direction,external_number,internal_number,date_connected,timezone\n"
        "2026-03-02 14:14:07,7529997769220001,outbound,12125550142,12125550101,,UTC\n"
    )
    program("import", "--init-ledger", "--results", tmp_path / "first.csv", tmp_path / "answer.json")
    program("import", "--results", tmp_path / "second.csv", tmp_path / "export.csv")
    reasons = [row["reason"] for name in ("first", "second") for row in read_results(tmp_path / f"{name}.csv")]
    assert (reasons, len(account.arrivals)) == (["", "other_id_columns"], 1)
