"""Options from three sources and who is blamed for a bad one; secrets; data centres; moments."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from importer.errors import ConfigurationError, ExitCode, ImporterError, UsageError
from importer.settings import (
    DATA_CENTERS,
    OPTIONS,
    Credentials,
    Limit,
    Rate,
    Settings,
    credentials_path,
    load_credentials,
    load_settings,
    parse_moment,
)
from importer.settings.values import base_url
from schemas.vocabulary import State

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=UTC)
SECRET_VARIABLES = {
    "CDR_IMPORTER_CLIENT_ID": "1000.ID",
    "CDR_IMPORTER_CLIENT_SECRET": "s3cret",
    "CDR_IMPORTER_REFRESH_TOKEN": "1000.refresh",
}
SECRETS = Credentials("1000.ID", "s3cret", "1000.refresh")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the user's folders at a place of their own."""
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Name a TOML file that is not written yet."""
    return tmp_path / "own.toml"


def refusal(flags: Mapping[str, object], environment: Mapping[str, str]) -> ImporterError:
    """Load settings that cannot be loaded and return the error."""
    with pytest.raises(ImporterError) as caught:
        load_settings(flags, environment)
    return caught.value


def epoch(text: str) -> int:
    """Return the second of an ISO date-time with offset."""
    return int(datetime.fromisoformat(text).timestamp())


def test_defaults(tmp_path: Path) -> None:
    """Without any source every option has the contract's default."""
    settings = load_settings({"rate": None}, {})
    given = (settings.rate, settings.batch_size, settings.workers, settings.max_errors, settings.states)
    assert given == (Rate(60, 60.0), 50, 1, Limit(20, None), frozenset(State))
    assert settings.ledger == tmp_path / "xdg_state_home/cdr-importer/ledger.sqlite"


