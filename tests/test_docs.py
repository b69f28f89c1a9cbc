"""README against the program: every command, option, exit code, outcome, column and format it lists is there."""

import re
import tomllib

import click
import pytest

from expected import ROOT
from importer.cli import cli
from importer.errors import ExitCode
from importer.formats import CdrFormat
from importer.formats.faults import known_keys
from importer.settings import OPTIONS
from schemas.vocabulary import RESULT_COLUMNS, Outcome, State

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the text under one heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README has no section {title}"
    return found[1]


def first_cells(title: str) -> list[str]:
    """Return the first cell of each row of the table in a section."""
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]]


def test_commands() -> None:
    """README lists the commands the program has, and no other."""
    listed = {re.match(r"`([a-z]+)", cell)[1] for cell in first_cells("Commands")}  # type: ignore[index]

    assert set(cli.list_commands(click.Context(cli))) == listed


def test_options() -> None:
    """README lists the options that settings know, and no other but --config."""
    listed = set(re.findall(r"--([a-z][a-z-]*)", " ".join(first_cells("Options"))))

    assert {option.replace("_", "-") for option in OPTIONS} == listed


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_options_of_commands(name: str) -> None:
    """Every option of a command that comes from the settings has a help text and a place in README."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


def test_exit_codes() -> None:
    """README explains every exit code, and no other."""
    listed = {int(code) for cell in first_cells("Exit codes") for code in re.findall(r"\d+", cell)}

    assert {int(code) for code in ExitCode} == listed


def test_outcomes() -> None:
    """README explains every outcome, and no other."""
    listed = {cell.strip("`") for cell in first_cells("Reading the results")}

    assert {outcome.value for outcome in Outcome} == listed


def test_result_columns() -> None:
    """README names the columns of the results file in their order."""
    assert f"`{','.join(RESULT_COLUMNS)}`" in README


def test_states() -> None:
    """README names the six states."""
    assert f"({', '.join(State)})" in README.replace("\n", " ")


def test_formats() -> None:
    """README names every built-in format."""
    listed = set(re.findall(r"`([a-z0-9-]+)`", section("Formats").split(";")[0]))

    assert {path.stem for path in (ROOT / "schemas/formats").glob("*.toml")} == listed


def test_language_of_formats() -> None:
    """README explains every key that a format can have, among what it says on adding one."""
    told = section("Formats").split("### Adding a format")[1]

    quoted = " ".join(re.findall(r"`[^`]+`", told))
    assert {key for key in known_keys(CdrFormat) if not re.search(rf"\b{key}\b", quoted)} == set()


def test_environment_variables() -> None:
    """Every environment variable that README names is one the program reads."""
    known = {f"CDR_IMPORTER_{option.upper().replace('-', '_')}" for option in OPTIONS}
    known |= {f"CDR_IMPORTER_{name}" for name in ("CONFIG", "CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")}

    assert set(re.findall(r"CDR_IMPORTER_[A-Z_]*[A-Z]", README)) <= known


def test_toml_examples() -> None:
    """Every TOML block of README is valid TOML."""
    for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL):
        tomllib.loads(re.sub(r"^   ", "", block, flags=re.MULTILINE))


def test_marked_commands() -> None:
    """The two commands that CI takes from README are there, and the second ends with the test runner."""
    blocks = dict(re.findall(r"<!-- command: ([a-z-]+) -->\n```sh\n(.*?)\n```", README, re.DOTALL))

    assert {"main-job", "tests"} == set(blocks)
    assert blocks["tests"].endswith("python -m pytest")
