"""Preparing: rows in are outcomes out, whatever the order, the files and the chunks; nothing is invented."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, SAMPLES, table
from importer.errors import InputUnusableError
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.prepare import PolicyBook, Preparation, Prepared, call_id_of
from importer.reading.chunks import CHUNK_ROWS
from importer.records import Call, ResultRow
from importer.settings import PolicyChoices, Settings
from importer.settings.values import outside_prefixes
from samples import (
    INPUTS,
    OWN,
    PER_SAMPLE,
    REPRESENTATIVES,
    as_it_is,
    catalogue,
    content_of,
    detected,
    for_each,
    is_no_row,
    plan_for,
    prepared,
    prepared_in,
    prepared_text,
    reordered,
    split_records,
    written,
)
from schemas.vocabulary import Outcome

HELD = {"3cx-web/9-columns.csv", "freepbx/release-2.11.csv"}
"""Samples in which the ledger's own word is tried each time."""
WRITTEN = REPRESENTATIVES - HELD - {"callnotify/state-only.csv", "twilio/title-case.csv"}
"""Samples in which the way of writing is tried each time."""
CALLNOTIFY = "type,state,id,from,to,start_time,zohouser,voiceuri\n"
WEB = "Call Time,Call ID,From,To,Direction,Status,Ringing,Talking\n"
TWILIO = "Sid,ParentCallSid,From,To,Direction,Status,StartTime,AnsweredBy\n"


def _notify(state: str, call_id: str = "a1", start: str = "2026-03-02 14:00:00", to: str = "+12125550142") -> str:
    return f"dialed,{state},{call_id},101,{to},{start},,\n"


def _web(status: str, time: str = "09:00:00") -> str:
    return f"2026-03-02T{time},77,Ann Lee (101),+12125550142,Outbound,{status},0:00:12,0:00:00\n"


def _twilio(sid: str, parent: str, ends: tuple[str, str], direction: str, status: str = "no-answer") -> str:
    ids = f"CA{sid:0>32},{f'CA{parent:0>32}' if parent else ''}"
    return f"{ids},{ends[0]},{ends[1]},{direction},{status},2026-03-02T14:00:{sid:0>2}Z,\n"


# --- Order, files, chunks and columns do not matter ---------------------------------------------------------


@PER_SAMPLE
def test_rows_in_are_outcomes_out(path: Path) -> None:
    """Every record of an export ends as exactly one call or result row."""
    detection = detected(path)
    result = as_it_is(path)
    rows = [record for record in split_records(detection)[1] if not is_no_row(record)]
    assert (result.rows, len(result.listed)) == (len(rows),) * 2


@pytest.mark.fault(18)
@pytest.mark.parametrize("path", for_each(INPUTS, WRITTEN))
def test_way_of_writing_does_not_matter(path: Path, tmp_path: Path) -> None:
    """Columns turned, rows shuffled, read in chunks, dealt out into two files too: an export says the same."""
    detection, whole = detected(path), as_it_is(path).content()
    dice = random.Random(path.name)
    if detection.header:
        order = dice.sample(range(detection.field_count), detection.field_count)
        detection = reordered(detection, tmp_path / "turned.csv", order)
    records = split_records(detection)[1]
    dice.shuffle(records)
    plan = plan_for(path.parent.name)
    assert prepared([written(detection, tmp_path / "shuffled.csv", records)], plan).content() == whole
    parts = [written(detection, tmp_path / f"part{number}.csv", records[number::2]) for number in (0, 1)]
    dealt_out = prepared(parts, replace(plan, chunk_rows=11)).content()
    other, missing = dealt_out - whole, whole - dealt_out
    if detection.format.endpoint:  # what stands behind a name is proved by the rows of one file alone
        assert {row[-1] for row in other} <= {"unknown_direction"}
        assert {row[-1] for row in missing} <= {"incoming", "internal", "attended"}
        other, missing = (Counter(row[-3] for row in rows.elements()) for rows in (other, missing))
    assert other == missing


