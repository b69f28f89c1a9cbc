"""`import` from end to end: real files, the real ledger, the real simulator; and `check`, which needs neither."""

import csv
import io
import json
import re
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import (
    SAMPLES,
    Program,
    Ran,
    call_row,
    cases,
    expected_file,
    read_results,
    sample_options,
    write_export,
)
from misbehaviour import Fault, Simulator
from schemas.vocabulary import Outcome

CASES = cases("import")

NEW_YORK = ("--timezone", "America/New_York", "--country", "US")
SENT = ("callnotify/day.csv", "3cx-web/day.csv", "asterisk-csv/day.csv")
SENT_SLOWLY = ("3cx-cdr/day.csv", "freepbx/26-columns.csv", "freeswitch-csv/day.csv", "twilio/snake-case.csv")
POSTED = ("state", "from", "to", "start_time", "zohouser")


def exported(*rows: str, name: str = "export.csv") -> Path:
    """Return an export of these rows in the working folder, which `account` makes a test's own."""
    return write_export(Path.cwd() / name, rows)


def ten() -> Path:
    """Return an export of ten good calls."""
    return exported(*(call_row(number) for number in range(10)))


def run_import(program: Program, *arguments: str | Path) -> Ran:
    """Return an import that creates the ledger if it is not there."""
    return program("import", "--init-ledger", *arguments)


def posted_ids(simulator: Simulator) -> list[str]:
    """Return the ids of every request to callnotify, in order."""
    return [arrival.fields["id"] for arrival in simulator.arrivals]


@pytest.mark.parametrize("sample", [*SENT, *(pytest.param(name, marks=pytest.mark.slow) for name in SENT_SLOWLY)])
def test_results_are_what_was_sent(program: Program, account: Simulator, tmp_path: Path, sample: str) -> None:
    """What the API took in, decoded, is what the results call accepted and `check` would send, each once."""
    options = (*sample_options(SAMPLES / sample), "--results", tmp_path / "results.csv")
    run_import(program, *options, SAMPLES / sample)
    accepted = [row for row in read_results(tmp_path / "results.csv") if row["outcome"] == "accepted"]
    said = {row["call_id"]: {name: row[name] for name in POSTED} for row in accepted}
    taken = {call["id"]: {name: call.get(name, "") for name in POSTED} for call in account.accepted}
    assert taken == said
    checked = read_results(expected_file(SAMPLES / sample))
    assert list(said) == [row["call_id"] for row in checked if row["outcome"] == "would_send"] != []
    assert len(account.arrivals) == len(said) == len(accepted)