def test_precedence(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag outranks the variable passed in, unless empty, which outranks the file."""
    config.write_text("workers = 7\n")
    monkeypatch.setenv("CDR_IMPORTER_WORKERS", "11")
    for flag, variable, expected in ((None, "", 7), (None, "8", 8), (9, "", 9), (9, "8", 9)):
        environment = {"CDR_IMPORTER_CONFIG": str(config), "CDR_IMPORTER_WORKERS": variable}
        assert load_settings({"workers": flag}, environment).workers == expected
    assert load_settings({}, {"CDR_IMPORTER_CONFIG": str(config)}).workers == 7
    assert (load_settings({}, {}).workers, Settings().workers) == (1, 1)


def test_config_file(config: Path, tmp_path: Path) -> None:
    """The user's own file is read unless --config names one; a key has - or _, not both."""
    folder = tmp_path / "xdg_config_home/cdr-importer"
    folder.mkdir(parents=True)
    (folder / "cdr-importer.toml").write_text('site = "berlin"\n')
    assert load_settings({}, {}).site == "berlin"
    for key in ("default-agent-number", "default_agent_number"):
        config.write_text(f'{key} = "+447700900123"\n')
        settings = load_settings({"config": config}, {"CDR_IMPORTER_CONFIG": "/nowhere.toml"})
        assert settings.default_agent_number == "+447700900123"
    config.write_text('site = "notepad"\n', encoding="utf-8-sig")
    assert load_settings({"config": config}, {}).site == "notepad"
    config.write_text("all-rows = true\nall_rows = false\n")
    assert "twice" in refusal({"config": config}, {}).message


GOOD = [
    ("states", "busy, noanswer", "states", frozenset({State.BUSY, State.NOANSWER})),
    ("outside-prefix", "9, 0", "outside_prefix", ("9", "0")),
    ("outside-prefix", "00", "outside_prefix", ("00",)),
    ("rate", "10/second", "rate", Rate(10, 1.0)),
    ("max-errors", "2.5%", "max_errors", Limit(None, 2.5)),
    ("max-errors", "7", "max_errors", Limit(7, None)),
    ("max-uncertain", "1", "max_uncertain", 1),
    ("max-runtime", "90m", "max_runtime", 5400.0),
    ("max-runtime", "2h", "max_runtime", 7200.0),
    ("max-runtime", "45", "max_runtime", 45.0),
    ("delimiter", "tab", "delimiter", "\t"),
    ("delimiter", r"\t", "delimiter", "\t"),
    ("delimiter", ";", "delimiter", ";"),
    ("limit", "1", "limit", 1),
    ("workers", "64", "workers", 64),
    ("jobs", "2", "jobs", 2),
    ("scheduler", "tcp://[::1]:8786", "scheduler", "tcp://[::1]:8786"),
    ("data-center", "EU", "data_center", "eu"),
    ("accounts-url", "http://127.0.0.1:8080/", "accounts_url", "http://127.0.0.1:8080"),
    ("api-url", "https://api.example", "api_url", "https://api.example"),
    ("api-url", "http://[::1]:1", "api_url", "http://[::1]:1"),
    ("timezone", "Europe/Berlin", "timezone", "Europe/Berlin"),
    ("country", "GB", "country", "GB"),
    ("encoding", "cp1252", "encoding", "cp1252"),
    ("json", "true", "json", True),
    ("all-rows", "1", "all_rows", True),
    ("since", "2d", "since", "2d"),
    ("site", "a.b-c_9", "site", "a.b-c_9"),
    ("proxy", "http://user@proxy.example:3128", "proxy", "http://user@proxy.example:3128"),
    ("on-uncertain", "resend", "on_uncertain", "resend"),
    ("results", "out.csv", "results", Path("out.csv")),
]


@table(("option", "text", "field", "expected"), GOOD)
def test_good_value(option: str, text: str, field: str, expected: object) -> None:
    """A good text means the same as flag and as variable."""
    variable = "CDR_IMPORTER_" + option.upper().replace("-", "_")
    from_flag = load_settings({option.replace("-", "_"): text}, {})
    from_variable = load_settings({}, {variable: text})
    assert (getattr(from_flag, field), getattr(from_variable, field)) == (expected, expected)


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ('states = ["busy", "invalid"]', "states", frozenset({State.BUSY, State.INVALID})),
        ("max-errors = 5", "max_errors", Limit(5, None)),
        ("max-runtime = 60", "max_runtime", 60.0),
        ("sandbox = true", "sandbox", True),
        ("json = true", "json", True),
    ],
)
def test_toml_types(config: Path, line: str, field: str, expected: object) -> None:
    """The file may use TOML's own types."""
    config.write_text(line)
    assert getattr(load_settings({"config": config}, {}), field) == expected


def test_home_folder(home: Path) -> None:
    """A path from environment or file may start with ~, which no shell has replaced there."""
    assert load_settings({}, {"CDR_IMPORTER_LEDGER": "~/calls.sqlite"}).ledger == home / "calls.sqlite"


BAD = {
    "format": (" ",),
    "timezone": ("Berlin", "../etc/passwd"),
    "country": ("UK",),
    "agents": ("\0",),
    "site": ("a b", "x" * 65),
    "since": ("soon",),
    "until": ("2026-3-1",),
    "outside-prefix": ("9,,0", "+", "1234567890123"),
    "states": ("busy,engaged", "busy,,noanswer"),
    "rate": ("0/minute", "60", "1/day"),
    "batch-size": ("0",),
    "workers": ("65", "two"),
    "jobs": ("0", "two"),
    "scheduler": ("localhost:8786", "tcp://localhost", "http://localhost:8786"),
    "limit": ("0",),
    "default-agent-number": ("12", "020 7946 0123", "+44 20 7946 0123"),
    "on-uncertain": ("retry",),
    "max-errors": ("0", "101%", "-1"),
    "max-uncertain": ("0",),
    "max-runtime": ("0", "1.5h", "soon"),
    "encoding": ("utf-99", "rot13"),
    "delimiter": (";;", "a", '"'),
    "accounts-url": ("http://accounts.zoho.com", "https://accounts.zoho.com/oauth"),
    "api-url": ("https://user@host", "https://host:99999"),
    "proxy": ("socks5://proxy.example:1080", "proxy.example:3128"),
    "data-center": ("de",),
    "quiet": ("perhaps",),
}


