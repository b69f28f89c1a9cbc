"""Formats and cause tables: the built-in ones, what is said about broken ones, and detection by content."""

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
import tomli

from conftest import CASE_FILES, SAMPLES, cases, expected_file, read_results, table
from importer.errors import ConfigurationError, InputUnusableError
from importer.formats.catalogue import load_catalogue, load_format
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import CdrFormat, Detect, LookAlike
from importer.settings.options import Settings
from samples import INPUTS, catalogue, detected, detected_as, is_no_row, split_records
from schemas.vocabulary import State

CASES = cases("formats")

SCHEMAS = Path(str(files("schemas")))

OWN_FORMAT = (CASE_FILES / "own_format.toml").read_text(encoding="utf-8")

FICTIONAL = re.compile(r"1?212555\d{4}|447700900\d{3}|61491570\d{3}")


def _file(folder: Path, text: str) -> Path:
    path = folder / "export.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _load(path: Path) -> CdrFormat:
    return load_format(path, catalogue().causes)


def _own(folder: Path, sound: str = "", broken: str = "") -> Path:
    """Write the format with one of its texts replaced."""
    assert sound in OWN_FORMAT
    path = folder / "own.toml"
    path.write_text(OWN_FORMAT.replace(sound, broken, 1), encoding="utf-8")
    return path


def test_files_load_under_their_own_names() -> None:
    """Each file of schemas/formats and schemas/causes is a format or cause table that bears the file's name."""
    found = {folder: {path.stem for path in SCHEMAS.glob(f"{folder}/*.toml")} for folder in ("formats", "causes")}
    assert found == {"formats": {*catalogue().formats}, "causes": {*catalogue().causes}}


def test_cause_words_are_unique_as_they_are_compared() -> None:
    """No two words of a table are the same without case, spaces, hyphens and underscores."""
    for name, causes in catalogue().causes.items():
        counts = Counter(re.sub(r"[\s_-]+", "", word.casefold()) for word in causes.words)
        assert [word for word, count in counts.items() if count > 1] == [], name


def test_formats_are_sound_to_the_engines_that_read_rows() -> None:
    """Every regular expression is understood by Python's re and Arrow's RE2, every time by what reads times."""
    for path in SCHEMAS.glob("formats/*.toml"):
        load_format(path, catalogue().causes)
    for path in SCHEMAS.glob("lookalikes/*.toml"):
        LookAlike.model_validate(tomli.loads(path.read_text(encoding="utf-8")))


def test_schema_file_says_where_it_comes_from() -> None:
    """Each format and table opens with a comment: product, sources, judgement; none is indented with tabs."""
    for path in (each for folder in ("formats", "causes") for each in SCHEMAS.glob(f"{folder}/*.toml")):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# "), path
        assert "\t" not in text, path


def test_tables_agree() -> None:
    """FreeSWITCH is known by its table's names, Q.850 is whole and Asterisk's too, states are the API's."""
    formats, words = catalogue().formats, {name: causes.words for name, causes in catalogue().causes.items()}
    names = formats["freeswitch-csv"].detect.patterns["hangup_cause"].split("|")
    assert sorted(names) == sorted(words["freeswitch"])
    assert set(words["q850"]) == {str(cause) for cause in range(128)}
    asterisk = words["asterisk-hangupcause"]
    assert {word: asterisk[word] for word in asterisk if word.isdigit()} == words["q850"]
    states = formats["callnotify"].outcome[0].words
    assert {word: states[word] for word in states if word in set(State)} == {state: state for state in State}


def test_cisco_causes_of_sip_trunks_mean_what_their_sip_codes_mean() -> None:
    """Above 255 the high byte names the SIP code, and the low byte alone would mislead."""
    code_of = {**{code - 399: code for code in range(400, 480)}, **{code - 416: code for code in range(480, 500)}}
    code_of |= {code - 416: code for code in range(500, 506)}
    code_of |= {0x5A: 513, 0xA1: 600, 0xA2: 603, 0xA3: 604, 0xA4: 606}
    causes, sip = catalogue().causes["cisco"].words, catalogue().causes["sip"].words
    # Cisco prints 420 with a wrong digit as well, and 503 has a second value.
    values = {int(word) for word in causes if int(word) > 0xFFFFFF} - {83886207, 2801795135}
    assert [value for value in values if causes[str(value)] != sip[str(code_of[value >> 24])]] == []