def test_counts_add_up_to_the_rows(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Every row is in exactly one count of the summary, and with --all-rows in exactly one line."""
    sample = "freeswitch-csv/day.csv"
    options = (*sample_options(SAMPLES / sample), "--json", "--all-rows", "--results", tmp_path / "results.csv")
    said = json.loads(run_import(program, *options, SAMPLES / sample).stdout)
    counts = {outcome.value: said[outcome.value] for outcome in Outcome}
    in_file = Counter(row["outcome"] for row in read_results(tmp_path / "results.csv"))
    assert {name: count for name, count in counts.items() if count} == dict(in_file)
    assert sum(counts.values()) == said["rows"] + said["carried"]
    assert sum(said["skipped_by_reason"].values()) == said["skipped"]
    assert sum(said["rejected_by_reason"].values()) == said["rejected"]


def test_states_choose_what_is_sent(program: Program, account: Simulator) -> None:
    """Only the wanted states are sent; the others are skipped by their reason."""
    rows = (call_row(1), call_row(2, state="noanswer"), call_row(3, state="invalid"))
    said = json.loads(run_import(program, "--states", "noanswer,invalid", "--json", exported(*rows)).stdout)
    assert posted_ids(account) == ["call00002", "call00003"]
    assert said["skipped_by_reason"] == {"state_not_wanted": 1}


@pytest.mark.parametrize(("window", "sent"), CASES["windows"])
def test_half_open_window(program: Program, account: Simulator, window: tuple[str, ...], sent: list[int]) -> None:
    """A call at --since is in, a call at --until is out."""
    run_import(program, *window, ten())
    assert posted_ids(account) == [f"call{number:05}" for number in sent]


def test_window_without_a_zone(program: Program, account: Simulator) -> None:
    """A day or a local time of the window that no --timezone belongs to is a missing configuration (78)."""
    path = ten()
    moments = (("--since", "2026-03-02"), ("--until", "2026-03-02 14:00:05"), ("--since", "yesterday"))
    for option, moment in moments:
        ran = run_import(program, option, moment, path)
        assert (ran.code, ran.summary()["reason"], account.arrivals) == (78, "timezone", ())
        assert f"nobody has said whose clock shows '{moment}'" in ran.stderr


def test_row_that_was_not_finished(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A last row that is not written to its end is rejected; the next import sends it, and it alone."""
    path, rejects = ten(), tmp_path / "rejects.csv"
    whole = path.read_text()
    path.write_text(f'{whole}dialed,busy,"call00099",+121')
    ran = run_import(program, "--rejects", rejects, path)
    assert (ran.code, ran.summary()["rejected"], len(account.arrivals), rejects.exists()) == (3, "1", 10, False)
    path.write_text(f"{whole}{call_row(99)}\n")
    assert run_import(program, "--results", tmp_path / "2.csv", path).code == 0
    assert posted_ids(account)[10:] == ["call00099"]


@pytest.mark.fault(27)
def test_carried_calls_keep_their_own_file_and_line(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A later import sends what an earlier left after its own, and reports it under the earlier file and line."""
    early = exported(call_row(1), call_row(2), name="early.csv")
    late = exported(call_row(3), name="late.csv")
    run_import(program, "--limit", "1", early)
    said = json.loads(run_import(program, "--json", "--results", tmp_path / "late-results.csv", late).stdout)
    rows = [(row["file"], row["line"], row["call_id"]) for row in read_results(tmp_path / "late-results.csv")]
    assert rows == [(str(early), "3", "call00002"), (str(late), "2", "call00003")]
    assert (said["rows"], said["carried"], said["accepted"]) == (1, 1, 2)
    assert posted_ids(account) == ["call00001", "call00003", "call00002"]


LEGS = "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,disposition,uniqueid\n"


def leg(number: int, disposition: str, *, trunk: str = "a") -> str:
    """Return a row of Asterisk's table; the number is the call's, the trunk tells its legs apart."""
    talked = 10 * (disposition == "ANSWERED")
    return (
        f"2026-11-25 09:{number}:00,101,101,21255501{number},from-internal,PJSIP/101-{number},"
        f"PJSIP/trunk-{trunk}-{number},Dial,,20,{talked},{disposition},17956152{number}.1\n"
    )


def rows_of(path: Path) -> list[tuple[str, str, str]]:
    """Return line, outcome and reason of each row of a results file."""
    return [(row["line"], row["outcome"], row["reason"]) for row in read_results(path)]


def test_joined_call_whose_better_half_comes_later(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call of which the first export had one half of a Local channel is known again when both are there."""
    export = tmp_path / "Master.csv"
    halves = Path(__file__).parent / "field/asterisk-forwarded-calls/dialled-through-local.csv"
    lines = halves.read_text().splitlines(True)
    options = ("--timezone", "UTC", "--country", "US", "--default-agent-number", "+12125550101", "--results")
    for night, outcome in (([*lines[:3]], "accepted"), (lines, "already_accepted")):
        export.write_text("".join(night))
        results = tmp_path / f"{len(night)}.csv"
        assert run_import(program, *options, results, export).code == 0
        assert [row["outcome"] for row in read_results(results)] == [outcome]


def test_attended_since(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call that later exports show attended is a conflict in each import until it is closed."""
    day1, day2 = tmp_path / "day1.csv", tmp_path / "day2.csv"
    day1.write_text(LEGS + leg(41, "BUSY") + leg(43, "BUSY"))
    legs = [leg(41, "BUSY"), leg(42, "BUSY"), *(leg(41, "ANSWERED", trunk=trunk) for trunk in "cb")]
    day2.write_text(LEGS + "".join([*legs, leg(44, "ANSWERED")]))
    options = (*NEW_YORK, "--default-agent-number", "+12125550101", "--results")
    assert run_import(program, *options, tmp_path / "1.csv", day1).code == 0
    conflict = ("5", "conflict", "attended_since")
    for number, outcome in ((2, "accepted"), (3, "already_accepted")):
        ran = run_import(program, *options, tmp_path / f"{number}.csv", day2)
        assert (ran.code, ran.summary()["conflict"], ran.summary()["skipped"]) == (3, "1", "3")
        assert rows_of(tmp_path / f"{number}.csv") == [("3", outcome, ""), conflict]
    run_import(program, "--all-rows", "--since", "2026-11-26", *options, tmp_path / "4.csv", day2)
    assert rows_of(tmp_path / "4.csv") == [
        ("2", "skipped", "other_leg"),
        ("3", "skipped", "outside_window"),
        ("4", "skipped", "attended"),
        conflict,
        ("6", "skipped", "attended"),
    ]
    row = read_results(tmp_path / "3.csv")[1]
    told = (row["to"], row["start_time"], row["source_id"])
    assert told == ("+12125550141", "2026-11-25 14:41:00", "1795615241.1")
    first = read_results(tmp_path / "1.csv")[0]
    assert (row["call_id"], row["sent_at"]) == (first["call_id"], first["sent_at"])
    assert f"resolve {row['call_id']} --close" in row["hint"]
    assert f"attended since it was notified: {row['call_id']}" in program("status").stdout
    assert json.loads(program("status", "--json").stdout)["attended_since"] == [row["call_id"]]
    assert program("resolve", row["call_id"], "--close", "--note", "corrected").code == 0
    assert run_import(program, *options, tmp_path / "5.csv", day2).code == 0
    assert rows_of(tmp_path / "5.csv") == [("3", "already_accepted", "")]
    run_import(program, *options, tmp_path / "6.csv", day1)
    assert [each[1] for each in rows_of(tmp_path / "6.csv")] == ["already_accepted"] * 2
    assert len(account.arrivals) == 3


def test_came_in_since(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call of which the first export had only the leg on which it was forwarded came in after all."""
    export, results = tmp_path / "calls.csv", tmp_path / "results.csv"
    header = "legId,originatorId,caller.number,callee.number,startTime,answerTime,hangupCause\n"
    forwarded = [f"l{n},o{n},101,+1212555014{n},2026-11-25T14:1{n}:00Z,,16\n" for n in range(2)]
    came_in = [f"m{n},o{n},+1212555015{n},101,2026-11-25T14:1{n}:00Z,,16\n" for n in (0, 1, 7)]
    options = ("--default-agent-number", "+12125550101", "--results", results)
    export.write_text(header + "".join(forwarded))
    assert run_import(program, "--limit", "1", *options, export).code == 0
    export.write_text(header + "".join(forwarded + came_in))
    results.unlink()
    ran = run_import(program, *options, export)
    assert (ran.code, ran.summary()["skipped"]) == (3, "4")
    assert rows_of(results) == [("4", "conflict", "attended_since"), ("5", "skipped", "attended")]
    assert len(account.arrivals) == 1


def test_attended_before_it_was_sent(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Calls left pending or refused that an export shows attended are skipped, each row once, and never sent."""
    account.script(Fault.refusal("INVALID_DATA"))
    early = exported(*(call_row(number) for number in range(3)), name="early.csv")
    run_import(program, "--limit", "1", early)
    late = exported(*(call_row(number, state="answered") for number in (0, 1, 7)), name="late.csv")
    ran = run_import(program, "--json", "--results", tmp_path / "late-results.csv", late)
    rows = read_results(tmp_path / "late-results.csv")
    assert [(row["line"], row["call_id"], row["outcome"], row["reason"], row["state"]) for row in rows] == [
        ("4", "call00002", "accepted", "", "busy"),
        ("2", "call00000", "skipped", "attended", ""),
        ("3", "call00001", "skipped", "attended", "busy"),
    ]
    assert (ran.code, json.loads(ran.stdout)["skipped_by_reason"]) == (0, {"attended": 3})
    assert program("deliver").code == 0
    again = run_import(program, "--retry-refused", "--results", tmp_path / "early-results.csv", early)
    assert (again.code, posted_ids(account)) == (0, ["call00000", "call00002"])
    assert [each[1:] for each in rows_of(tmp_path / "early-results.csv")] == [
        ("skipped", "attended"),
        ("skipped", "attended"),
        ("already_accepted", ""),
    ]


def test_attended_while_uncertain(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call whose answer was lost stays uncertain when it is shown attended; its row says so."""
    account.script(Fault.lost_answer())
    run_import(program, exported(call_row(1)))
    late = exported(call_row(1, state="answered"), name="late.csv")
    ran = run_import(program, "--on-uncertain", "resend", "--results", tmp_path / "late-results.csv", late)
    (row,) = read_results(tmp_path / "late-results.csv")
    assert (ran.code, row["outcome"], row["state"], row["to"]) == (4, "uncertain", "busy", "+12125550101")
    assert "shows the call attended" in row["hint"]
    assert program("deliver", "--on-uncertain", "resend").code == 4
    ran = program("resolve", "call00001", "--not-sent", "--note", "not in Zoho")
    assert (ran.code, "Not sent" in ran.stdout) == (0, True)
    assert program("deliver").code == 0
    assert len(account.arrivals) == 1


def test_uncertain_call_of_an_earlier_night(program: Program, account: Simulator) -> None:
    """While the ledger holds an uncertain call, `import` and `deliver` are exit 4; one line says since when."""
    account.script(Fault.lost_answer(), Fault.lost_answer())
    run_import(program, exported(call_row(1)))
    run_import(program, exported(call_row(2), name="second.csv"))
    ran = run_import(program, "--json", exported(call_row(3), name="third.csv"))
    said = json.loads(ran.stdout)
    assert (ran.code, said["accepted"], said["uncertain"], said["reason"]) == (4, 1, 0, "uncertain")
    assert said["held_uncertain"] == 2
    line = f"cdr-importer: 2 calls are uncertain, the oldest since {said['uncertain_since'][:16]} GMT: "
    assert line in ran.stderr
    ran = program("deliver")
    assert (ran.code, line in ran.stderr) == (4, True)
    program("resolve", "call00001", "--sent", "--note", "seen")
    ran = program("deliver")
    assert (ran.code, "cdr-importer: 1 call is uncertain since" in ran.stderr) == (4, True)
    program("resolve", "call00002", "--close", "--note", "never mind")
    assert program("deliver") == Ran(0, "", "")


def test_results_beside_earlier_ones(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The results of a folder that has results of earlier nights are named after an export, not after those."""
    folder = tmp_path / "cdr"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        write_export(folder / name, [call_row(1)])
        assert program("import", "--init-ledger", folder) == Ran(0, "", "")
        (folder / "a.csv").unlink(missing_ok=True)
    assert [path.name.count(".results-") for path in sorted(folder.glob("a.csv*"))] == [1, 1]


def test_log_in_the_folder_of_exports(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A log that the run itself begins beside the exports is none of them: the folder is looked at once."""
    (folder := tmp_path / "cdr").mkdir()
    write_export(folder / "a.csv", [call_row(1)])
    assert program("import", "--init-ledger", "--log", folder / "run.log", folder) == Ran(0, "", "")


def test_results_of_the_sandbox(program: Program, tmp_path: Path) -> None:
    """A trial's results and their page say so, and `accept-restore` takes them as evidence by no name (65)."""
    write_export(tmp_path / "a.csv", [call_row(1)])
    for options in ((), ("--sandbox",), ("--sandbox",)):
        assert program("check" if not options else "import", *options, tmp_path / "a.csv").code == 0
    made = sorted(path.name.split("-20")[0] for path in tmp_path.glob("a.csv.*"))
    assert made == ["a.csv.results", "a.csv.results-sandbox", "a.csv.results-sandbox"]
    for trial in (*tmp_path.glob("*-sandbox-*"), tmp_path / "results.csv"):
        if not trial.exists():
            program("import", "--sandbox", "--results", trial, tmp_path / "a.csv")
        ran = program("ledger", "accept-restore", trial)
        assert (ran.code, "Zoho got none of its calls" in ran.stderr) == (65, True), trial
        assert program("report", trial).code == 0
        assert "Zoho got nothing of these calls" in trial.with_name(f"{trial.name}.html").read_text()


def test_sandbox_of_a_config_file(program: Program, tmp_path: Path) -> None:
    """A run says that Zoho gets nothing where no option of the command line says so, as in a night job."""
    (tmp_path / "own.toml").write_text("sandbox = true\n")
    export = write_export(tmp_path / "a.csv", [call_row(1)])
    for options, said in ((("--config", tmp_path / "own.toml"), True), (("--sandbox",), False)):
        ran = program("import", *options, export)
        assert (ran.code, "in place of Zoho, which gets no call" in ran.stderr) == (0, said)


def test_deliver_sends_nothing_where_the_sandbox_is_on(
    program: Program, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no simulator inside: calls that Zoho got would stand in its results as those of a trial."""
    assert run_import(program, "--limit", "1", ten()).code == 0
    monkeypatch.setenv("CDR_IMPORTER_SANDBOX", "true")
    ran = program("deliver")
    assert (ran.code, "sandbox is on" in ran.stderr, len(account.arrivals)) == (78, True, 1)


def test_check_needs_nothing_else(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checks write the same bytes, connect to nothing, leave results alone, and look at no ledger unasked."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"tried to connect to {address}")

    sample = "3cx-web/day.csv"
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("CDR_IMPORTER_LEDGER", str(tmp_path / "ledger.sqlite"))
    options = (*sample_options(SAMPLES / sample), "--all-rows", SAMPLES / sample)
    written = []
    for name in ("1.csv", "2.csv"):
        program("check", "--results", tmp_path / name, *options)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert b"would_send" in written[0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["1.csv", "2.csv"]


def test_rejects_of_different_exports_are_kept_apart(program: Program, tmp_path: Path) -> None:
    """Rows of two layouts without header, or with one header and two delimiters, never share a file of rejects."""
    exports = [tmp_path / name for name in ("comma.csv", "semicolon.csv", "asterisk.csv", "3cx.csv")]
    write_export(exports[0], [call_row(1, to="nobody")])
    exports[1].write_text(exports[0].read_text().replace(",", ";").replace("call00001", "call00002"))
    shutil.copy(SAMPLES / "asterisk-csv/day.csv", exports[2])
    shutil.copy(SAMPLES / "3cx-cdr/day.csv", exports[3])
    agents = ("--agents", SAMPLES / "agents.csv", "--rejects", tmp_path / "rejects.csv")
    first = program("check", *NEW_YORK, *agents, *exports)
    rejected = 0
    for number, name in enumerate(["callnotify", "callnotify", "asterisk-csv", "3cx-cdr"], start=1):
        rejects = tmp_path / ("rejects.csv" if number == 1 else f"rejects-{number}.csv")
        again = program("check", "--format", name, *NEW_YORK, *agents[:2], rejects)
        assert again.summary()["rows"] == again.summary()["rejected"]
        rejected += int(again.summary()["rejected"])
    assert rejected == int(first.summary()["rejected"])


def saved(path: Path, text: str, *, quoted: bool) -> Path:
    """Save rows as a German spreadsheet program does: semicolons, a mark, all quoted, dates with the day first."""
    text = re.sub(r"(\d{4})[-/](0\d|1[0-2])[-/](\d\d)( \d\d:\d\d:\d\d)", r"\3.\2.\1\4", text)
    rows = csv.reader(io.StringIO(text, newline="")) if quoted else [line.split(",") for line in text.splitlines()]
    with path.open("w", encoding="utf-8-sig", newline="") as target:
        csv.writer(target, delimiter=";", quoting=csv.QUOTE_ALL).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("name", "changes", "quoted"),
    [
        ("asterisk-csv", {"212555XXXX": "2125550190", "5550159": "2125550191"}, True),
        ("3cx-cdr", {"212555****": "+12125550190", "5550154": "+12125550191"}, False),
    ],
)
def test_mended_rows_are_posted(
    program: Program, account: Simulator, tmp_path: Path, name: str, changes: dict[str, str], quoted: bool
) -> None:
    """Rows without header, mended and saved by a spreadsheet program, are posted; the others stay rejected."""
    sample = SAMPLES / name / "day.csv"
    options = sample_options(sample)
    written = ("--rejects", tmp_path / "rejects.csv", "--results", tmp_path / "1.csv")
    first = program("import", "--init-ledger", *options, *written, sample)
    posted = len(account.accepted)
    text = (tmp_path / "rejects.csv").read_text(encoding="utf-8")
    for old, new in changes.items():
        text = text.replace(old, new)
    again = saved(tmp_path / "mended.csv", text, quoted=quoted)
    arguments = ("--format", name, "--date-order", "day-month", "--results", tmp_path / "results.csv")
    second = program("import", *options, *arguments, again)
    assert [call["to"] for call in account.accepted[posted:]] == ["+12125550190", "+12125550191"]
    results = read_results(tmp_path / "results.csv")
    assert [row["to"] for row in results if row["outcome"] == "accepted"] == ["+12125550190", "+12125550191"]
    assert int(second.summary()["rejected"]) == int(first.summary()["rejected"]) - 2
    assert all(re.match(r"2026-03-0[23] ", row["start_time"]) for row in results if row["outcome"] == "accepted")