@pytest.mark.parametrize("path", for_each(INPUTS, HELD))
def test_attended_calls_that_the_ledger_holds(path: Path) -> None:
    """An attended call that the ledger holds otherwise is one conflict, in its place; all else is as it was."""
    plain = as_it_is(path)
    chunk_rows = 1 if path.name in {"9-columns.csv", "state-only.csv"} else 13
    plan = plan_for(path.parent.name, held=lambda ids: dict.fromkeys(ids, True), chunk_rows=chunk_rows)
    shown = prepared([detected(path)], plan)
    pairs = [(was, now) for was, now in zip(plain.listed, shown.listed, strict=True) if was != now]
    conflicts = [now for _, now in pairs]
    attended = [row for row in plain.listed if isinstance(row, ResultRow) and row.reason == "attended"]
    assert {row.place for row in conflicts} <= {row.place for row in attended}
    assert {each.reason for each in conflicts if isinstance(each, ResultRow)} <= {"attended_since"}
    assert {row.source_id for row in conflicts} == {row.source_id for row in attended}
    assert len({row.call_id for row in conflicts} - {""}) == len(conflicts)
    few = prepared([detected(path)], replace(plan, all_rows=False, chunk_rows=CHUNK_ROWS))
    skipped = [row for row in shown.listed if isinstance(row, ResultRow) and row.outcome is Outcome.SKIPPED]
    assert few.listed == [row for row in shown.listed if row not in skipped]
    assert few.skipped == Counter(row.reason for row in skipped)


def test_damaged_file_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """A file that turns out damaged in its last line gives no row, call or count, and changes no other file's."""
    sound, damaged = tmp_path / "sound.csv", tmp_path / "damaged.csv"
    sound.write_text(CALLNOTIFY + _notify("busy"), encoding="utf-8")
    damaged.write_text(
        CALLNOTIFY + _notify("rejected") + _notify("busy", "b2") + '"open\n' + _notify("busy", "b3"),
        encoding="utf-8",
    )
    plan = plan_for("callnotify", chunk_rows=1)
    alone = prepared([detected(sound)], plan)
    with Preparation(catalogue().causes, plan) as preparation:
        preparation.read(detected(sound), "sound.csv", lambda _: None)
        with pytest.raises(InputUnusableError):
            preparation.read(detected(damaged), "damaged.csv", lambda _: None)
        listed = [each for batch in preparation.results() for each in batch]
        assert (preparation.rows, preparation.skipped, listed) == (alone.rows, alone.skipped, alone.listed)


# --- One call out of its rows -------------------------------------------------------------------------------

DIRECTIONLESS = "id,from,to,start_time\na1,+12125550101,+12125550142,2026-03-02 14:00:00\n"
TWICE = _notify("busy") * 2 + _notify("busy", "") * 2 + _notify("busy", "", start="2026-03-02 14:00:01")
LATER = _notify("busy", start="2026-03-02 14:00:01")
CONFLICT = "same_id_other_content same_id_other_content"


