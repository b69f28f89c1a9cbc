"""The night job as two users: README's recipe as root and service user, and what rights that lack end with."""

import grp
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Ran, call_row, write_export
from importer.ledger.schema import create_ledger
from ledgers import CREATED
from misbehaviour import Simulator

README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVICE = pwd.getpwnam("nobody")
GROUP = grp.getgrgid(SERVICE.pw_gid).gr_name


class Machine:
    """A root folder of its own, a service user, and root."""

    def __init__(self, folder: Path, server: Any, environment: dict[str, str]) -> None:
        self.folder, self.home = folder, folder / "var/lib/cdr-importer"
        self.at = folder
        self._server, self._environment = server, environment

    def run(self, *arguments: str | Path, as_root: bool = False) -> Ran:
        """Run the program as one of the two users, as `sudo -H -u` does."""
        home = self.folder / "root" if as_root else self.home
        with tempfile.NamedTemporaryFile("r") as output:
            job = {
                "arguments": [*map(str, arguments)],
                "environment": {**self._environment, "HOME": str(home)},
                "folder": str(self.at),
                "output": output.name,
                "at": None,
                "user": None if as_root else (SERVICE.pw_uid, SERVICE.pw_gid),
            }
            code = self._server.wait(self._server.start(job))
            said = output.read()
        return Ran(code, said, said)

    def shell(self, line: str) -> None:
        """Run a line of the recipe as root."""
        subprocess.run(["/bin/sh", "-ec", line], check=True, timeout=60)

    def recipe(self) -> None:
        """Follow README's recipe line by line, but for what installs, makes the user and signs in."""
        found = re.search(r"<!-- recipe: users -->\n```sh\n(.*?)```", README, re.DOTALL)
        assert found is not None
        for line in found[1].splitlines()[3:]:
            line = line.replace("-o cdr-importer -g cdr-importer", f"-o {SERVICE.pw_name} -g {GROUP}")
            line = line.replace("-g cdr-importer", f"-g {GROUP}")
            line = re.sub(r" (/var|/etc)/", rf" {self.folder}\1/", line)
            program = "sudo -H -u cdr-importer cdr-importer "
            if not line.startswith(program):
                self.shell(line)
            elif "auth login" not in line:
                ran = self.run(*line.removeprefix(program).split())
                assert ran.code == 0, (line, ran.stderr)


