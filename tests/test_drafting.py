"""`formats new`: what a draft holds and leaves open, and that it works once settled; `formats test`."""

import gzip
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, Program, cases, expected_file, read_results, sample_files, sample_options, table
from importer.errors import InputUnusableError
from importer.formats.catalogue import TomlText, load_format
from importer.formats.drafting import draft_of, format_name
from importer.results.cells import differences
from importer.settings.options import Settings
from samples import catalogue, for_each

CASES = cases("drafting")

FIRST_OF_EACH = list({path.parent.name: path for path in reversed(sample_files())}.values())

GERMAN = """Calls of March
Datum;Time;Who;Called number;Line;How it ended;Ringing
02.03.2026;09:14:07;"Lee, Ann";+44 7700 900142;A;NO ANSWER;0:00:32
03.03.2026;09:15:07;"Lee, Ann";+44 7700 900143;A;fizzled;0:00:02
03.03.2026;10:15:07;"Cho, Ben";+44 7700 900144;A;answered;0:00:12
14.03.2026;11:15:07;"Cho, Ben";+44 7700 900145;A;NO ANSWER;0:00:12
"""


def draft_text(path: Path) -> TomlText:
    """Return the draft for an export of which nobody said anything."""
    return draft_of(path, Settings()).text("mine", catalogue().causes, {})


def drafted(folder: Path, text: str, encoding: str = "utf-8") -> TomlText:
    """Return the draft for an export of this text."""
    path = folder / "export.csv"
    path.write_bytes(text.encode(encoding))
    return draft_text(path)


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> TomlText:
    """Return the draft for an export with a title, in German."""
    return drafted(tmp_path_factory.mktemp("german"), GERMAN)


def tables(draft: TomlText) -> dict[str, Any]:
    """Return what the TOML of a draft says."""
    return tomllib.loads(draft.text)


@pytest.mark.parametrize(
    "sample", for_each(FIRST_OF_EACH, ("3cx-web/9-columns.csv", "dialpad/calls.csv", "vicidial/carrier.csv"))
)
def test_draft_is_toml_and_refused_as_it_is(sample: Path, tmp_path: Path) -> None:
    """Whatever the export, its draft is sound TOML, holds no number and is refused with its open points."""
    if catalogue().formats[sample.parent.name].file.columns:
        with pytest.raises(InputUnusableError, match="one column only"):
            draft_of(sample, Settings())
        return
    draft = draft_text(sample)
    assert tables(draft)["name"] == "mine"
    assert not re.search(r"\+\d{7}|\d{10}", draft.text)
    path = tmp_path / "mine.toml"
    path.write_text(draft.text, encoding="utf-8")
    with pytest.raises(Exception, match=f"is a draft: {len(draft.open_points())} open point"):
        load_format(path, catalogue().causes)


@pytest.fixture
def mine(program: Program, tmp_path: Path) -> tuple[Path, Path]:
    """Return an export and the draft that `formats new` writes for it."""
    export, own = tmp_path / "export.csv", tmp_path / "mine.toml"
    export.write_text(GERMAN, encoding="utf-8")
    assert program("formats", "new", export, "--output", own).code == 0
    return export, own


def test_settled_draft_reads_the_export(program: Program, mine: tuple[Path, Path], tmp_path: Path) -> None:
    """A person who settles what is open, and nothing else, gets the calls of the export."""
    export, own = mine
    text = own.read_text(encoding="utf-8")
    for point, settled in CASES["settled"]:
        text = re.sub(point, settled, text)
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


def test_columns_stand_with_their_words_or_their_look(german: TomlText, tmp_path: Path) -> None:
    """Below a title columns are found and taken for nothing; few words are counted, of others stands the look."""
    assert ": 4 rows, utf-8, delimiter semicolon, header in line 2.\n" in german.text
    objects = drafted(tmp_path, '[{"Who": "Lee", "2026": "out"}]')
    assert ": 1 row, JSON objects.\n" in objects.text
    assert list(tables(objects)["columns"].values()) == ["Who", "2026"]
    made = tables(german)
    assert list(made["columns"].values()) == GERMAN.splitlines()[1].split(";")
    assert made["time"] == {"columns": ["TODO"], "formats": ["TODO"]}
    assert made["numbers"] == {"plain_digits": "TODO"}
    assert set(made["call"]) == {"id", "unique_by", "customer", "agent"}
    for line in (
        'line = "Line" # 4 filled, 1 different: "A" 4\n',
        'datum = "Datum" # 4 filled, 3 different: "##.##.####"; times "%d.%m.%Y"\n',
        'called_number = "Called number" # 4 filled, 4 different: "+## #### ######"\n',
        '"fizzled" = "TODO" # 1 row; no cause table knows it',
    ):
        assert line in german.text
    assert re.search(r'^"NO ANSWER" = "noanswer" # 2 rows; noanswer in .*asterisk', german.text, re.MULTILINE)