@table(
    ("text", "outcomes", "hint"),
    [
        # Beside a row that could not be used, no other row of the call is notified; an attended call stays so.
        (WEB + _web("Unanswered") + _web("Dropped"), "unclear_call unknown_status", "export.csv, line 3"),
        (WEB + _web("Unanswered") + _web("Unanswered", "09:61:30"), "unclear_call unreadable_time", ", line 3"),
        (WEB + _web("Answered") + _web("Dropped"), "attended unknown_status", ""),
        # Rows of a file without any column that could tell which way calls went are rejected for that.
        (DIRECTIONLESS, "unknown_direction", "type, state are empty"),
        # The second of two equal rows is a duplicate that names the first; without an id, fields and start count.
        (CALLNOTIFY + TWICE, "call same_row call same_row call", "export.csv, line 2"),
        # Of two rows with one id that disagree in state, customer or start none is sent.
        (CALLNOTIFY + _notify("busy") + _notify("noanswer"), CONFLICT, ""),
        (CALLNOTIFY + _notify("busy") + _notify("busy", to="+12125550143"), CONFLICT, ""),
        (CALLNOTIFY + _notify("busy") + LATER, CONFLICT, ""),
        # A call cannot start after the run: then zone or clock are wrong.
        (CALLNOTIFY + _notify("busy", start="2027-12-31 00:00:00"), "future_time", ""),
    ],
)
@pytest.mark.fault(17, 22)
def test_rows_of_a_call(text: str, outcomes: str, hint: str, tmp_path: Path) -> None:
    """Rows of a call, equal, contradicting or not understood, end as the contract says, and the first says why."""
    result = prepared_text(tmp_path, text)
    assert result.outcomes() == outcomes.split()
    assert hint in next((row.hint for row in result.listed if isinstance(row, ResultRow)), "")


# --- FreeSWITCH with both legs, Twilio forwarding and click-to-call -----------------------------------------

A_LEG, B_LEG = "6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7b10", "1a2c1a58-0d3e-4b7a-9c41-2f0a8d5e7b11"


def _freeswitch(own: str, other: str, second: int, cause: str) -> str:
    times = f'"2026-03-02 09:00:{second:02}","","2026-03-02 09:00:20"'
    return f'"Emma","105","+447700900142","default",{times},"20","0","{cause}","{own}","{other}","105","P","P"\n'


LEGS = [_freeswitch(A_LEG, B_LEG, 0, "USER_BUSY"), _freeswitch(B_LEG, A_LEG, 1, "USER_BUSY")]


@pytest.mark.parametrize("rows", [LEGS, LEGS[::-1]])
def test_freeswitch_legs_are_one_call(rows: list[str], tmp_path: Path) -> None:
    """With legs=ab the rows that name each other are one call, in either order, and either alone has its id."""
    result, alone = prepared_text(tmp_path, "".join(rows)), prepared_text(tmp_path, rows[0])
    assert sorted(result.outcomes()) == ["call", "other_leg"]
    assert result.calls()[0].start_time == "2026-03-02 09:00:00"
    assert result.calls()[0].call_id == alone.calls()[0].call_id


CUSTOMER, COMPANY, MOBILE = "+12125550142", "+12125550100", "+12125550103"


def test_twilio_legs(tmp_path: Path) -> None:
    """A forwarded call is incoming; of a click-to-call the parent names the agent, whose own leg is no call."""
    rows = _twilio("1", "", (CUSTOMER, COMPANY), "inbound", "completed")
    rows += _twilio("2", "1", (CUSTOMER, "+12125550199"), "outbound-dial")
    rows += _twilio("3", "", (COMPANY, MOBILE), "outbound-api", "completed")
    rows += _twilio("4", "3", (COMPANY, CUSTOMER), "outbound-dial", "busy")
    rows += _twilio("5", "", (COMPANY, MOBILE), "outbound-api")
    result = prepared_text(tmp_path, TWILIO + rows)
    assert result.outcomes() == ["incoming", "other_leg", "other_leg", "call", "agent_leg"]
    assert (result.calls()[0].agent_number, result.calls()[0].customer_number) == (MOBILE, CUSTOMER)
    few = prepared_text(tmp_path, TWILIO + rows, all_rows=False)
    assert (few.listed, few.skipped) == (result.calls(), {"incoming": 1, "other_leg": 2, "agent_leg": 1})


