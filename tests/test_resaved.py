"""Every sample in every way in which a spreadsheet or a database client saves it anew; the same calls."""

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle, permutations, product, zip_longest
from operator import attrgetter
from pathlib import Path

import pandas as pd
import pytest

from conftest import SAMPLES, cases, table
from importer.errors import InputUnusableError
from importer.formats.catalogue import systems_of
from importer.formats.dates import DateOrder, is_own, own_order, year_last
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.ledger.schema import create_ledger
from importer.prepare.keys import UUID, call_id_of, other_keys, plain_keys
from importer.prepare.preparation import ENOUGH_ROWS, Preparation
from importer.settings.options import Settings
from ledgers import CREATED, add, call, opened, take
from samples import (
    INPUTS,
    as_it_is,
    catalogue,
    cells_of,
    detected,
    detected_as,
    for_each,
    only_calls,
    plan_for,
    prepared,
    prepared_text,
    rows_read,
    sample_name,
    text_of_calls,
    written,
)
from schemas.vocabulary import Outcome

Rows = list[list[str]]
Way = Callable[[Detection, Rows], bytes]

CASES = cases("resaved")
FEW = ("callnotify/day.csv", "asterisk-csv/day.csv", "freeswitch-csv/day.csv", "3cx-cdr/day.csv")