def test_key_that_some_objects_lack_may_be_missing(tmp_path: Path) -> None:
    """A day on which no object has it, such as the time of an answer, is read all the same."""
    objects = '[{"Who": "Lee", "Answered": "9:14"}, {"Who": "Cho"}, {"Who": "Kim", "Answered": null}]'
    made = tables(drafted(tmp_path, objects))
    assert (made["columns"], made["optional_columns"]) == ({"who": "Who"}, {"answered": "Answered"})
    made = tables(drafted(tmp_path, '[{"Who": "Lee"}, {"Answered": "9:14"}]'))
    assert made["columns"] == {"who": "Who", "answered": "Answered"}


@table(("times", "seen"), CASES["times"])
def test_layout_of_times_is_seen(times: tuple[str, ...], seen: str | None, tmp_path: Path) -> None:
    """Of a column of times the draft says how they are written, and in which ways where no row proves it."""
    text = drafted(tmp_path, "When;Who;How\n" + "".join(f"{each};Ann;BUSY\n" for each in times)).text
    assert re.findall(r'^when = "When" # .*?(?:; times (.*))?$', text, re.MULTILINE) == [seen or ""]


def test_day_of_digits_starts_with_a_clock(tmp_path: Path) -> None:
    """A column of days, however written, is the start of no call without a column of clocks."""
    path = tmp_path / "export.csv"
    path.write_text("Day;At;Who\n20260302;09:14:07;Ann\n", encoding="utf-8")
    assert draft_of(path, Settings()).starts() == {("day", "at"): ("%Y%m%d %H:%M:%S",)}


@table(("header", "names"), CASES["headers"])
def test_columns_have_names_of_their_own(header: str, names: list[str], tmp_path: Path) -> None:
    """No column is lost, whatever the headers; one without Latin letters has a number, and its own spelling."""
    made = tables(drafted(tmp_path, f"{header}\n1,2,3,BUSY\n"))
    assert made["columns"] == dict(zip(names, header.split(","), strict=True))


@table(("word", "said"), [("FAILED", "our_side in .*invalid in "), ("DONTCALL", r"rejected in [\w-]+$")])
def test_word_on_which_tables_do_not_agree_is_open(word: str, said: str, tmp_path: Path) -> None:
    """A word that means this in one table and that in another, or that one table knows, is left to a person."""
    draft = drafted(tmp_path, GERMAN.replace("fizzled", word))
    assert re.search(rf'^"{word}" = "TODO" # 1 row; {said}', draft.text, re.MULTILINE)


def test_column_of_no_known_words_is_not_taken_for_a_status(tmp_path: Path) -> None:
    """Where the tables know less than half of the cells of every column the rule is open."""
    draft = drafted(tmp_path, GERMAN.replace("NO ANSWER", "nix"))
    assert tables(draft)["outcome"] == [{"column": "TODO", "words": {"TODO": "TODO"}}]
    assert '"How it ended" # 4 filled, 3 different: "nix" 2, "fizzled" 1, "answered" 1\n' in draft.text


def test_export_without_header_gets_positions_and_patterns(tmp_path: Path) -> None:
    """Without a header the columns are numbered, and recognised by those filled and written alike in every row."""
    rows = "".join(
        f"101,2026-03-02 09:00:{i:02},1212555{i:04},{w},{'' if i else 7}\n"
        for i, w in enumerate(["BUSY", "ANSWERED"] * 5)
    )
    made = tables(drafted(tmp_path, rows))
    assert made["file"]["header"] is False
    assert made["layouts"] == [{"columns": ["cell_1", "cell_2", "cell_3", "cell_4", "cell_5"]}]
    patterns = {"cell_1": r"\d+", "cell_2": r"\d+\-\d+\-\d+ \d+:\d+:\d+", "cell_3": r"\d+"}
    assert made["detect"]["patterns"] == patterns
    assert made["outcome"][0]["column"] == "cell_4"