def test_calls_dialled_under_one_parent_with_caller_ids_of_their_own_are_its_legs(tmp_path: Path) -> None:
    """Another agent and customer under one unique id are legs of its call."""
    rows = _twilio("1", "", ("client:ann", COMPANY), "inbound", "completed")
    rows += _twilio("2", "1", (COMPANY, CUSTOMER), "outbound-dial")
    rows += _twilio("3", "1", (MOBILE, "+12125550143"), "outbound-dial", "busy")
    assert prepared_text(tmp_path, TWILIO + rows).outcomes() == ["other_leg", "other_leg", "call"]
    rows += _twilio("4", "1", (MOBILE, "+12125550144"), "outbound-dial", "completed")
    assert prepared_text(tmp_path, TWILIO + rows).outcomes() == [*["other_leg"] * 3, "attended"]


def test_3cx_fields_in_another_order_are_a_format_of_ones_own(tmp_path: Path) -> None:
    """A copy of the built-in format with another name and another order of the fields reads what it read."""
    names = catalogue().formats["3cx-cdr"].layouts[0].columns
    order = [names.index(name) for name in ("time_start", *names[3::-1][1:], *names[4:])]
    text = (ROOT / "schemas/formats/3cx-cdr.toml").read_text(encoding="utf-8")
    text = text.replace('name = "3cx-cdr"', 'name = "our-3cx"', 1)
    quoted = [json.dumps(name) for name in names]
    text = text.replace(", ".join(quoted), ", ".join(quoted[place] for place in order), 1)
    text = text.replace("historyid = 'Call .+'\n", "", 1).replace("time_start = '", "time_start = 'Call ", 1)
    own = tmp_path / "our-3cx.toml"
    own.write_text(text, encoding="utf-8")
    rows = (SAMPLES / "3cx-cdr/day.csv").read_text(encoding="utf-8").removeprefix("Call ").split("\nCall ")
    cells = [row.split(",") for row in rows[:23]]
    path = tmp_path / "cdr.log"
    path.write_text("".join(f"Call {','.join(row[at] for at in order)},\n" for row in cells), encoding="utf-8")
    detection = detect(path, catalogue().candidates(str(own)), Settings(format=str(own)))
    assert isinstance(detection, Detection)
    expected = as_it_is(SAMPLES / "3cx-cdr/day.csv").listed[:23]
    found = prepared([detection], plan_for("3cx-cdr")).listed
    assert [content_of(each) for each in found] == [content_of(each) for each in expected]


# --- Window, states, policies, zone -------------------------------------------------------------------------


def _given_up(form: str, rows: Iterable[str], choices: PolicyChoices, folder: Path, **plan: Any) -> list[str]:
    """Return the outcomes of calls given up by the agent: a header, then rows, less their first four cells."""
    header, *cells = rows
    text = f"Id,Agent,Dialled,Result,{header}\n" + "".join(
        f"a{number},+12125550101,+12125550142,gone,{each}\n" for number, each in enumerate(cells)
    )
    return prepared_in(form, text, folder, policies=PolicyBook(choices), **plan).outcomes()


WHOLE_CALL = OWN.replace("[[direction]]", 'lasted = "Lasted"\nended = "Ended"\n[[direction]]').replace(
    'ring_seconds = "rung"\n', 'ring_seconds = "rung"\nduration_seconds = "lasted"\nend_time = "ended"\n'
)


def test_cancelled_call_counts_when_it_rang(tmp_path: Path) -> None:
    """A call given up counts where it rang ten seconds, or where nothing of its row tells that it did not."""
    outcomes = {
        ("", "9", ""): "cancelled",
        ("", "10", ""): "call",
        ("", "0", ""): "cancelled",
        ("9", "", ""): "cancelled",
        ("10", "", ""): "call",
        ("0:00:10", "", ""): "call",
        ("12", "9", ""): "call",
        ("9", "30", ""): "cancelled",
        ("", "", "2026-03-02 14:00:09"): "cancelled",
        ("", "", "2026-03-02 14:00:10"): "call",
        ("", "12", "2026-03-02 14:00:09"): "call",
        ("", "", "2026-03-02 14:00:00"): "call",
        ("", "", "2026-03-02 13:59:59"): "call",
        ("", "", "soon"): "call",
        ("", "", ""): "call",
    }
    header = "Rung,Lasted,Ended,Started"
    cells = [f"{','.join(each)},2026-03-02 14:00:00" for each in outcomes]
    found = _given_up(WHOLE_CALL, (header, *cells), PolicyChoices(cancelled_unknown="noanswer"), tmp_path)
    assert dict(zip(outcomes, found, strict=True)) == outcomes
    skipping = PolicyChoices(cancelled_unknown="skip")
    assert _given_up(WHOLE_CALL, (header, cells[1]), skipping, tmp_path) == ["cancelled"]