def saved(rows: Iterable[list[str]], delimiter: str = ",", *, quote_all: bool = False, end: str = "\r\n") -> str:
    """Return rows as a spreadsheet program saves them."""
    target = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(target, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
    return target.getvalue()


def each_row(change: Callable[[str], str]) -> Way:
    """Return the way that changes every cell below the header, where the row has the shape of its format."""

    def way(found: Detection, rows: Rows) -> bytes:
        width, body = found.field_count, _body(found, rows)
        changed = [[change(cell) for cell in row] if len(row) >= width else row for row in rows[body:]]
        return saved([*rows[:body], *changed]).encode()

    return way


def _body(found: Detection, rows: Rows) -> int:
    """Return how many records stand above the first row."""
    return rows.index(list(found.header)) + 1 if found.header_line else 0


def with_rewritten_dates(found: Detection, rows: Rows) -> bytes:
    """Return the file with its ISO dates written day first, as a German spreadsheet does.

    A date that has its year last in the sample is a fault of its row there, and no fault any more here: it goes.
    """
    iso = re.compile(r"(\d{4})[-/](?!02[-/]3)(\d\d)[-/](\d\d)([ T]\d\d:\d\d:\d\d)")
    places = {found.positions[name] for name in found.format.read_columns() if name in found.positions}
    changed = [list(row) for row in rows]
    for row in changed[_body(found, rows) :]:
        for place in places & set(range(len(row))):  # a date that does not exist stays as it is
            if year_last(row[place].strip().partition(" ")[0]) and own_order(found.format.time.formats) is None:
                row[place] = "?"
            match = iso.fullmatch(row[place].strip())
            if match and is_own(row[place].strip(), (*found.format.time.formats, "iso8601")):
                row[place] = f"{match[3]}.{match[2]}.{match[1]}{match[4].replace('T', ' ')}"
    return saved(changed, ";").encode("utf-8-sig")


def forced(cell: str) -> str:
    """Return a cell of digits as forced text."""
    return f'="{cell}"' if re.fullmatch(r"\+?[\d. ()-]*\d[\d. ()-]*", cell.strip()) else cell


def marked(cell: str) -> str:
    """Return a number between direction marks and no-break spaces, as it is copied from a chat."""
    return f"\u202a\u00a0{cell[:2]}\u00ad{cell[2:]}\u202c\u200e" if re.fullmatch(r"\+?\d{3,}", cell) else cell


def apostrophe(cell: str) -> str:
    """Return a number with the apostrophe that makes it text."""
    return f"'{cell}" if re.fullmatch(r"[-+=@(]?\d[\d.() -]*", cell) else cell


def of_text(change: Callable[[str], bytes]) -> Way:
    """Return the way that changes the text as the system wrote it."""
    return lambda found, _: change(found.path.read_bytes().decode(found.encoding).removeprefix("\ufeff"))


def of_rows(change: Callable[[Rows], bytes]) -> Way:
    """Return the way that writes the rows anew."""
    return lambda _, rows: change(rows)


def with_decimals(found: Detection, rows: Rows) -> bytes:
    """Return the file with its codes and counts as pandas writes them in a column with an empty cell."""
    body = _body(found, rows)
    places = {found.positions[name] for name in found.format.columns_of_words() & found.positions.keys()}
    changed = [[*row] for row in rows]
    for row in changed[body:]:
        for place in places & set(range(len(row))):
            row[place] = re.sub("^(0|-?[1-9][0-9]{,14})$", r"\1.0", row[place])
    return saved(changed).encode()


def with_empty_tail(found: Detection, rows: Rows) -> bytes:
    """Return the file with empty cells behind those of its rows."""
    body, width = _body(found, rows), found.field_count
    return saved([*rows[:body], *([*row, "", ""] if len(row) == width else row for row in rows[body:])]).encode()


def with_what_clients_print(found: Detection, rows: Rows) -> bytes:
    """Return the file with a rule under its header and a count of its rows, as a database client prints it."""
    body = _body(found, rows)
    rule = [["-" * max(len(cell), 1) for cell in rows[body - 1]]] if body else []
    return (saved([*rows[:body], *rule, *rows[body:]], "\t") + f"\r\n({len(rows) - body} Zeilen)\r\n").encode()


WAYS: dict[str, Way] = {
    "cp1252": of_text(lambda text: text.encode("cp1252", "ignore")),
    "semicolon": of_rows(lambda rows: saved(rows, ";").encode("utf-8-sig")),
    "unicode-text": of_rows(lambda rows: ("\ufeff" + saved(rows, "\t")).encode("utf-16-le")),
    "pipe": of_rows(lambda rows: saved(rows, "|", end="\n").encode()),
    "quote-all": of_rows(lambda rows: saved(rows, quote_all=True).encode()),
    "sep-line": of_rows(lambda rows: ("sep=;\r\n" + saved(rows, ";")).encode("utf-8-sig")),
    "blank-lines": of_rows(lambda rows: saved([each for row in rows for each in (row, ["", "", ""])]).encode()),
    "totals": of_rows(lambda rows: (saved(rows) + "Total,,\r\n").encode()),
    "joined": of_text(lambda text: (text + "\ufeff" + text).encode()),
    "printed": with_what_clients_print,
    "empty-tail": with_empty_tail,
    "forced-text": each_row(forced),
    "apostrophe": each_row(apostrophe),
    "marks": each_row(marked),
    "dates": with_rewritten_dates,
    "decimals": with_decimals,
}


def applies(found: Detection, way: str) -> bool:
    """Say whether a sample can be written so: not with the year last itself, or a cell that must be last."""
    if found.format.file.columns:
        return False
    if way == "dates":
        layouts = found.format.time.formats
        is_year_first = all(max(each.find("%Y"), each.find("%y")) <= max(each.find("%d"), 0) for each in layouts)
        return is_year_first and found.rewriting is None
    if way == "cp1252":  # not of a header that has no letter in it, nor of words that lack one
        words = {word for rule in found.format.outcome for word in rule.words}
        is_whole = all(word.encode("cp1252", "ignore").decode("cp1252") == word for word in words)
        return is_whole and all(cell.encode("cp1252", "ignore") for cell in found.header if cell)
    return way != "empty-tail" or found.format.name != "freeswitch-sql"


def same_calls(folder: Path, path: Path, way: str) -> None:
    """Assert that a sample written down in another way gives the same calls."""
    other = folder / "export"
    found = detected(path)
    if not applies(found, way):
        return
    other.write_bytes(WAYS[way](found, cells_of(path)))
    encoding = "cp1252" if way == "cp1252" else None
    order = DateOrder.DAY_MONTH if way == "dates" else None
    again = detected_as(other, found.format, encoding=encoding, date_order=order)
    if rows_read(again) != rows_read(found):
        assert prepared([again], plan_for(path.parent.name)).notified() == as_it_is(path).notified(), way


@pytest.mark.parametrize("number", range(len(FEW)), ids=FEW)
def test_same_calls(tmp_path: Path, number: int) -> None:
    """Samples of all kinds of layout and quoting, each in a share of the ways, so that each way is tried once."""
    path = next(path for path in INPUTS if sample_name(path) == FEW[number])
    for way in [*WAYS][number :: len(FEW)]:
        same_calls(tmp_path, path, way)


@pytest.mark.parametrize("name", ["bandwidth/calls.csv", "cdr-stats/import.csv", "vicidial/carrier.csv"])
def test_codes_written_as_decimals(tmp_path: Path, name: str) -> None:
    """SIP, Q.850 and country codes as 486.0 are those that the tables know."""
    path = SAMPLES / name
    assert len(re.findall(rb"\d\.0\b", WAYS["decimals"](detected(path), cells_of(path)))) > 9
    same_calls(tmp_path, path, "decimals")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(INPUTS)), ids=map(sample_name, INPUTS))