@pytest.mark.fault(38)
@table(("option", "text"), [(option, text) for option, texts in BAD.items() for text in texts])
def test_bad_value(option: str, text: str) -> None:
    """A flag's bad value is a usage error that names the flag, a variable's one of configuration that names it."""
    name = option.replace("-", "_")
    variable = f"CDR_IMPORTER_{name.upper()}"
    errors = refusal({name: text}, {}), refusal({}, {variable: text})
    assert [(error.exit_code, error.message.partition(":")[0]) for error in errors] == [
        (ExitCode.USAGE, f"--{option}"),
        (ExitCode.CONFIGURATION, f"environment variable {variable}"),
    ]


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "line",
    ["workers = 0", "workers = true", "max-errors = true", "rate = 60", "default-agent-number = 447700900123"],
)
def test_bad_toml_value(config: Path, line: str) -> None:
    """The file's bad value is a configuration error that names file and key."""
    config.write_text(line)
    error = refusal({"config": config}, {})
    key = line.partition(" ")[0]
    assert (error.exit_code, error.message.startswith(f"{config}: {key}:")) == (ExitCode.CONFIGURATION, True)


def test_odd_toml_value() -> None:
    """Whatever TOML can hold, a reader takes it or raises the rule; nothing else ends a run."""
    deep: dict[str, object] = {}
    for _ in range(3000):
        deep = {"a": deep}
    texts, lists = ("", "\0", "caf\udce9"), ([], [1], [[1]], [deep])
    odd = (True, -1, 1.5, float("nan"), 10**5000, *texts, *lists, {"a": 1}, deep, NOW)
    for name, option in OPTIONS.items():
        for value in odd:
            with suppress(ValueError):
                assert option.read(value) is not None, name


@table(
    ("option", "value", "private"),
    [
        ("default_agent_number", "+447700900123\n", "7700900123"),
        ("proxy", "socks5://user:hunter2@proxy.example", "hunter2"),
        ("api_url", "https://user:hunter2@host.example", "hunter2"),
    ],
)
def test_private_value_in_error(option: str, value: str, private: str) -> None:
    """Neither a telephone number nor a password is repeated in a message."""
    error = refusal({option: value}, {})
    assert private not in error.message + error.hint + str(error.__cause__)


def test_private_value_in_repr() -> None:
    """The representation of settings and credentials shows neither number, proxy password nor secret."""
    settings = Settings(default_agent_number="+447700900123", proxy="http://u:hunter2@proxy.example:1")
    private = ("7700900123", "hunter2", "1000.ID", "s3cret", "1000.refresh")
    assert not any(each in f"{settings!r} {SECRETS!r}" for each in private)


@pytest.mark.parametrize("key", ["client_id", "client-secret", "refresh_token"])
def test_secret_in_config(config: Path, key: str) -> None:
    """A secret in the config file is refused with the places where it belongs, and is not shown."""
    config.write_text(f'{key} = "hunter2"\n')
    error = refusal({"config": config}, {})
    assert error.exit_code == ExitCode.CONFIGURATION
    assert "cdr-importer auth" in error.hint
    assert "hunter2" not in error.message + error.hint


@pytest.mark.fault(28)
@pytest.mark.parametrize("content", [b"workers: 3\n", b"site = '\xff'\n", b"[import]\nworkers = 3\n"])
def test_config_unusable(config: Path, content: bytes) -> None:
    """What is not flat TOML in UTF-8 is a configuration error that names the file."""
    config.write_bytes(content)
    error = refusal({"config": config}, {})
    assert (error.exit_code, str(config) in error.message) == (ExitCode.CONFIGURATION, True)