def test_end_may_stand_in_two_columns(tmp_path: Path) -> None:
    """The end of a call is read as its start is: date and clock joined, in the operator's zone, over midnight."""
    own = OWN.replace(
        'rung = "Rung"\nstarted = "Started"', 'day = "Day"\nclock = "At"\nend = "End"\nover = "Over"'
    )
    own = own.replace('columns = "started"', 'columns = ["day", "clock"]').replace("%Y-%m-%d", "%d.%m.%Y")
    own = own.replace('zone = "UTC"\n', "").replace('ring_seconds = "rung"', 'end_time = ["end", "over"]')
    rows = (
        "Day,At,End,Over",
        "02.03.2026,23:59:52,02.03.2026,23:59:59",
        "02.03.2026,23:59:52,03.03.2026,00:00:02",
    )
    assert _given_up(own, rows, PolicyChoices(), tmp_path, timezone="Europe/London") == ["cancelled", "call"]


RULES = (
    OWN.replace("[columns]", '[columns]\ncode = "Code"\ntrunk = "Trunk"\nzone = "Zone"')
    .replace("[[direction]]", '[derived]\nwhole = [{ column = "dialled", country_code = "code" }]\n[[direction]]')
    .replace('words = { gone = "cancelled",', 'unknown = "next"\nwords = { gone = "invalid",')
    .replace("[time]", '[[outcome]]\ncolumn = "trunk"\ntable = "sip"\n[time]')
    .replace('%S"]\nzone = "UTC"', '%S", "iso8601"]\nzone_column = "zone"')
    .replace('customer = "dialled"', 'customer = "whole"')
)


def _rules(folder: Path, rows: Iterable[str], **changes: object) -> list[Prepared]:
    """Prepare rows of the agent's calls, given number, country code, result, trunk, start and zone of each."""
    text = "Id,Agent,Rung,Dialled,Code,Result,Trunk,Started,Zone\n" + "".join(
        f"a{number},+12125550101,,{row}\n" for number, row in enumerate(rows)
    )
    return prepared_in(RULES, text, folder, **changes).listed


def _said(listed: Iterable[Prepared], name: str) -> list[str]:
    """Return what calls hold under a name, and the reasons of the rows that are none."""
    return [str(getattr(each, name)) if isinstance(each, Call) else each.reason for each in listed]


def test_word_that_nothing_knows_may_leave_it_to_the_next_rule(tmp_path: Path) -> None:
    """With unknown = "next" a word of the customer's own leaves the row to the rules below; else it is named."""
    outcomes = {
        "gone,486": "invalid",
        "Sold,486": "busy",
        ",486": "busy",
        "Sold,": "unknown_status",
        "Sold,999": "unknown_status",
        ",": "missing_status",
        "Sold,200": "attended",
    }
    listed = _rules(tmp_path, [f"+12125550142,,{words},2026-03-02 14:00:00,UTC" for words in outcomes])
    assert dict(zip(outcomes, _said(listed, "state"), strict=True)) == outcomes
    unknown = [each for each in listed if isinstance(each, ResultRow) and each.reason == "unknown_status"]
    assert all('Column Result holds "Sold"' in each.hint for each in unknown)