def test_all_samples_give_the_same_calls(tmp_path: Path, number: int) -> None:
    """Those few samples are tried in every way, each other one in every fourth way, its neighbours in the rest."""
    path, ways = INPUTS[number], [*WAYS]
    for way in ways if sample_name(path) in FEW else ways[number % 4 :: 4]:
        same_calls(tmp_path, path, way)


@table(("known", "given"), [("1772460847.50", "1772460847.5"), ("1772460847.5", "1772460847.500")])
def test_ids_taken_for_numbers(tmp_path: Path, known: str, given: str) -> None:
    """A call that the ledger holds by its id is known by what a program leaves of it, and the other way round."""
    day = (SAMPLES / "asterisk-csv/day.csv").read_text(encoding="utf-8").splitlines()
    row = next(line for line in day if "NO ANSWER" in line)

    def taken_in(*texts: str, held: Collection[str] = ()) -> list[str]:
        export = "".join(re.sub(r"17\d{8}\.\d+", text, f"{row}\n") for text in texts)
        ids = {call_id_of("", "", f"i{each}") for each in held}
        plan = {"held": lambda asked: {each: True for each in asked if each in ids}}
        return [call.call_id for call in prepared_text(tmp_path, export, **plan).calls()]

    assert len(taken_in(known, given)) == 1
    some = [[text.replace("847.", f"{count}.") for text in (known, given)] for count in (841, 842, 843)]
    (_, first), (second, _), (third, third_too) = some  # of which the ledger holds none, one spelling, and both
    found = taken_in(*(given for _, given in some), held=(second, third, third_too))
    assert found == [call_id_of("", "", f"i{each}") for each in (first, second, third_too)]
    found = taken_in(given, "1772460861.7", "1772460863.8", "1772460870", held=(known,))
    # 1772460870 is cut, and its 0 keeps nothing.
    assert (len(found), found[0]) == (3, call_id_of("", "", f"i{known}"))


@pytest.mark.parametrize("name", ["grandstream-api/day.csv", "omnileads/log.csv", "yeastar-p/day.csv"])
def test_ids_with_a_decimal_comma(tmp_path: Path, name: str) -> None:
    """Ids of a clock and a count that a program wrote with a comma, or without the count, are of no call."""
    rows = [*csv.reader(text_of_calls(SAMPLES / name).splitlines())]
    for mark in (r"\1,\2", r"\1"):
        changed = [[re.sub(r"^(\d{10})\.(\d+)$", mark, cell) for cell in row] for row in rows]
        result = prepared_text(tmp_path, saved(changed, ";"))
        assert {"decimal_comma", "cut_id"}.intersection(result.outcomes()), mark
        assert not any(call.source_id[:1].isdigit() for call in result.calls()), mark


@pytest.mark.parametrize(
    "folder",
    [
        *("freepbx", "issabel", "yeastar-p", "yeastar-s", "cisco-gateway", "freeswitch-csv", "netsapiens"),
        *("twilio", "ringcentral-api"),
    ],
)
def test_words_for_nothing(tmp_path: Path, folder: str) -> None:
    """`NA`, `none`, dashes, errors, and 0 where an id, a number dialled in or a time of the answer would be."""
    path = max((each for each in INPUTS if each.parent.name == folder), key=lambda each: each.stat().st_size)
    found, names = detected(path), ("did", "didnumber", "source_trunk", "srctrunk", "connect_time", "to_extension")
    ids = {each for names in found.format.call.id if len(names) == 1 for each in found.format.origins(names[0])}
    may_be_empty = {*found.format.origins_of_ids(), *found.format.columns_tested_for_emptiness()}
    words = ("NA", "--", "none", "undefined", "#REF!", "Unknown")
    nothing = dict[int, Iterator[str]]()
    for name, place in found.positions.items():
        texts = [words if name in may_be_empty else (), ("0",) * 6 if name in {*ids, *names} else ()]
        nothing[place] = cycle([text for pair in zip_longest(*texts) for text in pair if text])
    rows = [list(row) for row in cells_of(path)]
    for row in rows[_body(found, rows) :]:
        if len(row) == found.field_count:
            row[:] = [cell or next(nothing.get(place, cycle([])), "") for place, cell in enumerate(row)]
    (tmp_path / "export").write_text(saved(rows), encoding="utf-8")
    again = detected_as(tmp_path / "export", found.format)
    assert prepared([again], plan_for(folder)).notified() == as_it_is(path).notified()


