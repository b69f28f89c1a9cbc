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

from conftest import cases, table
from importer.errors import ConfigurationError, ExitCode, ImporterError, UsageError
from importer.settings.credentials import Credentials, credentials_path, load_credentials
from importer.settings.loading import load_settings
from importer.settings.options import OPTIONS, Settings
from importer.settings.values import DATA_CENTERS, Limit, Rate, base_url, parse_moment
from schemas.vocabulary import State

CASES = cases("settings")

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=UTC)
SECRETS = Credentials("1000.ID", "s3cret", "1000.refresh")
SECRET_VARIABLES = {
    f"CDR_IMPORTER_{name.upper()}": getattr(SECRETS, name)
    for name in ("client_id", "client_secret", "refresh_token")
}


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


def refusal(flags: Mapping[str, object], environment: Mapping[str, str] | None = None) -> ImporterError:
    """Load settings that cannot be loaded and return the error."""
    with pytest.raises(ImporterError) as caught:
        load_settings(flags, environment or {})
    return caught.value


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
    assert (load_settings({}, {}).workers, Settings().workers) == (1, 1)


def test_config_file(config: Path, home: Path, tmp_path: Path) -> None:
    """The user's own file is read unless --config names one; a key has - or _, not both, and TOML's own types."""
    folder = tmp_path / "xdg_config_home/cdr-importer"
    folder.mkdir(parents=True)
    (folder / "cdr-importer.toml").write_text('site = "berlin"\n')
    assert load_settings({}, {"CDR_IMPORTER_LEDGER": "~/calls.sqlite"}).ledger == home / "calls.sqlite"
    assert load_settings({}, {}).site == "berlin"
    for line, field, expected in (
        ('default-agent-number = "+447700900123"', "default_agent_number", "+447700900123"),
        ('default_agent_number = "+447700900123"', "default_agent_number", "+447700900123"),
        ('states = ["busy", "invalid"]', "states", frozenset({State.BUSY, State.INVALID})),
        ("max-errors = 5", "max_errors", Limit(5, None)),
        ("max-runtime = 60", "max_runtime", 60.0),
        ("sandbox = true", "sandbox", True),
    ):
        config.write_text(line, encoding="utf-8-sig")
        settings = load_settings({"config": config}, {"CDR_IMPORTER_CONFIG": "/nowhere.toml"})
        assert (getattr(settings, field), settings.site) == (expected, ""), line


VALUES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "format": ({}, (" ",)),
    "timezone": (
        {name: name for name in ("Europe/Berlin", "UTC", "Etc/GMT+1")},
        ("Berlin", "../etc/passwd", "Europe", "/etc/localtime", "localtime", "right/Europe/Berlin", "x" * 5000),
    ),
    "country": ({"GB": "GB"}, ("UK",)),
    "agents": ({}, ("\0",)),
    "site": ({"a.b-c_9": "a.b-c_9"}, ("a b", "x" * 65)),
    "since": ({"2d": "2d"}, ("soon",)),
    "until": ({}, ("2026-3-1",)),
    "outside-prefix": ({"9, 0": ("9", "0"), "00": ("00",)}, ("9,,0", "+", "1234567890123")),
    "our-side": ({"busy": "busy", "skip": "skip"}, ("engaged",)),
    "states": ({"busy, noanswer": frozenset({State.BUSY, State.NOANSWER})}, ("busy,engaged", "busy,,noanswer")),
    "rate": (
        {"10/second": Rate(10, 1.0), "60/minute": Rate(60, 60.0), "1000/hour": Rate(1000, 3600.0)},
        ("0/minute", "60", "1/day", "-1/second", "1.5/second", "1e3/hour", "٣/hour"),
    ),
    "batch-size": ({}, ("0",)),
    "workers": ({"64": 64}, ("65", "two", "1_0", "٣")),
    "jobs": ({"2": 2}, ("0",)),
    "scheduler": (
        {"tcp://[::1]:8786": "tcp://[::1]:8786"},
        ("localhost:8786", "tcp://localhost", "http://h:8786"),
    ),
    "limit": ({"1": 1}, ("0",)),
    "default-agent-number": ({}, ("12", "020 7946 0123", "+44 20 7946 0123")),
    "on-uncertain": ({"resend": "resend"}, ("retry",)),
    "max-errors": ({"2.5%": Limit(None, 2.5), "7": Limit(7, None)}, ("0", "101%", "-1")),
    "max-uncertain": ({"1": 1}, ("0",)),
    "max-runtime": ({"90m": 5400.0, "2h": 7200.0, "45": 45.0}, ("0", "1.5h", "soon")),
    "keep-results": ({"90d": 7_776_000.0, "24h": 86_400.0}, ("3m", "90", "23h")),
    "encoding": ({"cp1252": "cp1252"}, ("utf-99", "rot13")),
    "delimiter": ({"tab": "\t", r"\t": "\t", ";": ";"}, (";;", "a", '"')),
    "accounts-url": ({"http://127.0.0.1:1/": "http://127.0.0.1:1"}, ("http://zoho.com", "https://zoho.com/oauth")),
    "api-url": ({"http://[::1]:1": "http://[::1]:1"}, ("https://user@host", "https://host:99999")),
    "proxy": ({"http://user@h.example:1": "http://user@h.example:1"}, ("socks5://h.example:1", "h.example:3128")),
    "ping-url": (
        {"http://127.0.0.1/x?y=1": "http://127.0.0.1/x?y=1"},
        ("http://h.example/x", "ftp://127.0.0.1/x", "https://ann:pw@h.example/x", "https://h.example/x#y", "uuid"),
    ),
    "data-center": ({"EU": "eu"}, ("de",)),
    "all-rows": ({"1": True, "true": True, "no": False}, ("perhaps",)),
    "results": ({"out.csv": Path("out.csv")}, ("x" * 256,)),
}
"""Option -> texts and what they mean, and texts that are refused."""


