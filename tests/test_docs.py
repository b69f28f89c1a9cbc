"""README and its pages against the program: what they list is there, and what is there they list."""

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path

import click
import pytest

from conftest import ROOT, SAMPLES, Ran, table
from importer.cli import cli
from importer.errors import SEVERITY, ExitCode
from importer.formats.catalogue import known_keys
from importer.formats.language import CdrFormat
from importer.records import EventName
from importer.settings.loading import load_settings
from importer.settings.options import OPTIONS
from importer.settings.values import Limit
from importer.watching.metrics import METRICS
from misbehaviour import Simulator
from schemas.vocabulary import RESULT_COLUMNS, Outcome, State
from shipped import FOLDER, commands, shipped

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "schemas/formats/README.md", "sample_data/README.md", "importer/README.md")
}
README, LANGUAGE = PAGES["README.md"], PAGES["schemas/formats/README.md"]
ALL_PAGES = "\n".join(PAGES.values())
NIGHT = ROOT / "sample_data/night"


def section(title: str) -> str:
    """Return the text under one heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README has no section {title}"
    return found[1]


def first_cells(title: str) -> list[str]:
    """Return the first cell of each row of the table in a section."""
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]]


WATCHED = " ".join(first_cells("Watching it"))
RULES = (NIGHT / "cdr-importer.rules.yml").read_text(encoding="utf-8")
BUILT_IN = [path.stem for path in (ROOT / "schemas/formats").glob("*.toml")]
COMMANDS = cli.list_commands(click.Context(cli))


@table(
    ("text", "pattern", "known"),
    [
        (" ".join(first_cells("Commands")), r"(?:^| )`([a-z]+)", COMMANDS),
        (" ".join(first_cells("Options")), r"--([a-z][a-z-]*)", [each.replace("_", "-") for each in OPTIONS]),
        (" ".join(first_cells("Reading the results")), r"`(\w+)`", list(Outcome)),
        (LANGUAGE.partition("**Built in**")[2].partition("\n\n")[0], r"`([a-z0-9-]+)`", BUILT_IN),
        (WATCHED, r"`([a-z_]+\.[a-z_]+)`", list(EventName)),
        (WATCHED, r"`(cdr_importer_[a-z_]+)`", METRICS),
        (README, r"\bcdr_importer_[a-z_]+", METRICS),
    ],
)
def test_lists(text: str, pattern: str, known: Collection[str]) -> None:
    """README lists the commands, options, outcomes, formats, events and metrics that there are, and no other."""
    assert set(re.findall(pattern, text)) == set(known)


def test_words() -> None:
    """README names the results' columns in order and the states, and is short; alerts name metrics there are."""
    assert f"`{','.join(RESULT_COLUMNS)}`" in README
    assert f"({', '.join(State)})" in README.replace("\n", " ")
    assert len(README.splitlines()) <= 450
    in_rules = set(re.findall(r"\bcdr_importer_[a-z_]+", RULES))
    assert (len(in_rules), in_rules - set(METRICS)) == (3, set())
    assert len(SHOWN) == PRINTED.count("<!-- shown by: ") >= 4


def test_every_option_has_its_place() -> None:
    """The pages name every option of every command, and none that is not there; each option has a help text."""
    found = [command for _, command in commands(cli, click.Context(cli))]
    options = [each for command in found for each in command.params if isinstance(each, click.Option)]
    assert [each.opts for each in options if not each.help] == []
    known = {option for command in found for each in command.params for option in each.opts}
    own = {option for option in known if option.startswith("--")} | {"--help", "--version"}
    of_other_programs = {"--collect", "--editable", "--now", "--uid", "--wait"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub("<!--|-->", "", ALL_PAGES)))
    assert own - {"--help", "--version"} - named == set()
    assert named - own - of_other_programs == set()


def test_exit_codes() -> None:
    """README explains every exit code, and no other, and says which wins."""
    listed = {int(code) for cell in first_cells("Exit codes") for code in re.findall(r"\d+", cell)}
    assert {int(code) for code in ExitCode} == listed
    order = re.search(r"The most severe one wins: ([\w, ]+)\.", section("Exit codes"))
    assert order is not None
    assert order[1].replace("a signal", "129, 130, 143") == ", ".join(map(str, SEVERITY))