NO_CALLS = {"attended", "incoming", "internal", "other_leg", "agent_leg"}
IN_NO_OTHER_COLUMN = {(name, column): outcome for name, column, outcome in CASES["untold"]}


@pytest.mark.parametrize("path", for_each(INPUTS, {"dialpad/calls.csv"}))
def test_optional_columns_left_out(tmp_path: Path, path: Path) -> None:
    """Without an optional column no row that was incoming, internal or a leg is a call; no call becomes one."""
    found, rows = detected(path), cells_of(path)
    if not found.header_line or found.format.file.columns:
        return
    as_they_were = dict(_by_line(tmp_path, path, rows))
    for name in found.format.optional_columns.keys() & found.positions.keys():
        at, width = found.positions[name], found.field_count
        is_behind = at > found.positions.get(found.format.file.spill or "", width)
        lacking = [cells[:] for cells in rows]
        for row in lacking:
            del row[(place := at + is_behind * max(len(row) - width, 0)) : place + 1]
        for line, outcome in _by_line(tmp_path, path, lacking):
            known, untold = as_they_were.get(line), IN_NO_OTHER_COLUMN.get((found.format.name, name))
            assert outcome != "call" or known not in NO_CALLS - {untold}, (name, line)
            assert known != "call" or outcome not in {"incoming", "internal"}, (name, line)


def _by_line(folder: Path, path: Path, rows: Rows) -> list[tuple[int, str]]:
    """Return line and outcome of rows that are saved as a file, none where no format fits it."""
    (folder / "export").write_text(saved(rows), encoding="utf-8")
    found = detect(folder / "export", list(catalogue().formats.values()), Settings())
    if not isinstance(found, Detection):
        return []
    result = prepared([found], plan_for(path.parent.name))
    return [(each.place.line, told) for each, told in zip(result.listed, result.outcomes(), strict=True)]


WITH_IDS = [path for path in INPUTS if sample_name(path) in CASES["with_ids"]]


# In the normal run an id for which another stands in (3CX), and one of two columns with a key (VICIdial).
@pytest.mark.parametrize("path", for_each(WITH_IDS, {"3cx-database/day.csv", "vicidial-alternate/day.csv"}))
def test_columns_of_ids_left_out(tmp_path: Path, path: Path) -> None:
    """A call that an export with other columns of ids may have given another id is rejected, and not sent."""
    if len(records := only_calls(path)) >= ENOUGH_ROWS:
        path = written(detected(path), tmp_path / "whole", records).path
    found, rows, exports = detected(path), cells_of(path), [path]
    call_of = attrgetter("agent_number", "customer_number", "start_time")
    for column in found.format.id_columns() & found.format.optional_columns.keys() & found.positions.keys():
        at = found.positions[column]
        body = _body(found, rows)
        emptied = [[*row[:at], *[""] * (at < len(row)), *row[at + 1 :]] for row in rows[body:]]
        for way, some in (
            ("without", [[*row[:at], *row[at + 1 :]] for row in rows]),
            ("empty", [*rows[:body], *emptied]),
        ):
            exports.append(tmp_path / f"{way}-{column}")
            exports[-1].write_text(saved(some), encoding="utf-8")
    plan, said = plan_for(found.format.name), 0
    whole, *others = (prepared([detected(each)], plan).calls() for each in exports)
    pairs = [*product([whole], others), *product(others, [whole])]
    for number, ((first, second), is_one_run) in enumerate(product(pairs, [False, True])):
        create_ledger(tmp_path / f"{number}.sqlite", now=CREATED)
        with opened(tmp_path / f"{number}.sqlite") as ledger:
            staged = take(ledger, *first, *second) if is_one_run else take(ledger, *first) + take(ledger, *second)
        taken, again = staged[: len(first)], staged[len(first) :]
        known, calls = {each.call_id for each in taken}, {call_of(each) for each in first}
        for each, other in zip(again, second, strict=True):
            if each.call_id not in known and (each.outcome is Outcome.REJECTED or call_of(other) in calls):
                columns, said = {*first[0].id_scheme} ^ {*second[0].id_scheme}, said + 1
                assert (each.outcome, each.receipt.reason) == (Outcome.REJECTED, "other_id_columns"), other
                assert all(column in each.receipt.hint for column in columns)
    assert said


