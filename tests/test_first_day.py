"""The first day of a new user, at a terminal: set up, sign in, look, send, and run again from cron."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import ROOT, call_row, read_results, write_export
from terminal import Terminal

ANSWERS = {
    "data centre": "",
    "Time zone": "Europe/London",
    "Region": "GB",
    "Agents file, such as agents.csv (empty: none)": "agents.csv",
    "Make it, to be completed? [y/N]": "y",
    "Name of this telephone system": "",
    "At most so many calls": "1000/second",
    "Ledger": "",
}


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Return the environment of somebody who has never used the program."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}


@pytest.fixture
def sandbox(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Start `sandbox` as a program of its own, and return the lines it prints."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Stop it"):
            lines.append(process.stdout.readline())
        yield lines
        process.terminate()


def told(lines: list[str], name: str) -> str:
    """Return the value of a variable that the sandbox names."""
    found = re.search(rf"CDR_IMPORTER_{name}=(\S+)", "".join(lines))
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_first_day(sandbox: list[str], environment: Mapping[str, str], tmp_path: Path) -> None:
    """From nothing to a report: `init`, `auth login`, `users`, `import`, `report`, and a silent night."""
    base = told(sandbox, "API_URL")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    rows = [call_row(number, start_time=f"{yesterday:%Y-%m-%d %H:%M}:{number:02}") for number in (1, 2, 3)]
    export = write_export(tmp_path / "export.csv", rows)

    def at_terminal(*arguments: str | Path) -> Terminal:
        return Terminal(arguments, environment, tmp_path)

    init = at_terminal("init", "--accounts-url", base, "--api-url", base)
    init.answer(ANSWERS)
    assert init.finish() == 0, init.shown
    login = at_terminal("auth", "login")
    login.expect("Client id: ")
    login.type(told(sandbox, "CLIENT_ID"))
    login.expect("Client secret: ")
    login.type(told(sandbox, "CLIENT_SECRET"))
    login.expect("Code: ")
    with urllib.request.urlopen(f"{base}/sandbox/code") as answered:
        login.type(answered.read().decode().strip())
    assert login.finish() == 0, login.shown
    assert told(sandbox, "CLIENT_SECRET") not in login.shown
    users = at_terminal("users", "--write", "todo.csv")
    assert users.finish() == 0, users.shown
    refused = at_terminal("import", export)
    refused.expect("Send them? [y/N]: ")
    refused.type("n")
    assert refused.finish() == 130, refused.shown
    sent = at_terminal("import", "--results", "out.csv", export)
    sent.expect("About to notify 3 calls to Zoho")
    sent.expect("Send them? [y/N]: ")
    sent.type("y")
    assert sent.finish() == 0, sent.shown
    assert [row["outcome"] for row in read_results(tmp_path / "out.csv")] == ["accepted"] * 3
    report = at_terminal("report", "out.csv")
    assert report.finish() == 0, report.shown
    assert "</html>" in (tmp_path / "out.csv.html").read_text(encoding="utf-8")
    for terminal in (init, login, users, refused, sent, report):
        lines = [line for line in terminal.lines() if str(tmp_path) not in line and not line.startswith("rows=")]
        assert max(map(len, lines)) <= 80, terminal.shown
    cron = [sys.executable, "-m", "importer", "import", "--results", "night.csv", str(export)]
    night = subprocess.run(cron, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (night.returncode, night.stdout, night.stderr) == (0, "", "")
