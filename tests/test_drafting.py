"""`formats new`: what a draft holds, what it leaves open, and that a draft with its points settled works."""

import gzip
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Ran, read_results
from expected import sample_files
from importer.errors import InputUnusableError
from importer.formats import load_catalogue
from importer.formats.catalogue import load_format
from importer.formats.drafting import Draft, draft_of, format_name
from samples import catalogue, for_each

Program = Callable[..., Ran]

FIRST_OF_EACH = list({path.parent.name: path for path in reversed(sample_files())}.values())

GERMAN = """Calls of March
Datum;Time;Who;Called number;Line;How it ended;Ringing
02.03.2026;09:14:07;"Lee, Ann";+44 7700 900142;A;NO ANSWER;0:00:32
03.03.2026;09:15:07;"Lee, Ann";+44 7700 900143;A;fizzled;0:00:02
03.03.2026;10:15:07;"Cho, Ben";+44 7700 900144;A;answered;0:00:12
14.03.2026;11:15:07;"Cho, Ben";+44 7700 900145;A;NO ANSWER;0:00:12
"""


def drafted(folder: Path, text: str, encoding: str = "utf-8") -> Draft:
    """Return the draft for an export of this text."""
    path = folder / "export.csv"
    path.write_bytes(text.encode(encoding))
    return draft_of(path, "mine", catalogue())


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """Return the draft for an export with a title, in German."""
    return drafted(tmp_path_factory.mktemp("german"), GERMAN)


def tables(draft: Draft) -> dict[str, object]:
    """Return what the TOML of a draft says."""
    return tomllib.loads(draft.text)


@pytest.mark.parametrize(
    "sample", for_each(FIRST_OF_EACH, ("3cx-web/9-columns.csv", "dialpad/calls.csv", "vicidial/carrier.csv"))
)
def test_draft_is_toml_and_refused_as_it_is(sample: Path, tmp_path: Path) -> None:
    """Whatever the export, its draft is sound TOML, holds no number and is refused with its open points."""
    if catalogue().formats[sample.parent.name].file.columns:
        with pytest.raises(InputUnusableError, match="one column only"):
            draft_of(sample, "mine", catalogue())
        return
    draft = draft_of(sample, "mine", catalogue())
    assert tables(draft)["name"] == "mine"
    assert not re.search(r"\+\d{7}|\d{10}", draft.text)
    path = tmp_path / "mine.toml"
    path.write_text(draft.text, encoding="utf-8")
    with pytest.raises(Exception, match=f"is a draft: {len(draft.open_points)} open point"):
        load_format(path, catalogue().causes)


def test_draft_with_its_points_settled_reads_the_export(program: Program, tmp_path: Path) -> None:
    """A person who settles what is open, and nothing else, gets the calls of the export."""
    export, own = tmp_path / "export.csv", tmp_path / "mine.toml"
    export.write_text(GERMAN, encoding="utf-8")
    assert program("formats", "new", export, "--output", own).code == 0
    text = re.sub(r"^# TODO.*\n", "", own.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r'"fizzled" = "TODO".*', '"fizzled" = "busy"', text)
    own.write_text(text, encoding="utf-8")
    ran = program(
        "check", "--format", own, "--timezone", "Europe/London", "--default-agent-number", "+442079460101",
        "--all-rows", "--results", tmp_path / "r.csv", export,
    )  # fmt: skip
    assert ran.code == 0
    assert [(row["outcome"], row["state"], row["start_time"]) for row in read_results(tmp_path / "r.csv")] == [
        ("would_send", "noanswer", "2026-03-02 09:14:07"),
        ("would_send", "busy", "2026-03-03 09:15:07"),
        ("skipped", "", ""),
        ("would_send", "noanswer", "2026-03-14 11:15:07"),
    ]


def test_columns_and_header_are_found_below_a_preamble(german: Draft) -> None:
    """Delimiter, header line, date and clock in two columns, agent, number and ringing are found."""
    assert (german.export.delimiter, german.export.header_line, german.export.rows) == (";", 2, 4)
    made = tables(german)
    assert made["time"] == {"columns": ["datum", "time"], "formats": ["%d.%m.%Y %H:%M:%S"]}
    assert made["call"] == {
        "unique_by": ["who", "called_number", "datum", "time"],
        "customer": "called_number",
        "agent": ["who"],
        "ring_seconds": "ringing",
    }
    assert made["numbers"] == {"plain_digits": "national"}