def test_formats_of_one_system(tmp_path: Path) -> None:
    """A call to which another format of its system may have given another id is rejected, and not sent."""
    systems, schemes = systems_of(catalogue().formats.values()), dict[str, tuple[str, ...]]()
    for path in INPUTS:
        if (name := path.parent.name) in systems.keys() - schemes.keys():
            found = detected_as(path, catalogue().formats[name])
            with Preparation(catalogue().causes, plan_for(name)) as preparation:
                rules = preparation._rules(found)
            schemes[name] = replace(rules, filled=frozenset(rules.headers)).id_scheme()
    assert schemes.keys() == systems.keys()
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    with opened(tmp_path / "ledger.sqlite") as ledger, ledger.staging(systems) as staging:
        for first, second in permutations(schemes, 2):
            is_one_id = " ".join(sorted((first, second))) in CASES["one_id"]
            for seconds in (-61, -60, 0, 60, 61) if systems[first][0] == systems[second][0] else ():
                site = f"{first} {second} {seconds}"  # of their own
                known = replace(call(f"{site} a"), id_scheme=(site, *schemes[first][1:]))
                start = f"{datetime.fromisoformat(known.start_time) + timedelta(0, seconds)}"
                scheme = (site, *schemes[second][1:])
                _, again = add(
                    staging, known, replace(known, call_id=f"{site} b", start_time=start, id_scheme=scheme)
                )
                is_told = abs(seconds) <= 60 and not is_one_id
                assert again.outcome is (Outcome.REJECTED if is_told else None), site
                assert not is_told or f"Export again in format {first}, or" in again.receipt.hint


@pytest.mark.parametrize("name", ["3cx-web/day.csv", "freeswitch-csv/day.csv", "genesys-cloud/month-first.csv"])
def test_columns_of_ids_empty_in_single_rows(tmp_path: Path, name: str) -> None:
    """Rows that are imported by themselves, late or mended, are not taken for an export without columns of ids."""
    path, kinds = SAMPLES / name, dict[tuple[bool, ...], str]()
    found, records = detected(path), only_calls(path)
    places = found.places(found.format.origins_of_ids())
    for record, cells in zip(records, csv.reader(records), strict=True):
        kinds[tuple(bool(cells[place]) for place in places)] = record  # the others are as this one
    exports = [written(found, tmp_path / f"{number}", [each]) for number, each in enumerate(kinds.values())]
    plan, whole = plan_for(found.format.name), written(found, tmp_path / "whole", records)
    schemes = [[call.id_scheme for call in prepared(each, plan).calls()] for each in ([whole], exports)]
    assert {*schemes[0]} == {*schemes[1]} and len(schemes[1]) == len(kinds)


@pytest.mark.parametrize("name", ["dialpad/calls.csv", "yeastar-p/day.csv", "zoom-phone/logs.csv"])
def test_note_behind_the_name_of_a_column(tmp_path: Path, name: str) -> None:
    """A unit or zone behind the name of a column refuses the file, whether the format could do without or not."""
    found, rows = detected(SAMPLES / name), [*cells_of(SAMPLES / name)]
    header, at = found.header, _body(found, rows) - 1
    for place in found.places(found.format.used_columns()):
        for note in (" (min)", " [UTC]", ", seconds", "\n(h)", "_x", ".1"):
            rows[at] = [cell + note if number == place else cell for number, cell in enumerate(header)]
            (tmp_path / "export").write_text(saved(rows), encoding="utf-8")
            with pytest.raises(InputUnusableError, match=r"may be column|no format known"):
                detect(tmp_path / "export", [found.format], Settings())


