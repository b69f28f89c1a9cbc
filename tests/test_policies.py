"""What an operator decides: which policy is in force and what it makes of the rows, and words of their own."""

import re
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, cases, read_results, table
from importer.errors import ConfigurationError
from importer.formats.catalogue import user_folder
from importer.prepare.plan import PolicyBook
from importer.settings.loading import load_settings
from importer.settings.options import PolicyChoices
from importer.settings.values import outside_prefixes
from samples import catalogue
from schemas.vocabulary import Verdict

CASES = cases("policies")


@table(
    ("run", "tables", "in_force"),
    [
        (None, {}, ((), "default")),
        (None, {"*": "9"}, (("9",), "configuration")),
        (None, {"*": "9", "twilio": "8"}, (("8",), "configuration, [policies.twilio]")),
        ("9,0", {"*": "9", "twilio": "8"}, (("9", "0"), "this run")),
        ("", {"*": "9", "twilio": "8"}, ((), "this run")),
    ],
)
def test_the_most_particular_choice_is_in_force(run: str | None, tables: dict[str, str], in_force: object) -> None:
    """Option, then the configuration's table of the format, the configuration, the default; "" is a choice too."""
    configured = {name: PolicyChoices(outside_prefix=outside_prefixes(text)) for name, text in tables.items()}
    book = PolicyBook(PolicyChoices(outside_prefix=None if run is None else outside_prefixes(run)), configured)
    assert book.sources(catalogue().formats["twilio"])["outside_prefix"] == in_force


def config(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_policies_come_from_option_environment_and_file(tmp_path: Path) -> None:
    """Option and environment are of this run; the file's keys are for all formats, its tables for one."""
    path = config(
        tmp_path, 'voicemail = "attended"\nour-side = "busy"\n[policies.twilio]\ncancelled-ring-seconds = 20\n'
    )
    flags = {"config": str(path), "cancelled_ring_seconds": 5}
    settings = load_settings(flags, {"CDR_IMPORTER_OUR_SIDE": "skip"})
    assert (settings.cancelled_ring_seconds, settings.our_side, settings.voicemail) == (5, "skip", None)
    assert settings.policies == {
        "twilio": PolicyChoices(cancelled_ring_seconds=20),
        "*": PolicyChoices(voicemail="attended", our_side="busy"),
    }


@table(("text", "place", "rule"), CASES["wrong"])
def test_wrong_policy_is_refused_with_its_key(text: str, place: str, rule: str, tmp_path: Path) -> None:
    """A policy that cannot be used is named with file, key, value and rule."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"config": str(config(tmp_path, text))}, {})
    assert f"config.toml: {place}" in caught.value.message
    assert rule in caught.value.hint


def test_formats_shows_the_policies_in_force(program: Program, tmp_path: Path) -> None:
    """`formats NAME` tells each policy with its value and who says so, in 80 columns."""
    path = config(tmp_path, 'voicemail = "attended"\n[policies.twilio]\ncancelled-unknown = "skip"\n')
    told = program("formats", "twilio", "--config", path).stdout
    assert max(map(len, told.splitlines())) <= 80
    assert [re.split(" {2,}", line) for line in told.splitlines() if line.startswith("--")][-7:] == [
        ["--cancelled-ring-seconds", "10", "default (this export does not tell how long"],
        ["--cancelled-unknown", "skip", "configuration, [policies.twilio] (this"],
        ["--voicemail", "attended", "configuration"],
        ["--our-side", "skip", "default"],
        ["--outside-prefix", "none", "default"],
        ["--extensions", "learned", "default"],
        ["--trunks", "learned", "default"],
    ]


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
    (user_folder() / "cdr-importer.toml").symlink_to(config)  # as README's night has it
    assert program("formats").stdout.splitlines()[-2:] == folders
    ran = program("check", "--config", config, "--results", beside / "asterisk-disposition.toml", SAMPLE)
    assert (ran.code, "a file of your configuration" in ran.stderr) == (78, True)