def test_country_code_of_its_own_column(tmp_path: Path) -> None:
    """A national number is read with the country code beside it, and never without one or with another."""
    customers = {
        "2125550142,1": "+12125550142",
        "07700900142,44": "+447700900142",
        "7700 900142,44": "+447700900142",
        "+12125550142,44": "+12125550142",
        "+12125550142,": "+12125550142",
        "447700900142,44": "too_many_digits",
        "2125550142,x": "letters_in_number",
        "7700900142,044": "impossible_number",
        "Anonymous,1": "withheld_number",
        ",1": "missing_number",
        "2125550142,": "no_country",
    }
    listed = _rules(tmp_path, [f"{each},gone,,2026-03-02 14:00:00,UTC" for each in customers], country=None)
    assert dict(zip(customers, _said(listed, "customer_number"), strict=True)) == customers


@pytest.mark.parametrize(
    ("country", "prefix", "called", "dialled", "customer"),
    [
        ("GB", "", "907700900142", "07700900142", "+447700900142"),
        ("GB", "", "07700900142", "907700900142", "+447700900142"),
        ("GB", "9", "07700900142", "907700900142", "+447700900142"),
        ("GB", "9", "907700900142", "907700900142", "+447700900142"),
        ("DE", "0", "00447700900142", "000447700900142", "+447700900142"),  # not 04477 00900142
        ("DE", "", "03023125000", "003023125000", "+493023125000"),
        ("US", "", "12125550142", "5550142", "no_area_code"),  # perhaps the system added it
        ("US", "", "5550142", "5550142", "no_area_code"),
        ("US", "", "912125550142", "912125550142", "too_many_digits"),
    ],
)
def test_sent_number(country: str, prefix: str, called: str, dialled: str, customer: str, tmp_path: Path) -> None:
    """Digits sent to the line count before those dialled, and no outside prefix is taken off them."""
    row = f"2026/03/02 09:14:07,00:00:00,32,105,O,{called},{dialled},,0,1,0,E105,Emma,T9001,LINE 5.1,0,0,,,\n"
    chosen = PolicyBook(PolicyChoices(outside_prefix=outside_prefixes(prefix)))
    listed = prepared_text(tmp_path, row, country=country, policies=chosen).listed
    assert _said(listed, "customer_number") == [customer]


def test_outside_prefix_is_no_part_of_dialling_for_agents(tmp_path: Path) -> None:
    """The number under which an agent calls is never dialled: what is dialled for a line stays in it."""
    row = "2026/03/02 09:14:07,00:00:00,32,00493023125000,O,0030 23125001,,,0,1,0,T777,X,T9001,LINE 5.1,0,0,,,"
    chosen = PolicyBook(PolicyChoices(outside_prefix=("0",)))
    found = prepared_text(tmp_path, f"{row}\n", country="DE", policies=chosen).listed[0]
    assert isinstance(found, Call)
    assert (found.agent_number, found.customer_number) == ("+493023125000", "+493023125001")


def test_zone_of_its_own_column(tmp_path: Path) -> None:
    """The zone that a row names, or the offset of its time, outranks --timezone; a wrong one is never replaced."""
    starts = {
        "2026-03-02 14:00:00,UTC": "2026-03-02 14:00:00",
        "2026-03-02 14:00:00,America/New_York": "2026-03-02 19:00:00",
        "2026-03-02 14:00:00,": "2026-03-02 13:00:00",
        "2026-03-02 14:00:00,Mars/Olympus": "unknown_zone",
        "2026-03-02T14:00:00+02:00,Mars/Olympus": "2026-03-02 12:00:00",
    }
    listed = _rules(tmp_path, [f"+12125550142,,gone,,{each}" for each in starts], timezone="Europe/Paris")
    assert dict(zip(starts, _said(listed, "start_time"), strict=True)) == starts
    unzoned = _rules(tmp_path, ["+12125550142,,gone,,2026-03-02 14:00:00,"], timezone=None)
    assert _said(unzoned, "reason") == ["no_zone"]


