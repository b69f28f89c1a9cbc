"""`formats test`: the same, a readable difference, and how to begin."""

import re
import shlex
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, expected_file, sample_options
from importer.results import Difference, differences

SAMPLE = SAMPLES / "asterisk-csv" / "day.csv"
FORMAT = Path(__file__).parent.parent / "schemas" / "formats" / "asterisk-csv.toml"
READ_AS = sample_options(SAMPLE)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Return a copy of a sample with its expected file beside it."""
    for path in (SAMPLE, expected_file(SAMPLE)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / SAMPLE.name


def change(path: Path, old: str, new: str) -> None:
    """Replace the first of a text in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_same_is_exit_0(program: Program, sample: Path) -> None:
    """A format that makes of its sample what is expected says so in one line, wherever the sample stands."""
    ran = program("formats", "test", FORMAT, sample, *READ_AS)
    assert (ran.code, ran.stderr) == (0, "")
    assert re.search(r"\d+rows,allas.*day\.expected\.csvexpectsthem", "".join(ran.stdout.split()))


def test_difference_is_shown_by_line_and_column(program: Program, sample: Path) -> None:
    """Exit 3, and for each line that differs the cells, expected beside found, in 80 columns."""
    change(expected_file(sample), "noanswer", "busy")
    ran = program("formats", "test", FORMAT, sample, *READ_AS)
    assert ran.code == 3
    assert "1 line not as" in ran.stdout.replace("\n  ", " ")
    assert re.search(r"^1 +state +busy +noanswer$", ran.stdout, re.MULTILINE)
    assert max(map(len, ran.stdout.splitlines()[1:])) <= 80


def test_format_of_ones_own_is_what_is_tested(program: Program, sample: Path) -> None:
    """What the format says decides: with another word in it the test differs."""
    own = sample.with_name("own.toml")
    own.write_bytes(FORMAT.read_bytes())
    rule = '[[outcome]]\ncolumn = "disposition"\nwords = { BUSY = "rejected" }\nunknown = "next"\n'
    change(own, "[time]", f"{rule}[time]")
    ran = program("formats", "test", own, sample, *READ_AS)
    assert ran.code == 3
    assert re.search(r"state +busy +rejected$", ran.stdout, re.MULTILINE)


def test_without_an_expected_file_it_says_how_to_write_one(program: Program, sample: Path) -> None:
    """Exit 66 with the very command; after it the test passes."""
    expected_file(sample).unlink()
    ran = program("formats", "test", FORMAT, sample, *READ_AS)
    assert ran.code == 66
    command = shlex.split(ran.stderr.splitlines()[-1])
    assert command[0] == "cdr-importer"
    assert program(*command[1:]).code == 3  # the sample has bad rows
    assert program("formats", "test", FORMAT, sample, *READ_AS).code == 0


def test_command_shows_no_number(program: Program, sample: Path) -> None:
    """The command that is told holds every option that was given, but no telephone number."""
    expected_file(sample).unlink()
    options = ("--default-agent-number", "+12125550101", "--country", "US")
    ran = program("formats", "test", FORMAT, sample, *options)
    assert re.search(
        "--default-agent-number NUMBER --country US|--country US --default-agent-number NU", ran.stderr
    )
    assert "5550101" not in ran.stderr


def test_expected_file_can_stand_elsewhere(program: Program, sample: Path, tmp_path: Path) -> None:
    """--expected names another file."""
    elsewhere = tmp_path / "wanted.csv"
    expected_file(sample).rename(elsewhere)
    assert program("formats", "test", FORMAT, sample, "--expected", elsewhere, *READ_AS).code == 0


def test_file_of_another_kind_is_unusable(program: Program, sample: Path) -> None:
    """A sample that the format does not fit, and any other CSV in place of the expected results, is exit 65."""
    assert program("formats", "test", "twilio", sample, *READ_AS).code == 65
    expected_file(sample).write_text("a,b\n1,2\n", encoding="utf-8")
    assert program("formats", "test", FORMAT, sample, *READ_AS).code == 65


def test_row_that_only_one_has_is_told(sample: Path, tmp_path: Path) -> None:
    """A line too few or too many is named with what became of it."""
    shorter = tmp_path / "shorter.csv"
    lines = expected_file(sample).read_text(encoding="utf-8").splitlines(keepends=True)
    shorter.write_text("".join(lines[:-1]), encoding="utf-8")
    line = lines[-1].split(",")[1]
    [found] = differences(expected_file(sample), shorter)
    assert (found.line, found.column, found.found) == (line, "row", "(no such row)")
    assert differences(shorter, expected_file(sample)) == [Difference(line, "row", found.found, found.expected)]