def test_config_key_twice(config: Path) -> None:
    """A key that stands twice is said to, with the second line."""
    config.write_text('country = "US"\ncountry = "GB"\n')
    error = refusal({"config": config}, {})
    assert "line 2 cannot be read: the key stands twice" in error.message


@pytest.mark.fault(28)
def test_config_missing(config: Path) -> None:
    """--config with a file that is not there is a usage error, CDR_IMPORTER_CONFIG one of configuration."""
    assert refusal({"config": config}, {}).exit_code == ExitCode.USAGE
    assert refusal({}, {"CDR_IMPORTER_CONFIG": str(config)}).exit_code == ExitCode.CONFIGURATION


@table(
    ("limit", "errors", "sent", "expected"),
    [
        (Limit(20, None), 19, 1000, False),
        (Limit(20, None), 20, 20, True),
        (Limit(None, 5.0), 1, 1, False),
        (Limit(None, 5.0), 1, 20, True),
        (Limit(None, 5.0), 4, 100, False),
        (Limit(None, 5.0), 0, 100, False),
        (Limit(None, 100.0), 20, 20, True),
    ],
)
def test_error_limit(limit: Limit, errors: int, sent: int, expected: bool) -> None:
    """A count is reached by so many refusals; a share only once 20 calls were sent."""
    assert limit.exceeded(errors, sent) is expected


@table(("accounts_url", "api_hosts"), list(DATA_CENTERS.values()))
def test_data_centers(accounts_url: str, api_hosts: frozenset[str]) -> None:
    """Every data centre of the contract has a base URL that the sign-in takes and bare API host names."""
    assert " ".join(DATA_CENTERS) == "us eu in au jp ca cn sa uk ae"
    assert base_url(accounts_url) == accounts_url
    assert all(host and "/" not in host for host in api_hosts)


def credentials_error(environment: Mapping[str, str]) -> ConfigurationError:
    """Load credentials that cannot be loaded and return the error."""
    with pytest.raises(ConfigurationError) as caught:
        load_credentials(environment)
    return caught.value


@pytest.fixture
def credentials_file() -> Path:
    """Write a good credentials file."""
    path = credentials_path()
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text('client_id = "1000.ID"\nclient_secret = "s3cret"\nrefresh_token = "1000.refresh"\n')
    return path


def test_credentials(credentials_file: Path) -> None:
    """The three variables are enough; without them the file in the user's config folder gives all three."""
    assert load_credentials({}) == SECRETS
    credentials_file.unlink()
    assert load_credentials(SECRET_VARIABLES) == SECRETS


def test_credentials_missing(credentials_file: Path) -> None:
    """One of three names the others, whatever the file; nothing at all names all and both ways to give them."""
    error = credentials_error({"CDR_IMPORTER_CLIENT_ID": "1000.other"})
    assert error.message.startswith("missing for the sign-in: client_secret, refresh_token")
    credentials_file.unlink()
    error = credentials_error({})
    assert error.message == "missing for the sign-in: client_id, client_secret, refresh_token"
    assert "CDR_IMPORTER_REFRESH_TOKEN" in error.hint and str(credentials_path()) in error.hint


def test_credentials_pipe() -> None:
    """A named pipe is refused without waiting for a writer."""
    credentials_path().parent.mkdir(parents=True)
    os.mkfifo(credentials_path(), 0o600)
    assert "not a regular file" in credentials_error({}).message


@pytest.mark.parametrize(
    "content",
    [
        "hunter2",
        "client_id = hunter2",
        '"hunter2" = 1\n"hunter2" = 2',
        'hunter2 = ""',
        "client_id = 5\nhunter2 = 1",
        'client_id = "hunter2\\n"\nclient_secret = "a"\nrefresh_token = "b"',
    ],
)
def test_credentials_damaged(credentials_file: Path, content: str) -> None:
    """A file that is not three texts is refused by name, and nothing in it is shown."""
    credentials_file.write_text(content)
    error = credentials_error({})
    assert str(credentials_file) in error.message
    assert "hunter2" not in error.message + error.hint + str(error.__cause__)