def test_extensions_written_as_decimals(tmp_path: Path) -> None:
    """A call of extension 104 is that of 104.00, which is an extension too and no number from outside."""
    for name in ("3cx-trunk/day.csv", "3cx-web-18/day.csv"):
        original, ids = text_of_calls(SAMPLES / name), as_it_is(SAMPLES / name).ids()
        resaved = original.replace(",104,", f",104.0{'0' * name.startswith('3cx-trunk')},")
        held = {"held": lambda asked, ids=ids: {each: True for each in asked if each in ids}}
        assert resaved != original and prepared_text(tmp_path, resaved, **held).ids() == ids, name


def test_numbers_of_keys_in_scientific_notation(tmp_path: Path) -> None:
    """A call without an id, of whose numbers a program has cut one, is of no known call: it is rejected."""
    for name, column in (
        ("aircall/older.csv", "from"),
        ("callnotify/day.csv", "from"),
        ("didww/outbound.csv", "source"),
        ("justcall-api/calls.csv", "justcall_number"),
        ("zoom-phone/logs.csv", "from_number"),
    ):
        found = detected(SAMPLES / name)
        lines, delimiter = text_of_calls(SAMPLES / name).splitlines(), found.dialect.delimiter
        rows, at = [*csv.reader(lines, delimiter=delimiter)], found.positions[column]
        for row in rows[_body(found, rows) :]:
            row[at] = re.sub(r"\+?(\d)(\d)\d{8,}", r"\1.\2E+10", row[at])
        result = prepared_text(tmp_path, saved(rows))
        assert result.ids() <= as_it_is(SAMPLES / name).ids(), name


def hour_of_24(found: re.Match[str]) -> str:
    """Return a time of day without AM and PM."""
    return f"{int(found[1]) % 12 + 12 * (found[3] == 'P'):02}:{found[2]}"


def test_key_of_which_all_is_written_anew() -> None:
    """Date, time, both numbers and duration in another way make a key known by the other, and one in one run."""
    system = "u03/02/2026\x1f09:14 PM\x1f+12125550101\x1f+12125550142\x1fBusy\x1f0:00:25"
    midnight = system.replace("09:14 PM", "12:14 AM").replace("0:00:25", "0:00:00")
    for known, other in (
        (system, "u3/2/2026\x1f9:14 PM\x1f12125550101\x1f12125550142\x1fBusy\x1f12:00:25 AM"),
        (system, "u3/2/2026\x1f21:14\x1f0012125550101\x1f+12125550142\x1fBusy\x1f00:00:25"),
        (system, "u03/02/2026\x1f09:14 PM\x1f12125550101.0\x1f12125550142.0\x1fBusy\x1f0:00:25"),
        (midnight, "u3/2/2026\x1f00:14:00\x1f12125550101\x1f12125550142\x1fBusy\x1f00:00:00"),
        (midnight, "u3/2/2026\x1f12:14:00 AM\x1f+12125550101\x1f+12125550142\x1fBusy\x1f12:00:00 AM"),
    ):
        assert known in other_keys(other) and other in other_keys(known)
        assert plain_keys(pd.Series([known, other], dtype="str")).nunique() == 1


def test_key_of_numbers_that_were_printed() -> None:
    """A call with printed numbers is known by their digits, as it is the other way round, and one in one run."""
    for known, given in (
        ("u9:14\x1f(212) 555-0101\x1f(212) 555-0142", "u9:14\x1f+12125550101\x1f+12125550142"),
        ("u9:14\x1f(212) 555-0101\x1f(212) 555-0142", "u9:14\x1f2125550101\x1f2125550142"),
        ("u9:14\x1f101\x1f(1212) 555-0142", "u9:14\x1f101\x1f12125550142"),
    ):
        assert known in other_keys(given, "+12125550142") and given in other_keys(known, "+12125550142")
        assert plain_keys(pd.Series([known, given], dtype="str")).nunique() == 1