def test_statuses_are_counted_with_what_the_tables_say(german: Draft) -> None:
    """Each word stands there with its rows and its meanings; what no table knows is open."""
    assert re.search(r'^# "NO ANSWER": 2 rows; noanswer in .*asterisk', german.text, re.MULTILINE)
    assert '"fizzled" = "TODO" # 1 row; no cause table knows it' in german.text


def test_word_on_which_tables_differ_is_open(tmp_path: Path) -> None:
    """A word that means this in one table and that in another is not decided by the program."""
    draft = drafted(tmp_path, GERMAN.replace("fizzled", "FAILED"))
    assert re.search(r'^"FAILED" = "TODO" # 1 row; our_side in .*invalid in ', draft.text, re.MULTILINE)


@pytest.mark.parametrize(("date", "is_open"), [("02/03/2026", True), ("14/03/2026", False)])
def test_day_and_month_are_open_where_they_could_be_swapped(date: str, is_open: bool, tmp_path: Path) -> None:
    """Dates that read both ways are left to a person; one day above 12 settles them all."""
    text = f"Start,From,To,Status\n02/03/2026 09:00,101,+12125550142,BUSY\n{date} 09:00,101,+12125550143,BUSY\n"
    draft = drafted(tmp_path, text)
    assert ("day or month first?" in draft.text) is is_open
    assert tables(draft)["time"]["formats"] == ["%d/%m/%Y %H:%M"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("number", "plain_digits"),
    [("+12125550142", "national"), ("12125550142", "TODO"), ("(212) 555-0142", "TODO")],
)
def test_digits_without_plus_are_open(number: str, plain_digits: str, tmp_path: Path) -> None:
    """Whether bare digits carry a country code is not guessed."""
    draft = drafted(tmp_path, f"Start,From,To,Status\n2026-03-02 09:00:00,101,{number},BUSY\n")
    assert tables(draft)["numbers"] == {"plain_digits": plain_digits}


@pytest.mark.parametrize(
    ("start", "zone"),
    [("2026-03-02T09:00:00+01:00", "value"), ("1772460847", "value"), ("2026-03-02 09:00:00", None)],
)
def test_zone_is_what_the_times_carry(start: str, zone: str | None, tmp_path: Path) -> None:
    """Offsets and epochs make the zone certain, local times leave it to --timezone."""
    draft = drafted(tmp_path, f"Start,From,To,Status\n{start},101,+12125550142,BUSY\n")
    assert tables(draft)["time"].get("zone") == zone  # type: ignore[attr-defined]


def test_directions_are_known_words_or_open(tmp_path: Path) -> None:
    """Words that say a direction in every system are taken; any other is open."""
    rows = "".join(f"2026-03-02 09:00:00,101,+12125550142,BUSY,{word}\n" for word in ("Outbound", "IN", "conf"))
    made = tables(drafted(tmp_path, f"Start,From,To,Status,Direction\n{rows}"))
    directions = {rule["when"]["direction"]: rule["is"] for rule in made["direction"]}  # type: ignore[attr-defined]
    assert directions == {"Outbound": "outgoing", "IN": "incoming", "conf": "TODO"}


def test_id_that_repeats_is_open(tmp_path: Path) -> None:
    """Rows that share an id may be legs of a call: that is for a person to say."""
    row = "2026-03-02 09:00:00,101,+12125550142,BUSY,{}\n"
    head = "Start,From,To,Status,Call ID\n"
    once = drafted(tmp_path, head + row.format("abc0001") + row.format("abc0002"))
    twice = drafted(tmp_path, head + row.format("abc0001") * 2)
    assert tables(once)["call"]["legs"] is False  # type: ignore[index]
    assert re.search(r"^legs = true # TODO 1 row more than ids", twice.text, re.MULTILINE)