@pytest.fixture
def machine(simulator: Simulator, server: Any) -> Iterator[Machine]:
    """Return a machine on which both users can come to the program and the simulator."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("", "root", "var", "var/lib", "var/log", "etc"):
            (folder / each).mkdir(exist_ok=True)
            (folder / each).chmod(0o755)
        yield Machine(folder, server, simulator.environment())


@pytest.mark.slow
def test_recipe(machine: Machine, simulator: Simulator) -> None:
    """After README's recipe the service's user sends a call; root is refused, and breaks no later night."""
    machine.recipe()
    config = machine.folder / "etc/cdr-importer/cdr-importer.toml"
    log = machine.folder / "var/log/cdr-importer/cdr-importer.log"
    with config.open("a") as stream:
        stream.write(f'log = "{log}"\nmetrics = "{machine.folder}/var/lib/prometheus/node-exporter/cdr.prom"\n')
    export = write_export(machine.folder / "export.csv", [call_row(1)])
    export.chmod(0o644)
    night = ("import", "--yes", "--config", config, "--results", machine.home / "results.csv", export)
    ran = machine.run(*night)
    assert (ran.code, len(simulator.accepted)) == (0, 1), ran.stderr
    before = {path: path.lstat().st_uid for path in (*machine.home.rglob("*"), log)}
    for command in (("status",), ("deliver",)):
        ran = machine.run(*command, "--config", config, as_root=True)
        said = "belongs to nobody" in ran.stderr and "sudo -H -u nobody ..." in ran.stderr
        assert (ran.code, said) == (78, True), ran.stderr
    assert "auth login" not in machine.run("doctor", "--config", config, as_root=True).stdout
    assert {path: path.lstat().st_uid for path in (*machine.home.rglob("*"), log)} == before
    machine.at = machine.folder / "root"  # where `sudo` leaves the user
    machine.at.chmod(0o700)
    assert machine.run("deliver", "--config", config).code == 0
    assert len([*machine.home.glob("cdr-importer.results-*.csv")]) == 1
    assert machine.run("status", "--config", config).code == 0


def test_place_that_cannot_be_looked_at(machine: Machine) -> None:
    """A config, ledger or home that a user cannot look at is 78, naming the place, its owner and the user."""
    closed = machine.folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "own.toml").touch()
    create_ledger(closed / "ledger.sqlite", now=CREATED)
    said = f"{closed} belongs to root (mode 0700), and nobody runs this"
    for code, command in (
        (78, ("status", "--config", closed / "own.toml")),
        (78, ("status", "--ledger", closed / "ledger.sqlite")),
        (66, ("detect", closed / "export.csv", closed / "*.csv")),
    ):
        ran = machine.run(*command)
        assert (ran.code, said in ran.stderr) == (code, True), (command, ran.stderr)
    (machine.folder / "etc/causes").mkdir(mode=0o700)
    (machine.folder / "etc/own.toml").touch(mode=0o644)
    ran = machine.run("formats", "--config", machine.folder / "etc/own.toml")
    assert (ran.code, "etc/causes belongs to root (mode 0700)" in ran.stderr) == (78, True), ran.stderr
    machine.home = closed  # as without -H
    ran = machine.run("formats")
    assert (ran.code, said in ran.stderr) == (78, True), ran.stderr


def test_export_that_cannot_be_read(machine: Machine) -> None:
    """An export of root's own is 66 and named with its owner; the others go through."""
    for number, mode in enumerate((0o644, 0o600)):
        write_export(machine.folder / f"{number}.csv", [call_row(number)]).chmod(mode)
    exports = machine.folder / "0.csv", machine.folder / "1.csv"
    machine.at = machine.folder / "own"
    machine.at.mkdir()
    shutil.chown(machine.at, SERVICE.pw_uid)
    ran = machine.run("check", *exports)
    assert (ran.code, ran.summary()["would_send"]) == (66, "1"), ran.stderr
    assert f"{exports[1]} belongs to root (mode 0600), and nobody runs this" in ran.stderr


@pytest.mark.slow
def test_results_elsewhere(machine: Machine) -> None:
    """Where nothing can be written beside the input, the results' other place and the reason are said."""
    (machine.folder / "own").mkdir()
    shutil.chown(machine.folder / "own", SERVICE.pw_uid)
    export = write_export(machine.folder / "export.csv", ["half a row"])
    export.chmod(0o644)
    machine.at = machine.folder / "own"
    ran = machine.run("check", export)
    said = (
        f"nothing is written beside the input: {machine.folder} belongs to root (mode 0755), and nobody runs this."
    )
    assert (ran.code, said in " ".join(ran.stderr.split()), len([*machine.at.iterdir()])) == (3, True, 1), (
        ran.stderr
    )
    export.write_text("a,b\n1,2\n")  # no format's: nothing is read, and no results are left
    ran = machine.run("check", export)
    assert (ran.code, "beside the input" in ran.stderr, len([*machine.at.iterdir()])) == (65, False, 1), ran.stderr


@pytest.mark.slow
def test_ledger_in_a_folder_of_root(machine: Machine) -> None:
    """A folder of root in which the service's user cannot write is named with its owner, and the exit is 74."""
    folder = machine.folder / "var/lib"
    create_ledger(folder / "ledger.sqlite", now=CREATED)
    for path in folder.glob("ledger.sqlite*"):
        shutil.chown(path, SERVICE.pw_uid)
    (folder / "ledger.sqlite.lock").unlink()
    machine.home = machine.folder / "nothing"
    ran = machine.run("deliver", "--ledger", folder / "ledger.sqlite", "--results", "/dev/shm/never.csv")
    assert (ran.code, f"{folder} belongs to root (mode 0755), and nobody runs this" in ran.stderr) == (74, True)