@pytest.mark.fault(38)
@table("option", VALUES)
def test_value(option: str) -> None:
    """A good text means the same as flag and as variable; a bad one is blamed on the flag (2) or variable (78)."""
    good, bad = VALUES[option]
    name = option.replace("-", "_")
    variable = f"CDR_IMPORTER_{name.upper()}"
    for text, meant in good.items():
        by_flag, by_variable = load_settings({name: text}, {}), load_settings({}, {variable: text})
        assert [getattr(each, name) for each in (by_flag, by_variable)] == [meant] * 2, text
    for text in bad:
        errors = refusal({name: text}), refusal({}, {variable: text})
        assert [(error.exit_code, error.message.partition(":")[0]) for error in errors] == [
            (ExitCode.USAGE, f"--{option}"),
            (ExitCode.CONFIGURATION, f"environment variable {variable}"),
        ], text
        assert not any("State." in error.hint for error in errors), text


def test_odd_toml_value() -> None:
    """Whatever TOML can hold, a reader takes it or raises the rule; nothing else ends a run."""
    deep: dict[str, object] = {}
    for _ in range(3000):
        deep = {"a": deep}
    texts = ("", "\0", "caf\udce9")
    odd = (True, -1, 1.5, float("nan"), 10**5000, *texts, [1], [[1]], [deep], {"a": 1}, deep, NOW)
    for name, option in OPTIONS.items():
        for value in odd:
            with suppress(ValueError):
                assert option.read(value) is not None, name


def test_private_values() -> None:
    """Neither number nor password nor secret is repeated in a message, shown by a representation or kept."""
    for option, value in {
        "default_agent_number": "+447700900123\n",
        "proxy": "socks5://user:hunter2@proxy.example",
        "api_url": "https://user:hunter2@host.example",
        "ping_url": "https://host.example/hunter2#x",
    }.items():
        error = refusal({option: value})
        said = error.message + error.hint + str(error.__cause__)
        assert not any(each in said for each in ("7700900123", "hunter2")), option
    settings = Settings(default_agent_number="+447700900123", proxy="http://u:hunter2@proxy.example:1")
    private = ("7700900123", "hunter2", "1000.ID", "s3cret", "1000.refresh")
    assert not any(each in f"{settings!r} {SECRETS!r} {settings.in_force()}" for each in private)


@pytest.mark.fault(28)
@table(
    ("content", "words"),
    [*CASES["no_configs"], (b"site = '\xff'\n", "own.toml cannot be read: it is not saved as UTF-8")],
)
def test_config_refused(tmp_path: Path, content: str | bytes, words: str) -> None:
    """What is no flat TOML of options in UTF-8 is refused (78) with file and key; a secret is not shown."""
    config = tmp_path / "own.toml"
    config.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refusal({"config": config})
    assert (error.exit_code, words in error.message) == (ExitCode.CONFIGURATION, True)
    assert "hunter2" not in error.message + error.hint
    assert ("cdr-importer auth" in error.hint) == ("secret" in words)


@pytest.mark.fault(28)
def test_config_missing(config: Path) -> None:
    """--config with a file that is not there is a usage error, CDR_IMPORTER_CONFIG one of configuration."""
    assert refusal({"config": config}).exit_code == ExitCode.USAGE
    assert refusal({}, {"CDR_IMPORTER_CONFIG": str(config)}).exit_code == ExitCode.CONFIGURATION