def test_zone_default_gives_way_to_the_option(tmp_path: Path) -> None:
    """A 3CX CDR file is read as UTC unless --timezone says otherwise."""
    row = (SAMPLES / "3cx-cdr/day.csv").read_text(encoding="utf-8").splitlines(keepends=True)[0]
    for timezone, start in ((None, "2026-03-02 14:14:07"), ("Europe/Paris", "2026-03-02 13:14:07")):
        assert prepared_text(tmp_path, row, timezone=timezone).calls()[0].start_time == start


# --- Call ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "source_id", "key", "call_id"),
    [
        ("", "call20260302a1", "icall20260302a1", "call20260302a1"),
        ("", "A" * 64, "i" + "A" * 64, "A" * 64),
        ("", "1772460847.42", "i1772460847.42", "d2f0d0fbaaad58ae81362819969d36aa"),
        ("paris", "call20260302a1", "icall20260302a1", "4b10555576ebb498db113f6e07cc11e3"),
        ("", "", "u+12125550101\x1f+12125550142\x1f2026-03-02 14:14:07", "5795be69592045e2d879f5315dced89b"),
    ],
)
def test_call_id_is_the_same_for_ever(site: str, source_id: str, key: str, call_id: str) -> None:
    """An id once given never changes: it is the key of the ledger and of what the API got."""
    assert call_id_of(site, source_id, key) == call_id


@pytest.mark.fault(20)
@pytest.mark.parametrize("source_id", ["a-1", "a.1", "A" * 65, "ä1", "a1\n"])
def test_call_id_holds_letters_and_digits_only(source_id: str) -> None:
    """An export's own id with anything else in it, or too long, is derived."""
    made = call_id_of("", source_id, f"i{source_id}")
    assert len(made) == 32
    assert made.isascii()
    assert made.isalnum()


@table("name", ["table-26-columns", "16-columns"])
def test_table_gives_the_same_with_and_without_header(name: str, tmp_path: Path) -> None:
    """A format that has columns and layouts reads a table with its header, and without it, alike."""
    path = SAMPLES / "freepbx" / f"{name}.csv"
    as_sampled, text = detected(path), path.read_text(encoding="utf-8")
    if as_sampled.header:
        other = text.split("\n", maxsplit=as_sampled.header_line or 0)[-1]
    else:
        header = ",".join(sorted(as_sampled.positions, key=as_sampled.positions.__getitem__))
        other = f"{header}\n{text}"
    assert prepared_text(tmp_path, other).content() == as_it_is(path).content()
    assert bool(as_sampled.header) is not bool(detected(tmp_path / "export.csv").header)


def test_row_of_another_shape_makes_its_call_unclear(tmp_path: Path) -> None:
    """It may be the row that was attended: a call is found by its id in what is left of a row, from either end."""
    lines = (SAMPLES / "asterisk-csv" / "day.csv").read_text(encoding="utf-8").splitlines()
    first, second = (line for line in lines if '"1772462460.66"' in line)
    others = [line for line in lines if line not in (first, second)]
    busy, answered = first.replace("FAILED", "BUSY"), second.replace("NO ANSWER", "ANSWERED")
    for broken, reason in (
        (answered.removeprefix('"",'), "wrong_cell_count"),
        (answered.replace('"102"', '"10","2"', 1), "wrong_cell_count"),  # the last cell is empty
        ("\0\0\0" + answered, "control_character"),
    ):
        for row_id, expected in (("1772462460.66", "unclear_call"), ("1772462461.67", "call")):
            text = "\n".join([*others, busy, broken.replace("1772462460.66", row_id), ""])
            assert prepared_text(tmp_path, text).outcomes()[-2:] == [expected, reason]
    unfinished = answered.removesuffix(',""')
    assert prepared_text(tmp_path, "\n".join([busy, *others, unfinished])).outcomes()[-1] == "unfinished_row"
