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


def own_words(line: str, name: str = "causes/asterisk-disposition.toml") -> None:
    """Write a line into the user's own table of words."""
    path = user_folder() / name
    path.parent.mkdir(parents=True)
    path.write_text(f"[words]\n{line}\n", encoding="utf-8")


def test_doing_what_the_hint_says_is_enough(program: Program, tmp_path: Path) -> None:
    """The hint names file, line and all meanings, none proposed; with them the row is a call, no other changes."""
    before = checked(program, tmp_path / "before.csv")
    row = before["30"]
    assert (row["outcome"], row["reason"]) == ("rejected", "unknown_status")
    said = re.search(
        r'add the line `("LIMIT EXCEEDED" = "...")` under \[words\] in (causes/\S+) of your conf', row["hint"]
    )
    assert said is not None
    assert all(re.search(rf"\b{verdict}\b", row["hint"]) for verdict in Verdict)
    own_words(said[1].replace("...", "notavailable"), said[2])
    after = checked(program, tmp_path / "after.csv")
    assert (after["30"]["outcome"], after["30"]["state"]) == ("would_send", "notavailable")
    assert [line for line in before if before[line] != after[line]] == ["30"]


def test_line_without_a_meaning_is_refused(program: Program) -> None:
    """The line as it is proposed means nothing: the file, the word and the possible meanings are named (78)."""
    own_words('"LIMIT EXCEEDED" = "..."')
    ran = program("check", *READ_AS, SAMPLE)
    assert ran.code == 78
    assert all(part in ran.stderr for part in ("asterisk-disposition.toml", "LIMIT EXCEEDED", "notavailable"))


def test_formats_shows_the_meaning_that_counts(program: Program) -> None:
    """`formats NAME` shows an own word with its meaning, once; `formats` ends with the folder of such files."""
    own_words('failed = "notavailable"')
    told = " ".join(program("formats", "freepbx").stdout.split())
    assert "(some your own, causes/asterisk-disposition.toml): failed = notavailable, ANSWERED = attended" in told
    assert "FAILED = our_side" not in told
    assert str(user_folder()) in program("formats").stdout


def test_tables_beside_the_config(program: Program, tmp_path: Path) -> None:
    """What stands beside the config in force is used and outranks the user's; `formats` names both places."""
    own_words('FAILED = "busy"\nBUSY = "blocked"')
    beside = tmp_path / "etc" / "causes"
    beside.mkdir(parents=True)
    (beside / "asterisk-disposition.toml").write_text('[words]\nfailed = "notavailable"\n', encoding="utf-8")
    config = beside.parent / "night.toml"
    config.touch()
    told = " ".join(program("formats", "--config", config, "freepbx").stdout.split())
    assert all(f"{word}" in told for word in ("failed = notavailable", "BUSY = blocked"))
    folders = [f"Your own: formats/*.toml and causes/*.toml in {each}" for each in (user_folder(), beside.parent)]
    assert program("formats", "--config", config).stdout.splitlines()[-2:] == folders
    ran = program("check", "--config", config, "--results", beside / "asterisk-disposition.toml", SAMPLE)
    assert (ran.code, "a file of your configuration" in ran.stderr) == (78, True)
