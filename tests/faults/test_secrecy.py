"""Section J: secrets, numbers and payloads stand only where they must; the machinery of TLS and dumps is shut."""

import http.client
import json
import logging
import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from conftest import ROOT, Program, Serve, call_row, closed_port, read_results, write_export
from importer.cli import cli
from importer.requirements import NEEDED
from importer.settings.credentials import Credentials
from misbehaviour import ORDINARY, Fault, Simulator
from misbehaviour.connections import answering, http_answer
from schemas.vocabulary import Outcome
from shipped import commands
from steps import Step, at, at_steps

SECRETS = Credentials("1000.CANARYCLIENT", "canary-secret-4711", "1000.canary.refresh-4712")
PROXY_PASSWORD = "canary-proxy-4713"
AGENT = "+12125550177"


@pytest.fixture
def canaries(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plant secrets in account and environment, open every tap that could leak."""
    account.credentials = SECRETS
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")
    planted = dict.fromkeys(proxies, f"http://proxy:{PROXY_PASSWORD}@127.0.0.1:9")
    for name, value in (account.environment() | planted).items():
        monkeypatch.setenv(name, value)
    # As a sitecustomize or a debugging session might leave them.
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    shown = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(shown)
    yield
    logging.getLogger().removeHandler(shown)


ANSWERS = (
    ORDINARY.repeated(2),
    Fault.refusal("INVALID_DATA"),
    Fault.lost_answer(),
    Fault.cut_answer(),
    Fault(status=200, body=b'{"status":"error","code":"+447700900111"}'),
    Fault.expired_token(),
    Fault(raw_answer=b"HTTP/1.1 200 OK\r\n+447700900111 canary: x\r\nno colon\r\n\r\n"),
    Fault(reset_after_reading=True),
    Fault.login_page(),
)
ENDINGS = (
    Fault.refusal("INTERNAL_ERROR", 500),
    Fault(status=400, body=b'{"code":"+447700900111","message":"+447700900111 canary"}'),
    Fault(raw_answer=b"220 +447700900111 smtp ready\r\n"),
    Fault.refusal("NO_PERMISSION", 403),
    Fault.refusal("INVALID_TOKEN", 401),
)
"""What a run of one new call meets."""


@pytest.mark.fault(136, 138, 139, 154)
def test_planted_words(program: Program, account: Simulator, canaries: None, serve: Serve, tmp_path: Path) -> None:
    """Through failures of every kind and all commands, no secret, token or number is printed or kept in a file."""
    account.script(*ANSWERS)
    pings = serve(answering(http_answer(body=b"")))
    rows = [call_row(number, to=f"+4477009001{number:02}") for number in range(12)]
    bad = [call_row(50, to="+44 7700 900XXX"), call_row(51, start_time="+447700900111")]
    path = write_export(tmp_path / "export.csv", [*rows, *bad])
    config, proxy = tmp_path / "proxy.toml", f"http://u:{PROXY_PASSWORD}@127.0.0.1:9"
    config.write_text(f'proxy = "{proxy}"\n')
    config.chmod(0o600)
    log, metrics = tmp_path / "run.log", tmp_path / "metrics.prom"
    watched = ("--log", log, "--metrics", metrics, "--ping-url", f"{pings.base_url}/ping")
    words = (*watched, "-v", "--json", "--max-uncertain", "9", "--results")
    said = [
        program("check", "-v", "--results", tmp_path / "check.csv", path),
        program("import", "--init-ledger", *words, tmp_path / "one.csv", path),
        program("status"),
        program("status", "--runs"),
        program("resolve", "call00003", "--sent", "--note", "seen"),
        program("deliver", *words, tmp_path / "two.csv"),
        program("check", "-v", "--config", config, "--results", tmp_path / "three.csv", path),
        program("ledger", "forget", "--number", "+447700900103"),
        program("ledger", "purge"),
        program("ledger", "backup", tmp_path / "backup.sqlite"),
        program("import", "--proxy", proxy, path),
        program("import", "-v", "--default-agent-number", "+447700900112x", "--since", "soon", path),
    ]
    dead_ping = f"http://127.0.0.1:{closed_port()}/canary-uuid"
    for number, fault in enumerate(ENDINGS):
        account.script(fault)
        one = write_export(tmp_path / "one-export.csv", [call_row(60 + number, to="+447700900199")])
        said.append(program("import", "-v", "--log", log, "--ping-url", dead_ping, one))
    account.credentials = Credentials("1000.OTHER", "other", "1000.other")
    account.service._expiries.clear()
    said.append(program("import", "-v", write_export(tmp_path / "one-export.csv", [call_row(70)])))
    assert said[-1].code != 0
    statuses = [arrival.status for arrival in account.arrivals]
    assert {400, 401, 403, 500} <= set(statuses) and len(statuses) > len(ANSWERS)
    assert "ev=ping.failed" in log.read_text()
    cache = Path(os.environ["HOME"]) / ".cache" / "cdr-importer" / "token.json"
    tokens = re.findall(r'"access_token": "([^"]+)"', cache.read_text()) if cache.exists() else []
    secret = ["canary", "CANARY", "Zoho-oauthtoken", PROXY_PASSWORD, *tokens]
    texts = [ran.stdout + ran.stderr for ran in said]
    texts += [log.read_text(), metrics.read_text(), pings.received().decode()]
    assert all(texts[-3:])
    for number, text in enumerate(texts):
        assert [word for word in [*secret, "77009001", "7700 900", "5550101"] if word in text] == [], number
    kept = {each: each.read_bytes() for each in tmp_path.iterdir() if each != config}
    assert [(each.name, word) for each, held in kept.items() for word in secret if word.encode() in held] == []


@pytest.mark.fault(153, 155)
def test_payload_is_gone_from_every_file(program: Program, account: Simulator, tmp_path: Path) -> None:
    """What is accepted, forgotten or purged leaves no number in ledger, -wal, journal, lock or witness."""
    numbers = [f"+44770090{number:04}" for number in range(900, 940)]
    rows = [
        call_row(number, to=to, sender=AGENT, zohouser=f"Z4711{number}", voiceuri=f"https://r.example/{to}")
        for number, to in enumerate(numbers)
    ]
    path = write_export(tmp_path / "export.csv", rows)
    results = tmp_path / "results.csv"
    assert program("import", "--init-ledger", "--limit", "38", "--results", results, path).code == 0
    for command in (
        ("forget", "--number", numbers[-1]),
        ("forget", "--number", numbers[-2]),
        ("purge", "--older-than", "1d"),
        ("backup", tmp_path / "ledger.sqlite.copy"),
    ):
        assert program("ledger", *command).code == 0
    held = {each.name: each.read_bytes() for each in tmp_path.glob("ledger.sqlite*")}
    private = [word.lstrip("+").encode() for word in (*numbers, AGENT, "Z4711", "r.example")]
    assert {"ledger.sqlite", "ledger.sqlite.copy"} <= set(held)
    assert [(name, word) for name, text in held.items() for word in private if word in text] == []
    assert len(read_results(results)) == len(numbers)


@pytest.mark.fault(154)
def test_summary_holds_counts_only(program: Program, account: Simulator, tmp_path: Path) -> None:
    """What monitoring and cron's mail get is counts, exit code, one word, run and path: nothing of a call."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104")])
    said = json.loads(program("import", "--init-ledger", "--json", path).stdout)
    counts = {"rows", "carried", "exit", "held_uncertain", *map(str, Outcome)}
    reasons = {"skipped_by_reason", "rejected_by_reason"}
    assert set(said) == counts | reasons | {"reason", "run", "results", "uncertain_since"}
    assert all(isinstance(said[name], int) for name in counts)
    assert re.fullmatch(r"[a-z_]+", said["reason"])


@pytest.mark.fault(137, 151)
def test_no_option_takes_a_secret() -> None:
    """No option takes a secret or gives up trust; the program starts no other that would inherit secrets."""
    found = [cli, *(command for _, command in commands(cli, click.Context(cli)))]
    names = [f"{command.name} {word}" for command in found for each in command.params for word in each.opts]
    assert len(names) > 50
    assert [name for name in names if re.search("secret|token|password|client|credential", name)] == []
    assert [name for name in names if re.search("insecure|verify", name)] == []
    paths = [path for folder in ("importer", "schemas") for path in (ROOT / folder).rglob("*.py")]
    lines = {(path.name, line.strip()) for path in paths for line in path.read_text(encoding="utf-8").split("\n")}
    starting = re.compile("(?:import|from) (subprocess|multiprocessing|pty|webbrowser)\\b")
    starts = {(name, match[1]) for name, line in lines if (match := starting.match(line))}
    assert starts == {("processes.py", "multiprocessing"), ("doctor.py", "subprocess")}


@pytest.mark.fault(137)
def test_proxy_password_as_an_option(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ps` shows --proxy to everybody: with a password it is a wrong option, in the environment it is not."""
    monkeypatch.setenv("CDR_IMPORTER_LEDGER", str(tmp_path / "none.sqlite"))
    url = f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"
    ran = program("deliver", "--proxy", url)
    assert (ran.code, "CDR_IMPORTER_PROXY" in ran.stderr, PROXY_PASSWORD in ran.stderr) == (2, True, False)
    assert "proxy" not in program("deliver", "--proxy", "http://user@127.0.0.1:9").stderr
    monkeypatch.setenv("CDR_IMPORTER_PROXY", url)
    assert "proxy" not in program("deliver").stderr


CRASH = """
import os, platformdirs, resource, sys, threading
from importer.cli import main
canary = "+447700900111 canary-secret"
def broken(*words, **more):
    raise RuntimeError(canary)
def break_in_a_thread(number=canary):
    raise ValueError(canary)
os.umask(0)
platformdirs.user_config_path = broken
try:
    main(["formats"])
except SystemExit as end:
    assert end.code == 70
print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))
thread = threading.Thread(target=break_in_a_thread)
thread.start()
thread.join()
raise KeyError(canary)
"""


@pytest.mark.fault(147, 152)
def test_crash_leaves_neither_core_nor_values(tmp_path: Path) -> None:
    """A bug, in any thread, shows its kind and place only; no core file is allowed, and no file is for others."""
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split("\n")[0] == "(0, 0) 0o77"
    told = re.findall(r"^cdr-importer: internal error: (\w+ in \S+), line \d+$", done.stderr, re.MULTILINE)
    assert told == ["RuntimeError in broken", "ValueError in break_in_a_thread", "KeyError in <module>"]
    assert not any(word in done.stderr for word in ("7700900", "canary", "Traceback"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(147)
def test_files_are_private_under_any_umask(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Under umask 000 every file that any command makes is 0600, every folder 0700, also while a run goes on."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104")])
    os.environ["CDR_IMPORTER_LEDGER"] = str(tmp_path / "new" / "deep" / "ledger.sqlite")
    modes: dict[str, int] = {}

    def look() -> None:
        made = [*tmp_path.rglob("*"), *Path(os.environ["HOME"]).rglob("*")]
        modes.update({each.name: stat.S_IMODE(each.stat().st_mode) for each in made if each != path})

    before = os.umask(0)
    try:
        program("check", "--results", tmp_path / "check.csv", path)
        with at_steps(at(Step.ANSWERED, 1, look)):
            program("import", "--init-ledger", "--rejects", tmp_path / "rejects.csv", path)
        program("ledger", "backup", tmp_path / "backup.sqlite")
    finally:
        os.umask(before)
    look()
    assert {name for name, mode in modes.items() if mode & 0o077} - {".cache"} == set()
    assert {"backup.sqlite", "check.csv", "rejects.csv", "ledger.sqlite", "token.json", "deep"} <= set(modes)
    assert {"ledger.sqlite-wal", "ledger.sqlite-shm"} < set(modes)
    assert any(name.endswith(".part") for name in modes)


@pytest.mark.fault(157)
def test_floors_of_libraries_with_holes() -> None:
    """The installer asks for no older library than the program itself refuses to run with."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    floors = dict(re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+).*", each).groups() for each in wanted)  # type: ignore[union-attr]
    for name in ("requests", "urllib3"):
        assert tuple(map(int, floors[name].split("."))) >= NEEDED[name]
