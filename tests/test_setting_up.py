"""What is done once: `init`, `auth login`, `auth check` and `users`, against the simulator."""

import io
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from conftest import SAMPLES, AtTerminal, Program, asterisk_row, cases, read_results, table
from importer.cli.init import config_text
from importer.errors import ConfigurationError, ExitCode
from importer.settings.credentials import Credentials, credentials_path, load_credentials, save_credentials
from importer.settings.loading import config_path, load_settings
from importer.settings.options import OPTIONS
from misbehaviour import FOREVER, USERS, Fault, Simulator

CASES = cases("setting_up")

Typed = Callable[..., None]

SIGN_IN = Credentials("1000.ID", "s3cret", "1000.refresh")
NO_PERMISSION = Fault.refusal("NO_PERMISSION", 403)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return a function that puts lines on standard input, which is no terminal."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


@pytest.fixture
def unsigned(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Point the program at a simulator that it has no sign-in for."""
    monkeypatch.setenv("CDR_IMPORTER_ACCOUNTS_URL", simulator.base_url)
    monkeypatch.setenv("CDR_IMPORTER_API_URL", simulator.base_url)
    return simulator


# --- init -----------------------------------------------------------------------------------------------------
def test_init(program: Program, tmp_path: Path) -> None:
    """One command writes config and ledger, private, where --config says too, and later commands find them."""
    (tmp_path / "agents.csv").write_text("mine")
    ran = program("init", "--timezone", "Europe/London", "--country", "GB", "--agents", tmp_path / "agents.csv")
    assert ran.code == 0
    config = tomllib.loads(config_path().read_text())
    assert config == {"timezone": "Europe/London", "country": "GB", "agents": str(tmp_path / "agents.csv")}
    assert stat.S_IMODE(config_path().stat().st_mode) == 0o600
    assert "1. cdr-importer auth login\n" in ran.stdout
    assert "Calls older than 30 days go at first only with --since DATE, or --yes" in ran.stdout
    assert program("status").code == 0
    path = tmp_path / "etc" / "own.toml"
    ran = program("init", "--config", path, "--ledger", tmp_path / "var" / "ledger.sqlite")
    assert (ran.code, f"cdr-importer auth login --config {path}" in ran.stdout) == (0, True)
    assert program("status", "--config", path).code == 0


def test_init_that_is_refused(program: Program, tmp_path: Path) -> None:
    """A value that cannot be used leaves nothing behind, and a config file that is there is never overwritten."""
    ran = program("init", "--timezone", "Atlantis", "--ledger", tmp_path / "ledger.sqlite")
    assert (ran.code, config_path().exists(), (tmp_path / "ledger.sqlite").exists()) == (2, False, False)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert program("init", "--ledger", tmp_path / "open" / "ledger.sqlite").code == 78
    assert program("init").code == 0
    before = config_path().read_bytes()
    assert program("init", "--agents", tmp_path / "new" / "agents.csv").code == 2
    assert not (tmp_path / "new").exists()
    assert (program("init", "--timezone", "Europe/Berlin").code, config_path().read_bytes()) == (2, before)


@table("value", ['a "quoted" name', "back\\slash", "tab\there", "Zoë"])
def test_config_text_keeps_values(value: str) -> None:
    """Any value comes back as it was."""
    assert tomllib.loads(config_text({"site": value}, None)) == {"site": value}


def test_config_text_has_every_option(tmp_path: Path) -> None:
    """Every option stands in the file under its meaning, and each example is a value that the program takes."""
    lines = config_text({}, None).splitlines()
    examples = [line.removeprefix("# ") for line in lines if re.match("# [a-z-]+ = ", line)]
    assert {line.split(" = ")[0] for line in examples} == set(OPTIONS)
    (tmp_path / "all.toml").write_text("\n".join(examples))
    (tmp_path / "all.toml").chmod(0o600)
    assert load_settings({"config": str(tmp_path / "all.toml")}, {}).since == "30d"


# --- init at a terminal ---------------------------------------------------------------------------------------
@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """Return a function that types lines at what passes for a terminal, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def type_lines(*lines: str) -> None:
        keyboard = io.StringIO("".join(f"{line}\n" for line in lines))
        read = keyboard.readline
        monkeypatch.setattr(keyboard, "isatty", lambda: True, raising=False)
        # Enter ends the line of the question.
        monkeypatch.setattr(keyboard, "readline", lambda size=-1: print(file=sys.stderr) or read(size))
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    return type_lines


def test_init_asks(program: Program, keys: Typed, unsigned: Simulator) -> None:
    """A typo of the agents file is asked about and a yes is no name, `<` goes back, and the sandbox stays."""
    agents = ("y", "nowhere/agents.csv", "agnets.csv", "n", "agents.csv", "y")
    keys("", "Europe/Londn", "Europe/Paris", "<", "Europe/London", "GB", *agents, "", "", "ledger.sqlite")
    ran = program("init")
    assert ran.code == 0, ran.stderr
    assert sorted(path.name for path in Path().iterdir())[:2] == ["agents.csv", "ledger.sqlite"]
    assert not Path("nowhere").exists()
    assert max(len(line) for line in ran.stderr.splitlines() if os.environ["HOME"] not in line) <= 80
    assert "'y' answers no question with a value" in ran.stderr
    config = tomllib.loads(config_path().read_text())
    assert (config["timezone"], config["country"]) == ("Europe/London", "GB")
    assert (config["accounts-url"], config["api-url"]) == (unsigned.base_url, unsigned.base_url)
    assert "took   api-url from CDR_IMPORTER_API_URL\n" in ran.stdout
    assert "such as Europe/London: " in ran.stderr  # without a default
    assert "At most so many calls [default: 60/minute]: " in ran.stderr


def test_init_unwritable(
    program: Program, keys: Typed, unsigned: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agents file or a ledger that this user cannot make is asked for again, not refused after all answers."""
    own = Path.cwd().parent / "own"
    own.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) == own)  # root may write everywhere
    ledgers = ("no/ledger.sqlite", str(own), str(own / "ledger.sqlite"))
    keys("", "Europe/London", "GB", "agents.csv", "", "", "", *ledgers)
    ran = program("init")
    assert (ran.code, "in which you may write" in ran.stderr) == (0, True)
    assert f"no ledger can be made at {Path('no/ledger.sqlite')}" in " ".join(ran.stderr.split())
    assert "agents" not in tomllib.loads(config_path().read_text())


def asterisk(number: int, zone: str, front: str) -> str:
    """Return one unattended call of an Asterisk export, twelve hours after the one before."""
    made = datetime(2025, 10, 30, 15, 0, tzinfo=UTC) + timedelta(hours=12 * number)
    agent, customer = f"10{number % 2 + 1}", f"{front}21255501{number:02}"
    return asterisk_row(made, made.astimezone(ZoneInfo(zone)), number, agent=agent, customer=customer)


@pytest.fixture
def autumn(tmp_path: Path) -> Path:
    """Return an export of calls from before and after New York's clock went back, dialled with a 9 in front."""
    path = tmp_path / "Master.csv"
    path.write_text("".join(asterisk(number, "America/New_York", "9") for number in range(12)))
    return path


def test_proposal_printed(program: Program, autumn: Path) -> None:
    """Without a terminal the config file is printed with what is proved and by what, and nothing is made."""
    ran = program("init", "--from", autumn)
    assert ran.code == 0, ran.stderr
    assert tomllib.loads(ran.stdout) == {
        "timezone": "America/New_York",
        "country": "US",
        "outside-prefix": "9",
        "format": "asterisk-csv",
        "rate": "60/minute",
    }
    said = ran.stdout.replace("\n# ", " ")
    for words in (
        "the ids of 12 rows prove that the clock stood at UTC-05:00 to UTC-04:00 (UTC-05:00 in",
        "0 are numbers in US as they stand, 12 behind a 9",
        "trunks: trunk-a; telephones: 101, 102",
        "12 unattended calls of 7 days, those rejected included",
        "extension,number,zohouser,email,name,missing 101,,,,,number zohouser 102,,,,,number zohouser",
    ):
        assert words in said, said
    assert not config_path().exists()


@table(("rows", "old", "new", "option", "words"), CASES["unproved"])
def test_unproved(program: Program, autumn: Path, rows: int, old: str, new: str, option: str, words: str) -> None:
    """What is not proved stays a comment that says why: an odd clock or one without a change, too few numbers."""
    lines = autumn.read_text().replace(old, new).splitlines(keepends=True)
    autumn.with_name("other.csv").write_text("".join(lines[:rows]))
    ran = program("init", "--from", autumn.with_name("other.csv"))
    assert (ran.code, option in tomllib.loads(ran.stdout)) == (0, False)
    assert words in ran.stdout.replace("\n# ", " ")
    assert f'\n# {option} = "..."\n' in ran.stdout


def test_proposal_for_another_site(program: Program, tmp_path: Path, autumn: Path) -> None:
    """What the config file of one site says proves nothing of another's export, and gives it no ledger."""
    program("init", "--ledger", tmp_path / "first.sqlite", "--country", "GB")
    with config_path().open("a") as stream:
        stream.write('format = "twilio"\n')
    ran = program("init", "--config", tmp_path / "second.toml", "--from", autumn)
    assert (ran.code, 'country = "US"' in ran.stdout) == (0, True)
    ran = program("init", "--config", tmp_path / "second.toml")
    assert (ran.code, "first.sqlite" in ran.stdout) == (0, False)


def test_proposal_of_another_country(program: Program, autumn: Path) -> None:
    """American numbers are no British ones, though the plan has them and the zone is of there."""
    autumn.write_text("".join(asterisk(number, "Europe/London", "") for number in range(12)))
    ran = program("init", "--timezone", "Europe/London", "--from", autumn)
    assert ran.code == 0
    assert "12 of 12 in GB; none has the 0 that is dialled in GB" in ran.stdout.replace("\n# ", " ")
    assert not {"country", "outside-prefix"} & tomllib.loads(ran.stdout).keys()


def test_drafted_agents_are_told_apart(program: Program) -> None:
    """A row that says less of an agent makes no line of its own: extension 105 has one, with the name."""
    printed = program("init", "--from", SAMPLES / "yeastar-p" / "day.csv").stdout
    assert [line for line in printed.splitlines() if "105" in line] == ["# 105,,,,Emma Clarke,number zohouser"]


def test_proposal_taken(program: Program, keys: Typed, account: Simulator, autumn: Path) -> None:
    """Only what got a yes is in the file, and no format of no name; the agents are matched and drafted."""
    account.service.users = ({"zohouser": "20068510101", "email": "ann.lee@example.com", "username": "101"},)
    keys("", "no", "y", "y", "y", "", "agents.csv", "y", "", "", "", "ledger.sqlite")
    ran = program("init", "--from", autumn)
    assert ran.code == 0, ran.stderr
    config = tomllib.loads(config_path().read_text())
    assert (config["timezone"], config["country"], config["format"]) == ("America/New_York", "US", "asterisk-csv")
    assert not config.keys() & {"outside-prefix", "rate"}
    assert Path("agents.csv").read_text().splitlines() == [
        "extension,number,zohouser,email,name,missing",
        "101,,20068510101,,,number",
        "102,,,,,number zohouser",
    ]
    assert "--since 2025-10-30" in ran.stdout
    assert f"import --limit 1 {autumn}" in ran.stdout


# --- init with an export that no format fits --------------------------------------------------------------------
CODES = """Ref,Date,Time,Way,Ext,Dialled,Secs,Cause
7001,03/04/2026,09:14:07,O,201,07700 900142,0,17
7002,04/04/2026,09:15:07,O,202,07700 900143,31,16
7003,04/05/2026,09:16:07,I,201,07700 900144,0,16
7004,05/05/2026,09:17:07,O,202,07700 900145,0,16
7005,05/05/2026,09:18:07,O,202,07700 900146,0,127
"""
COLUMNS = ("", "1", "1", "5", "", "4", "8")
"""Date and clock, the first of two layouts, id, agent, customer, direction, outcome of `CODES`."""
REST = ("", "Europe/London", "GB", "", "+442079460101", "", "", "ledger.sqlite")


def test_unknown_export_is_described(program: Program, keys: Typed, tmp_path: Path) -> None:
    """Numbers as answers make a format among one's own, and config and ledger, with which the export is read."""
    Path("calls.csv").write_text(CODES)
    keys(*COLUMNS, "", "7", "", "1", "2", "3", "", *REST)
    ran = program("init", "--from", "calls.csv")
    assert ran.code == 0, ran.stderr
    assert "  1  03/04/2026 14:05:00\n  2  04/03/2026 14:05:00\n" in ran.stderr
    assert max(len(line) for line in ran.stderr.splitlines() if os.environ["HOME"] not in line) <= 80
    assert re.search("^  3 +Q.850 causes +16 noanswer or attended, 17 busy", ran.stderr, re.MULTILINE)
    assert re.search(r"^2 +busy +\+442079460101 +\+447700900142 +2026-04-03 08:14:07$", ran.stdout, re.MULTILINE)
    assert "  1. cdr-importer import --sandbox --rate 20/second calls.csv" in ran.stdout
    assert not load_settings({}, {}).format
    assert program("check", "--all-rows", "--results", tmp_path / "r.csv", "calls.csv").code == 0
    assert [(row["outcome"], row["state"] or row["reason"]) for row in read_results(tmp_path / "r.csv")] == [
        ("would_send", "busy"),
        ("skipped", "attended"),
        ("skipped", "incoming"),
        ("would_send", "noanswer"),
        ("skipped", "our_side"),
    ]


def test_description_can_go_back(program: Program, keys: Typed) -> None:
    """`<` takes an answer back, also the last; a number that fits no column and an empty one are asked again."""
    Path("calls.csv").write_text(CODES)
    words = ("1", "2", "2", "1", "9", "<", "10", "1")
    keys("<", "2", "", "2", "<", "1", "1", "", "5", "", "4", "8", "", "", "", *words, *REST)
    ran = program("init", "--from", "calls.csv")
    assert ran.code == 0, ran.stderr
    assert "'2' does not fit here. What fits: 2 3; ? leaves it open." in ran.stderr
    assert "  O = outgoing\n  I = incoming\n  16 = busy\n  17 = attended\n  127 = our_side\n" in ran.stderr
    made = tomllib.loads((config_path().parent / "formats" / "calls.toml").read_text())
    assert made["time"] == {"columns": ["date", "time"], "formats": ["%d/%m/%Y %H:%M:%S"]}
    # Without the time of talk no table that needs it is offered.
    assert made["outcome"] == [{"column": "cause", "words": {"16": "busy", "17": "attended", "127": "our_side"}}]


def test_description_left_open(program: Program, keys: Typed) -> None:
    """What a person leaves open makes a draft in the working folder (78); a word left open is rejected by name."""
    Path("calls.csv").write_text(CODES.replace(",127", ",\x1b[2J"))
    keys("?", "1", "5", "", "0", "8", "", "", "", "?", "1", "10", "")
    ran = program("init", "--from", "calls.csv")
    assert (ran.code, config_path().exists()) == (78, False), ran.stderr
    assert "\\x1b[2J, 1 row: " in ran.stderr
    assert "calls.toml is a draft: 2 open points" in ran.stderr
    made = tomllib.loads(Path("calls.toml").read_text())
    assert made["direction"] == [{"when": {"dialled": {"empty": False}}, "is": "outgoing"}]
    assert made["outcome"] == [{"column": "cause", "words": {"17": "attended", "\x1b[2J": "our_side"}}]
    assert made["call"] == {"id": ["ref"], "customer": "dialled", "agent": ["ext"]}


def test_times_of_no_known_layout_are_left_open(program: Program, keys: Typed) -> None:
    """Where no column can be the start it says what to type, in 80 columns, and the draft has the open points."""
    Path("calls.csv").write_text(re.sub("([0-9]{2}):([0-9]{2}):07", r"\1h\2", CODES))
    keys("?", "1", "5", "6", "0", "8", "", "7", "", "1", "2", "3", "")
    ran = program("init", "--from", "calls.csv")
    assert "\nNo column has times as they are known here: ? leaves it open.\n" in ran.stderr
    assert (ran.code, "calls.toml is a draft: 2 open points" in ran.stderr) == (78, True)


def test_calls_without_a_word_for_their_way_are_told_by_their_ends(
    program: Program, keys: Typed, tmp_path: Path
) -> None:
    """What an extension dials went out, what reached one came in, between two it stayed in; else it is open."""
    ends = (("101", "07700 900142"), ("101", "102"), ("07700 900143", "101"), ("07700 900144", "020 7946 0101"))
    rows = [f"2026-03-02 09:14:0{second},{one},{other},busy" for second, (one, other) in enumerate(ends)]
    Path("calls.csv").write_text("\n".join(("At,From,To,Status", *rows, "")))
    # The numbers differ in all rows, and are offered for no id.
    keys("", "", "0", "2", "3", "00", "4", "", "", "1", "", "", *REST)
    ran = program("init", "--from", "calls.csv")
    assert ran.code == 0, ran.stderr
    program("check", "--all-rows", "--results", tmp_path / "r.csv", "calls.csv")
    assert [(row["outcome"], row["state"] or row["reason"]) for row in read_results(tmp_path / "r.csv")] == [
        ("would_send", "busy"),
        ("skipped", "internal"),
        ("skipped", "incoming"),
        ("rejected", "unknown_direction"),
    ]


def test_word_of_an_unattended_call_beside_talk_is_rejected(program: Program, keys: Typed, tmp_path: Path) -> None:
    """A word that a person took for another does not notify a call in which they talked."""
    rows = ("142,busy,0", "143,answered,31", "144,machine,9")
    lines = (f"2026-03-02 09:14:07,101,07700 900{row}" for row in rows)
    Path("calls.csv").write_text("\n".join(("At,From,To,Status,Talk", *lines, "")))
    keys("", "0", "2", "3", "0", "4", "0", "5", "1", "2", "2", "9", "", *REST)
    ran = program("init", "--from", "calls.csv")
    assert ran.code == 0, ran.stderr
    program("check", "--all-rows", "--results", tmp_path / "r.csv", "calls.csv")
    found = read_results(tmp_path / "r.csv")
    assert [(row["outcome"], row["state"] or row["reason"]) for row in found] == [
        ("would_send", "busy"),
        ("rejected", "missing_status"),
        ("would_send", "noanswer"),
    ]
    assert 'Columns Status "answered", Talk "31" do not decide' in found[1]["hint"]


def test_code_of_an_unattended_call_beside_talk_is_rejected(program: Program, keys: Typed, tmp_path: Path) -> None:
    """A table of codes that a person chose does not notify a call in which they talked."""
    Path("calls.csv").write_text(CODES.replace(",0,17", ",31,17"))
    keys(*COLUMNS, "", "7", "", "1", "2", "3", "", *REST)
    assert program("init", "--from", "calls.csv").code == 0
    assert program("check", "--all-rows", "--results", tmp_path / "r.csv", "calls.csv").code == 3
    found = read_results(tmp_path / "r.csv")
    assert [row["outcome"] for row in found] == ["rejected", "skipped", "skipped", "would_send", "skipped"]
    assert 'Columns Cause "17", Secs "31" do not decide' in found[0]["hint"]


def test_second_system_is_described(program: Program, keys: Typed) -> None:
    """Beside a config file only the format is made, and the next command is named."""
    assert program("init").code == 0
    Path("calls.csv").write_text(CODES.replace("Ref,", "Note,"))
    keys(*COLUMNS[:2], "0", *COLUMNS[3:], "", "7", "", "1", "2", "3", "")
    ran = program("init", "--from", "calls.csv")
    assert (ran.code, ran.stdout) == (0, "Next: cdr-importer check calls.csv\n"), ran.stderr
    made = tomllib.loads((config_path().parent / "formats" / "calls.toml").read_text())
    assert made["call"]["unique_by"] == ["date", "time", "ext", "dialled"]


# --- auth login -----------------------------------------------------------------------------------------------
def test_login(program: Program, unsigned: Simulator, typed: Typed) -> None:
    """Id, secret and code become a credentials file that signs in, and none of them is printed."""
    account = unsigned.credentials
    code = unsigned.service.issue_grant_code()
    typed(account.client_id, account.client_secret, code)
    ran = program("auth", "login")
    assert ran.code == 0, ran.stderr
    assert load_credentials({}) == Credentials(account.client_id, account.client_secret, account.refresh_token)
    assert stat.S_IMODE(credentials_path().stat().st_mode) == 0o600
    shown = ran.stdout + ran.stderr
    assert not any(secret in shown for secret in (account.client_secret, account.refresh_token, code))
    assert "PhoneBridge.call.log" in ran.stderr
    assert program("auth", "check").code == 0


def test_question_without_an_answer(at_terminal: AtTerminal, tmp_path: Path) -> None:
    """Ctrl-D at a question, as Ctrl-C, ends the program with 130 and a line of its own, and nothing is made."""
    terminal = at_terminal(["init"])
    terminal.expect("data centre")
    terminal.expect(": ")
    terminal.type("\x04", end="")
    assert (terminal.finish(), list(tmp_path.rglob("*.toml"))) == (130, [])
    assert "cdr-importer: interrupted" in terminal.lines()


def test_login_at_a_terminal(at_terminal: AtTerminal, unsigned: Simulator, tmp_path: Path) -> None:
    """What is typed for the secret is not shown."""
    account = unsigned.credentials
    terminal = at_terminal(["auth", "login"])
    for question, typed in (("id", account.client_id), ("secret", account.client_secret)):
        terminal.expect(f"Client {question}: ")
        terminal.type(typed)
    terminal.expect("Code: ")
    terminal.type(unsigned.service.issue_grant_code())
    assert (terminal.finish(), account.client_secret in terminal.shown) == (0, False), terminal.shown
    assert max(len(line) for line in terminal.lines() if os.environ["HOME"] not in line) <= 80


def test_login_again(program: Program, unsigned: Simulator, typed: Typed) -> None:
    """A second sign-in replaces the first one only when it works; a code used before is told apart."""
    account = unsigned.credentials
    before = Credentials(account.client_id, "before", "1000.before")
    save_credentials(before)
    for secret, code, said in (("wrong", "1000.code", ""), (account.client_secret, "1000.used", "used before")):
        typed(account.client_id, secret, code)
        ran = program("auth", "login")
        assert (ran.code, said in ran.stderr) == (ExitCode.NOT_PERMITTED, True)
        assert load_credentials({}) == before
    typed(account.client_id, account.client_secret, unsigned.service.issue_grant_code())
    assert program("auth", "login").code == 0
    assert load_credentials({}).refresh_token == account.refresh_token


def test_login_to_a_simulator(program: Program, unsigned: Simulator, typed: Typed) -> None:
    """A simulator's sign-in replaces no other client's, nor one that cannot be read, and no code is used up."""
    path = save_credentials(SIGN_IN)
    for mode in (0o600, 0o644):
        path.chmod(mode)
        typed(unsigned.credentials.client_id, unsigned.credentials.client_secret, "1000.code")
        ran = program("auth", "login")
        assert (ran.code, "would replace" in ran.stderr) == (ExitCode.CONFIGURATION, True), ran.stderr
        assert (SIGN_IN.refresh_token in path.read_text(), unsigned.token_requests) == (True, 0)


@table("lines", [(), ("1000.ID",), ("1000.ID", "secret", "two words"), ('"1000.ID"', "secret", "1000.code")])
def test_login_unanswered(program: Program, unsigned: Simulator, typed: Typed, lines: tuple[str, ...]) -> None:
    """Answers that are missing or cannot be one stop before anything is asked of the service."""
    typed(*lines)
    assert program("auth", "login").code == ExitCode.CONFIGURATION
    assert unsigned.token_requests == 0


def test_login_by_environment(
    program: Program, unsigned: Simulator, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With id and secret in the environment only the code is asked, and it is said that they outrank the file."""
    account = unsigned.credentials
    monkeypatch.setenv("CDR_IMPORTER_CLIENT_ID", account.client_id)
    monkeypatch.setenv("CDR_IMPORTER_CLIENT_SECRET", account.client_secret)
    typed(unsigned.service.issue_grant_code())
    ran = program("auth", "login")
    assert ran.code == 0
    assert "Id and secret: CDR_IMPORTER_CLIENT_ID and CDR_IMPORTER_CLIENT_SECRET.\n" in ran.stderr
    assert "Runs take all three from one place: the environment, if any is there, else\n" in ran.stderr
    assert "outranks them: unset CDR_IMPORTER_CLIENT_ID CDR_IMPORTER_CLIENT_SECRET\n" in ran.stdout
    assert max(map(len, ran.stderr.splitlines())) <= 80


# --- auth check -----------------------------------------------------------------------------------------------


@table(("refusal", "status", "code", "words"), CASES["found"])
def test_check_finds(
    program: Program, account: Simulator, refusal: str, status: int, code: int, words: str
) -> None:
    """What stands against notifying calls is named, with what to do."""
    account.script(Fault.refusal(refusal, status))
    ran = program("auth", "check")
    assert (ran.code, account.accepted, words in ran.stderr) == (code, (), True), ran.stderr


def test_check_behind_the_cache(program: Program, account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revoked refresh token is found beside a cached token that works; a host of elsewhere is not spoken to."""
    assert program("users").code == 0
    with monkeypatch.context() as changed:
        changed.setenv("CDR_IMPORTER_REFRESH_TOKEN", "1000.revoked")
        ran = program("auth", "check")
    assert (ran.code, "invalid_code" in ran.stderr) == (ExitCode.NOT_PERMITTED, True)
    monkeypatch.delenv("CDR_IMPORTER_API_URL")
    ran = program("auth", "check")
    assert (ran.code, "--data-center" in ran.stderr) == (ExitCode.CONFIGURATION, True)
    assert account.arrivals == ()


# --- users ----------------------------------------------------------------------------------------------------
def test_users(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Each user is listed with the agent they are, by id, e-mail or name; the file to complete has all of both."""
    agents = tmp_path / "agents.csv"
    agents.write_text(
        "extension,number,zohouser,email,name\n"
        "101,+12125550101,,ANN.lee@example.com,\n"
        "102,,20068510102,,Benjamin\n"
        "103,,99999999999,,Gone Example\n"
    )
    ran = program("users", "--agents", agents, "--write", tmp_path / "todo.csv")
    assert ran.code == ExitCode.PARTIAL
    lines = ran.stdout.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert [line.split() for line in lines[1:4]] == [
        ["20068510101", "101", "by", "email", "Ann", "Lee", "ann.lee@example.com"],
        ["20068510102", "102", "Ben", "Ortiz", "ben.ortiz@example.com"],
        ["20068510103", "none", "Cora", "Diaz", "cora.diaz@example.com"],
    ]
    assert lines[7:9] == [
        "not a user: 99999999999 of extension 103; calls would be refused",
        "6 users, 4 without a line in the agents file",
    ]
    assert [tuple(row.values()) for row in read_results(tmp_path / "todo.csv")][:4] == [
        ("101", "+12125550101", "20068510101", "ANN.lee@example.com", ""),
        ("102", "", "20068510102", "", "Benjamin"),
        ("103", "", "99999999999", "", "Gone Example"),
        ("", "", "20068510103", "cora.diaz@example.com", "Cora Diaz"),
    ]


@pytest.mark.parametrize("has_paging", [True, False])
def test_many_users(program: Program, account: Simulator, has_paging: bool) -> None:
    """Users on several pages are all listed, once."""
    account.service.users = tuple(
        {"zohouser": str(9_000_000 + number), "email": f"u{number}@example.com", "username": ""}
        for number in range(450)
    )
    if not has_paging:
        account.script(Fault(drops=("paging", "navigation")).repeated(FOREVER), path=USERS)
    ran = program("users")
    assert (ran.code, ran.stdout.splitlines()[-1]) == (0, "450 users, 450 without a line in the agents file")
    assert len(set(ran.stdout.splitlines())) == 452


def test_users_that_fail(program: Program, account: Simulator, tmp_path: Path) -> None:
    """What stands against listing is named, and a file that is there is kept."""
    (tmp_path / "agents.csv").write_text("mine")
    assert program("users", "--write", tmp_path / "agents.csv").code == ExitCode.CANNOT_CREATE
    assert program("users", "--write", tmp_path / "no" / "agents.csv").code == ExitCode.CANNOT_CREATE
    assert [path.name for path in tmp_path.iterdir()] == ["agents.csv"]
    assert (tmp_path / "agents.csv").read_text() == "mine"
    gone = ("users", "--agents", tmp_path / "gone.csv")  # as a config may name it before it is drafted
    assert program(*gone).code == ExitCode.CONFIGURATION
    assert program(*gone, "--write", tmp_path / "draft.csv").code == ExitCode.OK
    account.script(NO_PERMISSION, path=USERS)
    ran = program("users")
    assert ran.code == ExitCode.NOT_PERMITTED
    assert "the users cannot be listed: not_permitted, status 403, NO_PERMISSION" in ran.stderr


# --- where secrets rest ---------------------------------------------------------------------------------------
@dataclass
class Keyring:
    """A keyring backend in memory."""

    kept: dict[tuple[str, str], str]
    priority: float = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        """Return what is kept."""
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        self.kept[service, username] = password


@pytest.fixture
def keyring() -> Iterator[Keyring]:
    """Put a keyring in memory in the place of the system's."""
    library = pytest.importorskip("keyring")
    backend = pytest.importorskip("keyring.backend")
    ours = type("Memory", (Keyring, backend.KeyringBackend), {"priority": 1.0})({})
    before = library.get_keyring()
    library.set_keyring(ours)
    yield ours
    library.set_keyring(before)


def test_credentials_in_keyring(keyring: Keyring) -> None:
    """With a keyring the file only says so, and the secrets come from there; lost ones were never there."""
    path = save_credentials(SIGN_IN, in_keyring=True)
    assert "s3cret" not in path.read_text()
    assert set(keyring.kept.values()) == {"1000.ID", "s3cret", "1000.refresh"}
    assert load_credentials({}) == SIGN_IN
    keyring.kept.clear()
    with pytest.raises(ConfigurationError, match="missing for the sign-in"):
        load_credentials({})


def test_keyring_of_another_session(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is chosen but cannot be reached or unlocked here, as in cron, is said to be that."""
    save_credentials(SIGN_IN, in_keyring=True)

    def fails(*_: object) -> float:
        raise RuntimeError

    for name in ("get_password", "set_password", "priority"):
        monkeypatch.setattr(type(keyring), name, property(fails) if name == "priority" else fails)
        with pytest.raises(ConfigurationError, match=r"keyring cannot be used \(RuntimeError\)"):
            save_credentials(SIGN_IN, in_keyring=True) if name == "set_password" else load_credentials({})