@pytest.mark.fault(149)
@table("secret", ["hunter2\n", "hunter2\r", " hunter2", "hunter2 ", "hunt\0er2", "hunter2\x7f"])
def test_secret_characters(secret: str) -> None:
    """A secret with blanks or control characters is refused by the variable's name and not shown."""
    error = credentials_error({**SECRET_VARIABLES, "CDR_IMPORTER_CLIENT_SECRET": secret})
    assert "CDR_IMPORTER_CLIENT_SECRET" in error.message
    assert "hunt" not in error.message + error.hint


@table(
    ("text", "timezone", "expected"),
    [
        ("2026-03-01", "Europe/Berlin", "2026-03-01T00:00+01:00"),
        ("2026-03-01 14:30", "America/New_York", "2026-03-01T14:30-05:00"),
        ("2026-03-01T14:30:15", "Europe/Berlin", "2026-03-01T14:30:15+01:00"),
        ("2026-03-01T14:30Z", None, "2026-03-01T14:30+00:00"),
        ("2026-03-01 14:30:00+05:30", None, "2026-03-01T14:30+05:30"),
        ("2026-03-01T14:30-0330", "Europe/Berlin", "2026-03-01T14:30-03:30"),
        ("12h", None, "2026-03-10T03:30+00:00"),
        ("2d", None, "2026-03-08T15:30+00:00"),
        ("3w", "Europe/Berlin", "2026-02-17T15:30+00:00"),
        ("today", "UTC", "2026-03-10T00:00+00:00"),
        ("today", "Pacific/Auckland", "2026-03-11T00:00+13:00"),
        ("yesterday", "America/Los_Angeles", "2026-03-09T00:00-07:00"),
        ("2026-03-29", "Europe/Berlin", "2026-03-29T00:00+01:00"),
        # Cuba's clock goes from 24:00 to 01:00, and back from 01:00 to 00:00.
        ("2026-03-08", "America/Havana", "2026-03-08T01:00-04:00"),
        ("2026-11-01", "America/Havana", "2026-11-01T00:00-04:00"),
    ],
)
def test_moment(text: str, timezone: str | None, expected: str) -> None:
    """A moment is the second it names; a day is its first instant."""
    assert parse_moment(text, now=NOW, timezone=timezone) == epoch(expected)


@table(
    ("text", "timezone", "fault"),
    [
        ("2026-03-29 02:30", "Europe/Berlin", "does not exist"),
        ("2026-10-25 02:30", "Europe/Berlin", "occurs twice"),
        ("2026-11-01 00:30", "America/Havana", "occurs twice"),
        ("2011-12-30", "Pacific/Apia", "skipped it"),
    ],
)
def test_moment_of_clock_change(text: str, timezone: str, fault: str) -> None:
    """A local time that the clock skipped or showed twice is refused with the reason."""
    with pytest.raises(UsageError, match=fault):
        parse_moment(text, now=NOW, timezone=timezone)


@table(
    "text",
    [
        *("", "soon", "2026-02-30", "2026-13-01", "2026-03-01 24:30", "0000-01-01", "0001-01-01", "01/03/2026"),
        *("-2d", "2m"),
    ],
)
def test_moment_refused(text: str) -> None:
    """Another form, or a date that no calendar has, is refused."""
    with pytest.raises(UsageError):
        parse_moment(text, now=NOW, timezone="Asia/Tokyo")


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)), st.sampled_from(["Europe/Berlin", "America/Havana"])
)
def test_moment_round_trip(local: datetime, timezone: str) -> None:
    """A date-time taken shows the same on the zone's clock."""
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    try:
        moment = parse_moment(text, now=NOW, timezone=timezone)
    except UsageError:
        return
    assert f"{datetime.fromtimestamp(moment, ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S}" == text


@given(st.text(max_size=30))
def test_moment_any_text(text: str) -> None:
    """Any text is a moment or a usage error."""
    try:
        parse_moment(text, now=NOW, timezone="Europe/Berlin")
    except UsageError as error:
        assert error.hint