def test_export_without_header_gets_positions_and_patterns(tmp_path: Path) -> None:
    """Without a header the columns are numbered, and recognised by what their cells look like."""
    rows = "".join(
        f"101,2026-03-02 09:00:{i:02},1212555{i:04},{w}\n" for i, w in enumerate(["BUSY", "ANSWERED"] * 5)
    )
    made = tables(drafted(tmp_path, rows))
    assert made["file"]["header"] is False  # type: ignore[index]
    assert made["layouts"] == [{"columns": ["cell_1", "cell_2", "cell_3", "cell_4"]}]
    assert made["detect"]["patterns"] == {  # type: ignore[index]
        "cell_1": r"\d+",
        "cell_2": r"\d{4}\-\d{2}\-\d{2} \d{2}:\d{2}:\d{2}",
        "cell_4": "BUSY|ANSWERED",
    }
    assert made["outcome"][0]["column"] == "cell_4"  # type: ignore[index]


def test_header_of_another_script_is_kept(tmp_path: Path) -> None:
    """A header without any Latin letter gets a numbered name and is read by its own spelling."""
    draft = drafted(tmp_path, "開始,發話,To,Status\n2026-03-02 09:00:00,101,+12125550142,BUSY\n")
    assert {"cell_1", "cell_2"} <= {*tables(draft)["columns"], *tables(draft)["optional_columns"]}  # type: ignore[misc]
    assert '= "開始"' in draft.text


@pytest.mark.parametrize(
    "written",
    [
        GERMAN.replace("\n", "\r").encode(),
        GERMAN.replace("\n", "\r\n").encode("utf-16"),
        f"sep=;\n{GERMAN}".encode("utf-8-sig"),
        gzip.compress(GERMAN.encode()),
    ],
    ids=["CR line ends", "UTF-16", "Excel's delimiter line", "packed"],
)
def test_draft_is_made_of_what_detect_reads(
    written: bytes, german: Draft, program: Program, tmp_path: Path
) -> None:
    """Line ends, encoding, the line `sep=` and packing make no difference, and `detect` names the same columns."""
    path = tmp_path / "export.csv"
    path.write_bytes(written)
    assert draft_of(path, "mine", catalogue()).export.columns == german.export.columns
    said = program("detect", path).stderr
    assert "column names found: Datum, Time, Who, Called number, Line, How it ended, Ringing\n" in said


@pytest.mark.parametrize("text", ["Start,From\n", "just\nwords\n"])
def test_export_without_rows_or_columns_is_refused(text: str, tmp_path: Path) -> None:
    """Where there is nothing to learn from nothing is written."""
    with pytest.raises(InputUnusableError):
        drafted(tmp_path, text)


def test_draft_never_overwrites(program: Program, tmp_path: Path) -> None:
    """A file that is there already stays as it is: exit 73."""
    export, own = tmp_path / "export.csv", tmp_path / "mine.toml"
    export.write_text(GERMAN, encoding="utf-8")
    own.write_text("mine", encoding="utf-8")
    assert program("formats", "new", export, "--output", own).code == 73
    assert own.read_text(encoding="utf-8") == "mine"


def test_open_points_are_told_by_the_main_job_too(program: Program, tmp_path: Path) -> None:
    """`check` with a draft is exit 78, sends nothing, and names each open point on a line of its own."""
    export, own = tmp_path / "export.csv", tmp_path / "mine.toml"
    export.write_text(GERMAN, encoding="utf-8")
    program("formats", "new", export, "--output", own)
    ran = program("check", "--format", own, "--results", tmp_path / "r.csv", export)
    assert ran.code == 78
    assert re.search(r'^ +line \d+: "fizzled" = "TODO"', ran.stderr, re.MULTILINE)


def test_draft_is_told_in_80_columns(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken for what, the open points and the next step fit a small terminal, without any number."""
    monkeypatch.chdir(tmp_path)
    Path("export.csv").write_text(GERMAN, encoding="utf-8")
    ran = program("formats", "new", "export.csv")
    assert Path("export.toml").exists()
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert re.search(r"^customer +Called number", ran.stdout, re.MULTILINE)
    assert "line 1: # TODO read this draft" in ran.stdout
    assert "cdr-importer formats test export.toml export.csv" in ran.stdout
    assert "900142" not in ran.stdout


def test_name_of_a_draft_is_free() -> None:
    """A draft is named after its file, and never like a format that is there or a command."""
    taken = {*load_catalogue(Path("/nonexistent")).formats, "new"}
    assert [format_name(stem, taken) for stem in ("March calls", "twilio", "new", "äö")] == [
        "march-calls",
        "my-twilio",
        "my-new",
        "my-export",
    ]