@table(
    "written",
    [
        GERMAN.replace("\n", "\r").encode(),
        GERMAN.replace("\n", "\r\n").encode("utf-16"),
        f"sep=;\n{GERMAN}".encode("utf-8-sig"),
        gzip.compress(GERMAN.encode()),
    ],
)
def test_draft_of_what_detect_reads(written: bytes, german: TomlText, program: Program, tmp_path: Path) -> None:
    """Line ends, encoding, the line `sep=` and packing make no difference, and `detect` names the same columns."""
    path = tmp_path / "export.csv"
    path.write_bytes(written)
    made = tables(draft_text(path))
    assert made == tables(german)
    said = program("detect", path).stderr
    assert f"column names found: {', '.join(made['columns'].values())}\n" in said


def test_totals_and_the_header_again_are_no_rows(german: TomlText, tmp_path: Path) -> None:
    """Lines that no import takes for rows teach a draft nothing: a date beside `Summe` stays a date."""
    header, *rows = GERMAN.splitlines()[1:]
    more = "\n".join((header, *rows[:2], header, *rows[2:], "Summe;;;;;4 calls;0:00:58", ""))
    again = drafted(tmp_path, f"Calls of March\n{more}")
    assert again.text == german.text


@table("text", ["Start,From\n", "just\nwords\n", "101 LEE 0,00 V\n102 ORTIZ 0,12 V\n"])
def test_export_without_rows_or_columns_is_refused(text: str, tmp_path: Path) -> None:
    """Where there is nothing to learn from nothing is written."""
    with pytest.raises(InputUnusableError):
        drafted(tmp_path, text)


def test_draft_stays_a_draft(program: Program, mine: tuple[Path, Path], tmp_path: Path) -> None:
    """No file is overwritten, no folder made (73); `check` names the open points of a draft (78)."""
    export, own = mine
    before = own.read_text(encoding="utf-8") + "# mine\n"
    own.write_text(before, encoding="utf-8")
    assert program("formats", "new", export, "--output", own).code == 73
    assert own.read_text(encoding="utf-8") == before
    ran = program("formats", "new", export, "--output", tmp_path / "no" / "own.toml")
    assert (ran.code, (tmp_path / "no").exists()) == (73, False)
    assert "Name one in a folder of this user that is there." in ran.stderr
    ran = program("check", "--format", own, "--results", tmp_path / "r.csv", export)
    assert ran.code == 78
    assert re.search(r'^ +line \d+: "fizzled" = "TODO"', ran.stderr, re.MULTILINE)


def test_draft_of_an_export_that_a_format_fits(program: Program, tmp_path: Path) -> None:
    """The format is named, since without --format a second one would make the export ambiguous."""
    day = SAMPLES / "asterisk-csv" / "day.csv"
    ran = program("formats", "new", day, "--output", tmp_path / "own.toml")
    said = " ".join(ran.stdout.split())
    assert ran.code == 0
    assert "is read by asterisk-csv already: see `cdr-importer formats asterisk-csv` first." in said