def test_language_of_formats() -> None:
    """The page on formats explains every key that a format can have, among what it says on adding one."""
    told = LANGUAGE.split("## Adding a format")[1]
    quoted = " ".join(re.findall(r"`[^`]+`", told))
    assert {key for key in known_keys(CdrFormat) if not re.search(rf"\b{key}\b", quoted)} == set()


def test_environment_variables() -> None:
    """Every environment variable that a page names is one the program reads."""
    known = {f"CDR_IMPORTER_{option.upper().replace('-', '_')}" for option in OPTIONS}
    known |= {f"CDR_IMPORTER_{name}" for name in ("CONFIG", "CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")}
    assert set(re.findall(r"(?<!_)CDR_IMPORTER_[A-Z_]*[A-Z]", ALL_PAGES)) <= known


def test_toml_examples() -> None:
    """Every TOML block of the pages is valid TOML."""
    blocks = re.findall(r"```toml\n(.*?)```", ALL_PAGES, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        tomllib.loads(block)


def test_links() -> None:
    """Every link from one page to another leads to a file, and to a heading where it names one."""
    count = 0
    for name, page in PAGES.items():
        for target, anchor in re.findall(r"\]\((?!https:)([^)#]+)#?([^)]*)\)", page):
            path = ((ROOT / name).parent / target).resolve()
            assert path.exists(), f"{name}: {target}"
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in headings}
            assert not anchor or anchor in anchors, f"{name}: {target}#{anchor}"
            count += 1
    assert count > 5


def test_marked_commands() -> None:
    """The two commands that CI takes from README are there, and the second ends with the test runner."""
    blocks = dict(re.findall(r"<!-- command: ([a-z-]+) -->\n```sh\n(.*?)\n```", README, re.DOTALL))
    assert {"main-job", "tests"} == set(blocks)
    assert blocks["tests"].endswith("python -m pytest")


PROGRAM = "/opt/cdr-importer/.venv/bin/cdr-importer"


def parsed(line: str) -> dict[str, object]:
    """Return the options of `import` as click takes them from a recipe's command line."""
    words = shlex.split(line)
    assert words[:2] == [PROGRAM, "import"]
    command = cli.get_command(click.Context(cli), "import")
    assert command is not None
    return command.make_context("import", words[2:], parent=click.Context(cli, **cli.context_settings)).params


def test_crontab_line() -> None:
    """What cron makes of the line is a command that the program takes, with the day in the results' name."""
    found = re.search(r"<!-- recipe: crontab -->\n```crontab\n.*\n(.*)\n```", README)
    assert found is not None
    fields = found[1].split(None, 5)
    assert fields[:5] == ["30", "3", "*", "*", "*"]
    # cron: an escaped % is itself, a bare one would end the command.
    assert not re.search(r"(?<!\\)%", fields[5])
    line = fields[5].replace("\\%", "%").replace(PROGRAM, "printf '%s\\n'")
    done = subprocess.run(["/bin/sh", "-c", line], env={"PATH": "/bin:/usr/bin"}, capture_output=True, text=True)
    words = done.stdout.splitlines()
    assert words[-1] == "/var/spool/cdr/*.csv"
    assert parsed(shlex.join([PROGRAM, *words]))["results"] == f"/var/lib/cdr-importer/results.{date.today()}.csv"


def test_windows_task() -> None:
    """The command that the Windows task runs is one that the program takes."""
    task = (NIGHT / "windows-task.ps1").read_text(encoding="utf-8")
    found = re.search(r'-Argument ".*?--exec (.*?)"', task)
    assert found is not None
    assert parsed(found[1])["files"] == (Path("/mnt/c/cdr/*.csv"),)