def test_duration_in_a_key_as_a_part_of_a_day(tmp_path: Path) -> None:
    """A call that is told from others by a duration, which a workbook holds as a part of a day, is rejected."""
    text = text_of_calls(SAMPLES / "ringcentral-call-log/detailed.csv").replace("0:00:25", "0.000289351851851852")
    assert prepared_text(tmp_path, text).outcomes().count("unreadable_duration") == text.count("0.000289") > 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("3cx-trunk/day.csv", {r",\+(\d{11}),": r",\1,"}),
        ("avaya-ipo/day.csv", {r" (09:\d\d),": r" \1:00,"}),
        ("3cx-database/psql.csv", {UUID: lambda found: found[0].upper()}),
        ("magnusbilling/failed.csv", {r"(\d{10}\.\d+)0,": r"\1,"}),
        ("kx-hts/day.csv", {r",00(44\d{10}),": r",\1,", ",(10[1-6]),": r",\1.0,"}),
        ("ringcentral-call-log/detailed.csv", {r'"?\b(\d:\d\d:\d\d)\b': r"0\1"}),
        (
            "ringcentral-call-log/simple.csv",
            {r"\b0(\d/)0(\d/2026),0?(\d+:\d\d [AP]M)": r"\1\2,\3", r"\b0(:\d\d:\d\d)\b": r"12\1 AM"},
        ),
        ("ringcentral-call-log/simple.csv", {r"(\d\d):(\d\d) ([AP])M": hour_of_24}),
        ("ringcentral-call-log/simple.csv", {r"(\d\d):(\d\d) ([AP])M": hour_of_24, r"(,\d\d:\d\d),": r"\1:00,"}),
        ("teams-direct-routing/calls.csv", {r",\+(1\d{10})\b": r",\1"}),
    ],
)
def test_calls_known_by_what_another_program_makes_of_them(
    tmp_path: Path, name: str, changes: dict[str, str | Callable[[re.Match[str]], str]]
) -> None:
    """Numbers lose plus or zeros, dates and hours a 0, moments get seconds, UUIDs capitals; in one run too."""
    original = text_of_calls(SAMPLES / name)
    if UUID not in changes:  # which would be reason enough to look for other spellings
        original = re.sub(UUID, lambda found: found[0].replace("-", ""), original)
    texts = [original]
    for known, given in changes.items():
        texts.append(re.sub(known, given, texts[-1]))
        assert texts[-1] != texts[-2]
    paths, plan = [tmp_path / "first", tmp_path / "second"], plan_for(name.partition("/")[0])
    for path, text in zip(paths, (texts[0], texts[-1]), strict=True):
        path.write_text(text, encoding="utf-8", newline="")
    exports = [*map(detected, paths)]
    first, second = (prepared([each], plan).ids() for each in exports)
    assert len(first) == len(second) and second - first
    for ids, export in ((first, exports[1]), (second, exports[0])):
        held = replace(plan, held=lambda asked, ids=ids: {each: True for each in asked if each in ids})
        assert prepared([export], held).ids() == ids
    assert len(prepared(exports, plan).calls()) == len(first)


def test_calls_known_by_numbers_in_print(tmp_path: Path) -> None:
    """A call without an id is known where its numbers stand with brackets, hyphens or dots, and without +1."""
    path, forms = SAMPLES / "telnyx/report.csv", (r"(\1) \2-\3", r"\1.\2.\3", r"+1 \1-\2-\3", r"+1 (\1) \2 \3")
    ids, (header, *rows) = as_it_is(path).ids(), text_of_calls(path).splitlines()
    assert len(rows) >= len(forms)
    printed = [
        re.sub(r"\+1(212)(555)(01\d\d)\b", form, row) for row, form in zip(rows, cycle(forms), strict=False)
    ]
    held = {"held": lambda asked: {each: True for each in asked if each in ids}}
    result = prepared_text(tmp_path, "\n".join([header, *printed, ""]), **held)
    assert result.ids() == ids


def test_ids_taken_in_with_parted_thousands(tmp_path: Path) -> None:
    """A call that was taken in under 17,724,610,000,101 is known by that, whatever mark stood in it."""
    original = text_of_calls(SAMPLES / "ozonetel/api.csv")
    sources = [int(call.source_id) for call in as_it_is(SAMPLES / "ozonetel/api.csv").calls()]
    for mark in (",", ".", " ", "'", "\u2019"):
        parted = re.sub("17724610000([0-9]{3})", rf'"17{mark}724{mark}610{mark}000{mark}\1"', original)
        ids = {call_id_of("", "", f"i{each:,}".replace(",", mark)) for each in sources}
        held = {"held": lambda asked, ids=ids: {each: True for each in asked if each in ids}}
        result = prepared_text(tmp_path, parted, **held)
        assert result.ids() == ids
        assert sorted(int(call.source_id) for call in result.calls()) == sorted(sources)
