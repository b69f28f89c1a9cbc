"""What `doctor` says of a night's set-up: all in order, and each thing that can be wrong with it."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from conftest import ROOT, Program, call_row, table, write_export
from importer.errors import ConfigurationError
from importer.settings.loading import load_settings
from importer.setup.doctor import examine
from misbehaviour import CALLS, TOKENS, USERS, Fault, Simulator


@dataclass
class Night:
    """One set-up to be spoilt: its folder, the service, and the environment."""

    folder: Path
    account: Simulator
    environment: pytest.MonkeyPatch


Defect = Callable[[Night], object]
NAMES = (
    *("config", "time zone", "agents", "ledger", "backup", "last run", "uncertain", "backlog", "outputs"),
    *("watching", "disk", "sign-in", "data centre", "calls", "users", "clock", "timer"),
)
CONFIG = 'timezone = "America/New_York"\ncountry = "US"\nagents = "agents.csv"\nledger = "ledger.sqlite"\n'
AGENTS = "extension,number,zohouser,email,name\n101,+12125550101,20068510101,,\n"


@pytest.fixture
def night(program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which nothing is missing, with one call sent; it is the working folder."""
    folder = tmp_path / "night"
    for name in ("etc/cron.d", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "agents.csv").write_text(AGENTS)
    (folder / "own.toml").write_text(CONFIG)
    crontab = "30 3 * * * cdr-importer import --ping-url secret"
    (folder / "bin/crontab").write_text(f"#!/bin/sh\n[ -z $CDR_IMPORTER_CLIENT_ID ] && echo '{crontab}'\n")
    for name in ("crontab", "sendmail"):
        (folder / "bin" / name).touch(0o700)
        (folder / "bin" / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    for name in ("LEDGER", "RATE", "YES"):
        monkeypatch.delenv(f"CDR_IMPORTER_{name}")
    monkeypatch.setenv("CDR_IMPORTER_CONFIG", "own.toml")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    (folder / "loop").symlink_to("loop")
    export = write_export(tmp_path / "export.csv", [call_row(1)])
    assert program("import", "--init-ledger", "--yes", "--results", tmp_path / "out.csv", export).code == 0
    assert program("ledger", "backup", tmp_path / "backup.sqlite").code == 0
    return folder


def test_all_in_order(program: Program, night: Path, account: Simulator) -> None:
    """Each thing has its line of at most 80 columns, all are ok, no call is sent; crontab inherits no secret."""
    before = account.accepted
    ran = program("doctor")
    assert (ran.code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    firsts = [line for line in lines if not line.startswith(" ")]
    assert [line[6:17].strip() for line in firsts] == [*NAMES]
    assert {line[:4].strip() for line in firsts} == {"ok"}, ran.stdout
    assert max(map(len, lines)) <= 80
    assert "crontab -l: 30 3 * * *" in ran.stdout
    assert "secret" not in ran.stdout
    found = json.loads(program("doctor", "--json").stdout)
    assert (found["exit"], [check["name"] for check in found["checks"]]) == (0, [*NAMES])
    assert account.accepted == before


def edited(name: str, old: str, new: str) -> Defect:
    """Return the defect of a file in which something else stands."""

    def edit(its: Night) -> None:
        path = its.folder / name
        path.write_text(path.read_text().replace(old, new))

    return edit


def option(line: str) -> Defect:
    """Return the defect of a config file with another option."""
    return edited("own.toml", "ledger =", f"{line}\nledger =")


def on(name: str, act: Callable[..., object], *arguments: object) -> Defect:
    """Return the defect that something was done to a file."""
    return lambda its: act(its.folder / name, *arguments)


def answered(fault: Fault, path: str = CALLS) -> Defect:
    """Return the defect of a service that answers so."""
    return lambda its: its.account.script(fault, path=path)


def closed(name: str) -> Defect:
    """Return the defect of a file that this user, who is not root, may not write to."""

    def may(path: str | Path, how: int, access: Callable[..., bool] = os.access) -> bool:
        return Path(path).name != name and access(path, how)

    return lambda its: its.environment.setattr(os, "access", may)


def waiting(its: Night) -> None:
    """Leave 600 calls pending, at a rate that takes them 10 hours."""
    execute = "INSERT INTO calls (call_id, fingerprint, state, seq) VALUES (?, x'', 'pending', ?)"
    with closing(sqlite3.connect(its.folder / "ledger.sqlite")) as other:
        other.executemany(execute, [(f"w{number}", 1000 + number) for number in range(600)])
        other.commit()
    option('rate = "1/minute"')(its)


def many_tokens(its: Night) -> None:
    """Let the service give no token any more."""
    its.account.service.most_per_period = 0


REVOKED = {"name": "CDR_IMPORTER_REFRESH_TOKEN", "value": "1000.revoked"}
OLD_DATE = Fault(headers=(("Date", formatdate(0, usegmt=True)),))
DEFECTS: list[tuple[Defect, str, str, str]] = [
    (edited("own.toml", "country", "contry"), "act config", "contry", "country"),
    (lambda its: its.environment.delenv("CDR_IMPORTER_CONFIG"), "look config", "no config file", "init"),
    (edited("own.toml", "America/New_York", "EST"), "act time zone", "without summer time", "timezone ="),
    (edited("own.toml", "timezone", "#"), "look time zone", "none", 'timezone = "Europe/London"'),
    (edited("own.toml", "agents.csv", "gone.csv"), "act agents", "gone.csv", "--agents"),
    (edited("agents.csv", "+12125550101", ""), "look agents", "1 without a number", "Complete"),
    (on("ledger.sqlite", Path.unlink), "act ledger", "no ledger at", "cdr-importer init"),
    (edited("own.toml", "ledger.sqlite", "loop"), "act ledger", "loop is a link", "Remove it"),
    (on("ledger.sqlite", Path.chmod, 0o666), "act ledger", "changed by others", "chmod go-w"),
    (on("ledger.sqlite.witness", Path.write_text, "generation=999\n"), "act ledger", "restored", "accept-restore"),
    (on("ledger.sqlite.backed-up", os.utime, (1_700_000_000,) * 2), "look backup", "2023-11-14", "ledger backup"),
    (closed("ledger.sqlite.lock"), "act ledger", "cannot be written: ", "ls -l"),
    (waiting, "look backlog", "600 calls pending: about 9 h 59 min", "--max-runtime"),
    (option('log = "logs/cdr.log"'), "act outputs", "cannot write to", "Make the folder"),
    (option('log = "bin"'), "act outputs", "cannot write to bin", "Make"),
    (option('results = "bin"'), "act outputs", "exists already", "--results"),
    (
        lambda its: its.environment.setattr(shutil, "which", lambda *_, **__: None),
        "look watching",
        "nobody would see",
        "ping-url =",
    ),
    (option('format = "astrisk"'), "act config", "no format", "Did you mean"),
    (option("limit = 1"), "look config", "leaves calls out: limit", "Take out what is not meant"),
    (option('since = "1d"'), "look config", "leaves calls out: since", "Take out"),
    (option("sandbox = true"), "act config", "no call goes to Zoho", "Take `sandbox` out"),
    (answered(Fault(reset_before_reading=True)), "act calls", "gave no answer (reset)", "Check the network"),
    (lambda its: its.environment.setenv(**REVOKED), "act sign-in", "invalid_code", "auth login"),
    (many_tokens, "look sign-in", "10 in 10 minutes", "Wait 10 minutes"),
    (answered(Fault.refusal("OAUTH_SCOPE_MISMATCH", 401)), "act calls", "scope_missing", "auth login"),
    (answered(Fault.throttle()), "look calls", "TOO_MANY", "Wait a while"),
    (edited("agents.csv", "20068510101", "999"), "act users", "PhoneBridge has no 999", "users --config"),
    (
        answered(Fault.refusal("NO_PERMISSION", 403), USERS),
        "look users",
        "sent all the same",
        "PhoneBridge rights",
    ),
    (answered(OLD_DATE, TOKENS), "act clock", "ahead of Zoho's clock", "set-ntp"),
    (on("bin/crontab", Path.unlink), "look timer", "nothing starts", "crontab -e, as "),
]


@table(("defect", "line", "words", "hint"), DEFECTS)
def test_defect(
    program: Program,
    night: Path,
    account: Simulator,
    tmp_path: Path,
    defect: Defect,
    line: str,
    words: str,
    hint: str,
) -> None:
    """Each thing that is wrong is one line with what to do; all others are there, and 78 says that one must be."""
    account.service.most_per_period = 1000
    folder = shutil.copytree(night, tmp_path / "night", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", f"{folder}/bin")
        defect(Night(folder, account, patch))
        found = json.loads(program("doctor", "--json").stdout)
    checks = found["checks"]
    first = next(check for check in checks if check["state"] != "ok")
    assert f"{first['state']} {first['name']}" == line
    assert words in first["found"]
    assert hint in first["hint"]
    assert sorted(check["name"] for check in checks) == sorted(NAMES)
    assert found["exit"] == (78 if "act" in {check["state"] for check in checks} else 0)
    assert found["exit"] or line.startswith("look")


def test_format_beside_the_config(program: Program, night: Path) -> None:
    """A policy for a format of the site's own, beside the config in force, is none of a format that is missing."""
    (night / "formats").mkdir()
    source = ROOT / "schemas/formats/callnotify.toml"
    (night / "formats/own.toml").write_text(source.read_text().replace('name = "callnotify"', 'name = "own"'))
    option('format = "own"')(Night(night, None, None))
    with (night / "own.toml").open("a") as config:
        config.write('[policies.own]\nvoicemail = "attended"\n')
    assert program("doctor").stdout.startswith("ok    config")


def test_timers_of_the_system(night: Path) -> None:
    """Cron's folder and enabled timers of systemd count; a place that cannot be read is named."""
    (night / "bin/crontab").unlink()

    def timer() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", "")
            check = [*examine(load_settings({}, {}), {}, root=night)][-1]
        return f"{check.state} {check.found}"

    (night / "etc/cron.d/unreadable").symlink_to("unreadable")
    assert timer().startswith("look nothing starts")
    assert "etc/cron.d/unreadable" in timer()
    units = night / "etc/systemd/system"
    (units / "timers.target.wants").mkdir(parents=True)
    (units / "night.service").write_text("ExecStart=/opt/cdr-importer import\n")
    (units / "timers.target.wants/night.timer").write_text("[Timer]\n")
    assert timer() == f"ok {units}/timers.target.wants/night.timer"
    (night / "etc/cron.d/night").write_text("# cdr-importer\n@daily root cdr-importer import x.csv\n")
    assert f"{night}/etc/cron.d/night: @daily" in timer()


def test_nothing_there() -> None:
    """Without config, ledger, account and network every line is there all the same."""
    checks = [*examine(ConfigurationError("it is broken", hint="mend it"), {})]
    assert [check.name for check in checks] == [*NAMES]
    assert [check.state for check in checks[:2]] == ["act", "look"]