def test_night_settings(tmp_path: Path) -> None:
    """The lines for a night job are settings that the program takes."""
    block = re.search(r"```toml\n(log = .*?)```", README, re.DOTALL)
    assert block is not None
    (tmp_path / "config.toml").write_text(block[1])
    settings = load_settings({"config": tmp_path / "config.toml"}, {})
    assert (settings.max_age, settings.min_rows, settings.max_gap) == (93_600, Limit(None, 40.0), 288_000)
    assert settings.max_errors.percent == 20


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_units(tmp_path: Path) -> None:
    """Systemd finds nothing wrong with the units, and the service's command is one that the program takes."""
    service = (NIGHT / "cdr-importer.service").read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=(.*)$", service, re.MULTILINE)
    assert command is not None
    parsed(command[1])
    (tmp_path / "cdr-importer.service").write_text(service.replace(PROGRAM, sys.executable))
    shutil.copy(NIGHT / "cdr-importer.timer", tmp_path)
    units = [tmp_path / "cdr-importer.service", tmp_path / "cdr-importer.timer"]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert [line for line in done.stderr.splitlines() if "cdr-importer" in line] == []


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="no logrotate on this machine")
def test_logrotate_rules(tmp_path: Path) -> None:
    """Logrotate takes the rules and moves the log away."""
    log = tmp_path / "cdr-importer.log"
    log.write_text("one line\n")
    rules = (NIGHT / "cdr-importer.logrotate").read_text(encoding="utf-8")
    rules = rules.replace("/var/log/cdr-importer", str(tmp_path))
    owner, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    rules = rules.replace("su cdr-importer cdr-importer", f"su {owner} {group}")
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "rules").chmod(0o600)
    command = ["logrotate", "--force", "--state", tmp_path / "state", tmp_path / "rules"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (log.exists(), (tmp_path / "cdr-importer.log.1").read_text()) == (False, "one line\n")


PRINTED = README + PAGES["sample_data/README.md"]
SHOWN = re.findall(r"<!-- shown by: (.*?) -->\n```text\n(.*?)```", PRINTED, re.DOTALL)
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")


def settled(text: str, account: Simulator) -> str:
    """Return what was printed with that in place of which a reader has something else."""
    text = text.replace(account.base_url, "https://www.zohoapis.com")
    return RUN_ID.sub(
        "20260302T153000Z-0a1b", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT", "2026-03-02 15:30:00 GMT", text)
    )


@pytest.mark.parametrize(("commands", "shown"), SHOWN, ids=[commands for commands, _ in SHOWN])
def test_shown(
    program: Callable[..., Ran],
    account: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: str,
    shown: str,
) -> None:
    """The last of the commands prints exactly what stands there, run ids, times and hosts aside."""
    (tmp_path / "sample_data").symlink_to(SAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    ran = Ran(0, "", "")
    for command in commands.split(" && "):
        name, *arguments = shlex.split(command)
        assert name == "cdr-importer"
        ran = program(*arguments)

    assert settled(ran.stdout + ran.stderr, account) == shown


def test_shipped_files_are_those_of_the_program() -> None:
    """The files are what `python tests/shipped.py` makes of the help of today, and all go into the wheel."""
    texts = shipped()
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, (
            f"{name}: write it anew, python tests/shipped.py"
        )
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    assert {path for paths in told.values() for path in paths} == {f"importer/share/{name}" for name in texts}


@table(
    "command",
    [
        ("bash", "-n", "bash/cdr-importer"),
        ("zsh", "-n", "zsh/_cdr-importer"),
        ("fish", "-n", "fish/cdr-importer.fish"),
        ("groff", "-man", "-Tutf8", "-ww", "-z", "man/cdr-importer.1"),
        ("mandoc", "-Tlint", "-Werror", "man/cdr-importer.1"),
    ],
)
def test_programs_take_them(command: tuple[str, ...]) -> None:
    """The shells, groff and mandoc find nothing wrong with the files."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    done = subprocess.run([*command[:-1], FOLDER / command[-1]], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bash_completes(tmp_path: Path) -> None:
    """Bash that loads the file completes a command of the program."""
    program = tmp_path / "cdr-importer"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m importer "$@"\n')
    program.chmod(0o700)
    script = f"""source {FOLDER}/bash/cdr-importer; PATH={tmp_path}:$PATH
        COMP_WORDS=(cdr-importer deli) COMP_CWORD=1; _cdr_importer_completion cdr-importer deli cdr-importer
        echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, cwd=ROOT)
    assert done.stdout.split() == ["deliver"], done.stderr
