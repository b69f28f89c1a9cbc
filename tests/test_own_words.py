"""Words that no table knows: what the operator is told, and that doing it is enough."""

import re
from pathlib import Path

from conftest import SAMPLES, Program, read_results
from importer.formats import user_folder
from schemas.vocabulary import Verdict

SAMPLE = SAMPLES / "asterisk-csv" / "day.csv"
READ_AS = ("--timezone", "America/New_York", "--country", "US", "--agents", SAMPLES / "agents.csv")


def checked(program: Program, results: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `check` by line."""
    program("check", "--all-rows", *READ_AS, "--results", results, SAMPLE)
    return {row["line"]: row for row in read_results(results)}


def test_hint_names_file_line_and_choices(program: Program, tmp_path: Path) -> None:
    """An unknown word is rejected with the table's file, the line to add and all meanings, none proposed."""
    row = checked(program, tmp_path / "r.csv")["30"]
    assert (row["outcome"], row["reason"]) == ("rejected", "unknown_status")
    assert '`"LIMIT EXCEEDED" = "..."`' in row["hint"]
    assert "causes/asterisk-disposition.toml of your configuration folder" in row["hint"]
    assert all(re.search(rf"\b{verdict}\b", row["hint"]) for verdict in Verdict)


def test_doing_what_the_hint_says_is_enough(program: Program, tmp_path: Path) -> None:
    """With that line and a meaning in the very file the row becomes a call, and no other row changes."""
    before = checked(program, tmp_path / "before.csv")
    said = re.search(r"add the line `(.*?)` under (\[words\]) in (causes/\S+)", before["30"]["hint"])
    assert said is not None
    path = user_folder() / said[3]
    path.parent.mkdir(parents=True)
    path.write_text(f"{said[2]}\n{said[1].replace('...', 'notavailable')}\n", encoding="utf-8")
    after = checked(program, tmp_path / "after.csv")
    assert (after["30"]["outcome"], after["30"]["state"]) == ("would_send", "notavailable")
    assert [line for line in before if before[line] != after[line]] == ["30"]


def test_line_without_a_meaning_is_refused(program: Program) -> None:
    """The line as it is proposed means nothing: the file, the word and the possible meanings are named (78)."""
    path = user_folder() / "causes" / "asterisk-disposition.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[words]\n"LIMIT EXCEEDED" = "..."\n', encoding="utf-8")
    ran = program("check", *READ_AS, SAMPLE)
    assert ran.code == 78
    assert all(part in ran.stderr for part in ("asterisk-disposition.toml", "LIMIT EXCEEDED", "notavailable"))


def test_formats_shows_the_meaning_that_counts(program: Program) -> None:
    """`formats NAME` shows an own word with its own meaning, once, and that some words are one's own."""
    path = user_folder() / "causes" / "asterisk-disposition.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[words]\nfailed = "notavailable"\n', encoding="utf-8")
    told = " ".join(program("formats", "freepbx").stdout.split())
    assert "(some your own, causes/asterisk-disposition.toml): failed = notavailable, ANSWERED = attended" in told
    assert "FAILED = our_side" not in told


def test_formats_says_where_own_files_belong(program: Program) -> None:
    """`formats` ends with the folder of one's own formats and words."""
    assert str(user_folder()) in program("formats").stdout