def test_draft_is_told_in_80_columns(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the draft is made from, the open points and the next step fit a small terminal, without any number."""
    monkeypatch.chdir(tmp_path)
    Path("export.csv").write_text(GERMAN, encoding="utf-8")
    ran = program("formats", "new", "export.csv")
    assert Path("export.toml").exists()
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert "export.toml: a draft from 4 rows, utf-8" in ran.stdout
    assert "line 1: # TODO read this draft" in ran.stdout
    assert "named by the left-hand name" in ran.stdout
    assert ran.stdout.endswith("\n  cdr-importer detect --format export.toml export.csv\n")
    assert "900142" not in ran.stdout


def test_name_of_a_draft_is_free() -> None:
    """A draft is named after its file, and never like a format that is there or a command."""
    taken = {*catalogue().formats, "new"}
    stems = ("March calls", "twilio", "new", "äö")
    assert [format_name(stem, taken) for stem in stems] == ["march-calls", "my-twilio", "my-new", "my-export"]


SAMPLE = SAMPLES / "asterisk-csv" / "day.csv"
FORMAT = Path(__file__).parent.parent / "schemas" / "formats" / "asterisk-csv.toml"
READ_AS = sample_options(SAMPLE)


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """Return a copy of a trial with its expected file beside it."""
    for path in (SAMPLE, expected_file(SAMPLE)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / SAMPLE.name


def change(path: Path, old: str, new: str) -> None:
    """Replace the first of a text in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_same_is_exit_0(program: Program, trial: Path) -> None:
    """A format that makes of its trial what is expected says so in one line, wherever the trial stands."""
    ran = program("formats", "test", FORMAT, trial, *READ_AS)
    assert (ran.code, ran.stderr) == (0, "")
    assert re.search(r"\d+rows,allas.*day\.expected\.csvexpectsthem", "".join(ran.stdout.split()))
    elsewhere = expected_file(trial).rename(trial.with_name("wanted.csv"))
    assert program("formats", "test", FORMAT, trial, "--expected", elsewhere, *READ_AS).code == 0


def test_sample_is_no_input_of_a_night(program: Program, trial: Path) -> None:
    """What a config file says of a night's files, alarms and where they go, is not asked of a sample."""
    config = trial.with_name("own.toml")
    config.write_text('min-rows = 1000\nmax-errors = "1%"\ndone = "/no/such"\nscheduler = "tcp://127.0.0.1:9"\n')
    ran = program("formats", "test", "--config", config, FORMAT, trial, *READ_AS)
    assert (ran.code, ran.stderr) == (0, "")


def test_difference_is_shown_by_line_and_column(program: Program, trial: Path) -> None:
    """With another word in the format exit 3, and for each line that differs the cells, in 80 columns."""
    own = trial.with_name("own.toml")
    own.write_bytes(FORMAT.read_bytes())
    rule = '[[outcome]]\ncolumn = "disposition"\nwords = { BUSY = "rejected" }\nunknown = "next"\n'
    change(own, "[time]", f"{rule}[time]")
    ran = program("formats", "test", own, trial, *READ_AS)
    assert ran.code == 3
    assert re.search(r"[0-9]+ lines? not as", ran.stdout.replace("\n  ", " "))
    assert re.search(r"^[0-9]+ +state +busy +rejected$", ran.stdout, re.MULTILINE)
    assert max(map(len, ran.stdout.splitlines()[1:])) <= 80


def test_without_an_expected_file_it_says_how_to_write_one(program: Program, trial: Path) -> None:
    """Exit 66, and which command writes it; after it the test passes."""
    expected_file(trial).unlink()
    ran = program("formats", "test", FORMAT, trial, *READ_AS)
    assert (ran.code, "check --all-rows --results" in ran.stderr) == (66, True)
    wanted = ("--results", expected_file(trial))
    assert program("check", "--all-rows", "--format", FORMAT, *wanted, *READ_AS, trial).code == 3  # bad rows
    assert program("formats", "test", FORMAT, trial, *READ_AS).code == 0


def test_file_of_another_kind_is_unusable(program: Program, trial: Path) -> None:
    """A trial that the format does not fit, and any other CSV in place of the expected results, is exit 65."""
    assert program("formats", "test", "twilio", trial, *READ_AS).code == 65
    expected_file(trial).write_text("a,b\n1,2\n", encoding="utf-8")
    assert program("formats", "test", FORMAT, trial, *READ_AS).code == 65


def test_row_that_only_one_has_is_told(trial: Path, tmp_path: Path) -> None:
    """A line too few or too many is named with what became of it."""
    shorter = tmp_path / "shorter.csv"
    lines = expected_file(trial).read_text(encoding="utf-8").splitlines(keepends=True)
    shorter.write_text("".join(lines[:-1]), encoding="utf-8")
    line = lines[-1].split(",")[1]
    [(where, column, expected, found)] = differences(expected_file(trial), shorter)
    assert (where, column, found) == (line, "row", "(no such row)")
    assert differences(shorter, expected_file(trial)) == [(line, "row", found, expected)]