@table(("sound", "broken", "said"), [*CASES["broken"], *CASES["hints"]])
def test_broken_format_is_refused(sound: str, broken: str, said: list[str] | str, tmp_path: Path) -> None:
    """One that breaks a rule is refused with its file, the line, key and rule; names there are are in a hint."""
    with pytest.raises(ConfigurationError, match=r"own\.toml") as caught:
        _load(_own(tmp_path, sound, broken))
    is_hint = isinstance(said, str)
    assert said in caught.value.hint if is_hint else all(part in caught.value.message for part in said)


def test_own_formats_join_the_catalogue(tmp_path: Path) -> None:
    """Formats and tables of the user's stand beside the built-in ones as theirs; no name is taken twice."""
    _own_causes(tmp_path, "ours", '[words]\n"weg" = "busy"\n')
    assert load_catalogue(None, tmp_path).causes["ours"].words["weg"].otherwise == "busy"
    (tmp_path / "formats").mkdir()
    _own(tmp_path / "formats")
    loaded = load_catalogue(None, tmp_path)
    assert loaded.own == {"own"}
    assert {"own", "twilio"} <= set(loaded.formats)
    _own(tmp_path / "formats", 'name = "own"', 'name = "twilio"')
    with pytest.raises(ConfigurationError, match=r"own\.toml.*'twilio' is taken"):
        load_catalogue(None, tmp_path)


def _own_causes(folder: Path, name: str, text: str) -> Path:
    (folder / "causes").mkdir(exist_ok=True)
    path = folder / "causes" / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@table(("text", "said"), CASES["broken_causes"])
def test_broken_own_cause_table_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """A cause table of one's own that breaks a rule is refused with its file."""
    _own_causes(tmp_path, "ours", text)
    with pytest.raises(ConfigurationError, match=rf"ours\.toml.*{re.escape(said)}"):
        load_catalogue(None, tmp_path)


def test_samples_keep_their_promises(tmp_path: Path) -> None:
    """Each sample is of its folder's format alone, also without rows, whatever its name; all rows count."""
    nothing_fits = catalogue().formats["callnotify"].model_copy(update={"columns": {"id": ("no such column",)}})
    headers = set()
    for path in INPUTS:
        other = tmp_path / "twilio-freepbx.txt"
        other.write_bytes(path.read_bytes())
        found = detected(other)
        assert found.format.name == path.parent.name, path
        rows = [record for record in split_records(found)[1] if not is_no_row(record)]
        assert len(read_results(expected_file(path))) == len(rows), path  # as test_golden proves of the program
        if found.header_line is not None:
            lines = path.read_text(encoding=found.encoding).splitlines(keepends=True)
            headers.add((path.parent.name, "".join(lines[: found.header_line])))
        with pytest.raises(InputUnusableError, match=r"no format known|an SQL dump"):
            detect(path, [nothing_fits], Settings(), catalogue().lookalikes)
        numbers = re.findall(r"(?:\+|\b011)(\d{9,15})(?![\d:-])", path.read_text(encoding="latin-1"))
        assert [number for number in numbers if not FICTIONAL.match(number)] == [], path
    for name, header in headers:
        assert detected(_file(tmp_path, header)).format.name == name, f"{header} without rows"


def test_ambiguous_file_is_refused_with_both_names() -> None:
    """A file that two formats fit is refused, and --format settles it."""
    twin = catalogue().formats["twilio"].model_copy(update={"name": "twin"})
    path = SAMPLES / "twilio" / "title-case.csv"
    with pytest.raises(InputUnusableError, match="twilio and twin"):
        detect(path, [catalogue().formats["twilio"], twin], Settings())
    assert detected_as(path, twin).format is twin


def test_lookalike_is_refused_only_where_no_format_fits(tmp_path: Path) -> None:
    """A format of one's own may read what is otherwise refused by name."""
    path = _file(tmp_path, "cdrRecordType,globalCallID_callId,directoryNum,jitter\n")
    own = catalogue().formats["twilio"].model_copy(update={"columns": {"sid": ("jitter",)}, "detect": Detect()})
    with pytest.raises(InputUnusableError, match=r"is a Cisco Unified CM call management record \(CMR\) file"):
        detect(path, [], Settings(), catalogue().lookalikes)
    assert isinstance(detect(path, [own], Settings(), catalogue().lookalikes), Detection)