@table(("limit", "errors", "sent", "expected"), CASES["limits"])
def test_error_limit(limit: str, errors: int, sent: int, expected: bool) -> None:
    """A count is reached by so many refusals; a share only once 20 calls were sent."""
    assert Limit.parse(limit).exceeded(errors, sent) is expected


def test_data_centers() -> None:
    """Every data centre of the contract has a base URL that the sign-in takes and bare API host names."""
    assert " ".join(DATA_CENTERS) == "us eu in au jp ca cn sa uk ae"
    for accounts_url, api_hosts in DATA_CENTERS.values():
        assert base_url(accounts_url) == accounts_url
        assert all(host and "/" not in host for host in api_hosts)


def credentials_error(environment: Mapping[str, str]) -> str:
    """Load credentials that cannot be loaded; return message and hint, which hold no secret."""
    with pytest.raises(ConfigurationError) as caught:
        load_credentials(environment)
    said = f"{caught.value.message} | {caught.value.hint} | {caught.value.__cause__}"
    assert "hunt" not in said
    return said


@pytest.fixture
def credentials_file() -> Path:
    """Write a good credentials file."""
    path = credentials_path()
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text('client_id = "1000.ID"\nclient_secret = "s3cret"\nrefresh_token = "1000.refresh"\n')
    return path


def test_credentials(credentials_file: Path) -> None:
    """Three variables, else the file in the user's config folder, give all three; what is missing is named."""
    assert load_credentials({}) == SECRETS
    said = credentials_error({"CDR_IMPORTER_CLIENT_ID": "1000.other"})
    assert said.startswith("missing for the sign-in: client_secret, refresh_token")
    credentials_file.unlink()
    assert load_credentials(SECRET_VARIABLES) == SECRETS
    said = credentials_error({})
    assert said.startswith("missing for the sign-in: client_id, client_secret, refresh_token |")
    assert "CDR_IMPORTER_REFRESH_TOKEN" in said and str(credentials_path()) in said
    os.mkfifo(credentials_path(), 0o600)  # nobody waits for a writer
    assert "not a regular file" in credentials_error({})


def test_credentials_of_a_unit(credentials_file: Path, tmp_path: Path) -> None:
    """What systemd passes outranks the user's file, whatever its mode; without both the unit's line is named."""
    passed, unit = tmp_path / "credentials.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    passed.write_text(credentials_file.read_text().replace("s3cret", "passed"))
    passed.chmod(0o440)
    assert load_credentials(unit).client_secret == "passed"
    passed.unlink()
    assert load_credentials(unit) == SECRETS
    credentials_file.unlink()
    assert f"| systemd passed no {passed}: look at the unit's" in credentials_error(unit)


@table("content", CASES["damaged"])
def test_credentials_damaged(credentials_file: Path, content: str) -> None:
    """A file that is not three texts is refused by name, and nothing in it is shown."""
    credentials_file.write_text(content)
    assert str(credentials_file) in credentials_error({})


@pytest.mark.fault(149)
@table("secret", ["hunter2\n", "hunter2\r", " hunter2", "hunter2 ", "hunt\0er2", "hunter2\x7f"])
def test_secret_characters(secret: str) -> None:
    """A secret with blanks or control characters is refused by the variable's name and not shown."""
    said = credentials_error({**SECRET_VARIABLES, "CDR_IMPORTER_CLIENT_SECRET": secret})
    assert "CDR_IMPORTER_CLIENT_SECRET" in said


@table(("text", "timezone", "expected"), CASES["moments"])
def test_moment(text: str, timezone: str | None, expected: str) -> None:
    """A moment is the second it names; a day is its first instant."""
    assert parse_moment(text, now=NOW, timezone=timezone or None) == datetime.fromisoformat(expected).timestamp()


@table(("text", "timezone", "fault", "advice"), CASES["no_moments"])
def test_moment_refused(text: str, timezone: str, fault: str, advice: str) -> None:
    """A local time skipped or shown twice, another form or no date is refused with reason and what to write."""
    with pytest.raises(UsageError, match=fault) as refused:
        parse_moment(text, now=NOW, timezone=timezone)
    assert advice in refused.value.hint


LOCAL = st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)).map(lambda local: f"{local:%Y-%m-%d %H:%M:%S}")


@given(LOCAL | st.text(max_size=30), st.sampled_from(["Europe/Berlin", "America/Havana"]))
def test_any_text_as_a_moment(text: str, timezone: str) -> None:
    """Any text is a usage error, or a moment, which a date-time shows on the zone's clock."""
    try:
        moment = parse_moment(text, now=NOW, timezone=timezone)
    except UsageError as error:
        assert error.hint
        return
    if len(text) == len("2026-03-01 14:30:00"):
        assert f"{datetime.fromtimestamp(moment, ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S}" == text
