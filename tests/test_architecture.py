"""The house's own rules, read from the source: who imports whom, who prints, how long a function may be."""

import ast
import functools
import re
import sys
from collections.abc import Iterator

import pytest

from conftest import ROOT

ORDER = (
    "errors",
    "private_files",
    "events",
    "requirements",
    "records",
    "steps",
    "settings",
    "files",
    "formats",
    "reading",
    "prepare",
    "ledger",
    "pacing",
    "auth",
    "client",
    "deliver",
    "results",
    "report",
    "pipeline",
    "monitoring",
    "setup",
    "cli",
)
LONGEST_FUNCTION_LINES = 60
MOST_PARAMETERS = 6
TAKES_MORE_PARAMETERS: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}

SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("importer", "schemas")
    for path in (ROOT / folder).rglob("*.py")
)
WITH_MODULES = [source for source in SOURCES if source.split("/")[0] == "importer" and len(source.split("/")) > 1]


@functools.cache
def parsed(source: str) -> ast.Module:
    """Return a source file's tree."""
    return ast.parse((ROOT / source).read_text(encoding="utf-8"))


def module_of(source: str) -> str:
    """Return the module or package directly under `importer` that a file belongs to; empty for its own front."""
    name = source.split("/")[1].removesuffix(".py")
    return "" if name == "__init__" else name


def imported(source: str) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, also inside functions and by ``__import__`` tables."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(source: str) -> Iterator[ast.FunctionDef]:
    """Yield every function of a file."""
    yield from (node for node in ast.walk(parsed(source)) if isinstance(node, ast.FunctionDef))


def test_order_is_the_one_the_front_door_tells() -> None:
    """The docstring of `importer` names the modules in the order tested here."""
    told = re.sub(r"\s+", " ", ast.get_docstring(parsed("importer/__init__.py")) or "")
    listed = re.search(r"in this order: ([a-z_, ]+);", told)
    assert listed is not None
    assert listed[1].split(", ") == [name for name in ORDER if name in listed[1].split(", ")]
    assert {module_of(source) for source in WITH_MODULES} - {*listed[1].split(", ")} == {
        "",
        "__main__",
        "simulator",
    }


@pytest.mark.parametrize("source", WITH_MODULES)
def test_imports_point_down(source: str) -> None:
    """A module of `importer` imports only modules above it in the order; the simulator none at all."""
    mine = module_of(source)
    names = {name.split(".")[1] for name in imported(source) if name.startswith("importer.")} - {
        mine,
        "__version__",
    }
    allowed: set[str] = set()
    if mine in ORDER:
        allowed = set(ORDER[: ORDER.index(mine)])
    if mine in ("cli", "__main__"):
        allowed |= {"cli", "simulator"}
    assert names <= allowed


@pytest.mark.parametrize("source", [source for source in SOURCES if source.startswith("importer/simulator/")])
def test_simulator_stands_alone(source: str) -> None:
    """The simulator uses the standard library and itself: client and simulator cannot share a mistake."""
    names = list(imported(source))
    foreign = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names | {"importer"}}
    assert foreign == set()
    assert all(name.startswith("importer.simulator") for name in names if name.startswith("importer"))


@pytest.mark.parametrize("source", [source for source in SOURCES if source.startswith("schemas/")])
def test_schemas_know_nothing_of_the_importer(source: str) -> None:
    """`schemas` never imports `importer`."""
    assert not [name for name in imported(source) if name.split(".")[0] == "importer"]


def test_vocabulary_is_light() -> None:
    """The vocabulary imports the standard library only."""
    assert {name.split(".")[0] for name in imported("schemas/vocabulary.py")} <= sys.stdlib_module_names


@pytest.mark.parametrize("source", SOURCES)
def test_only_the_command_line_prints_or_exits(source: str) -> None:
    """print, click.echo and sys.exit stand in `cli` only, TYPE_CHECKING nowhere."""
    names = {ast.unparse(node.func) for node in ast.walk(parsed(source)) if isinstance(node, ast.Call)}
    if not source.startswith("importer/cli/"):
        assert not names & {
            "print",
            "click.echo",
            "sys.exit",
            "exit",
            "quit",
            "sys.stdout.write",
            "sys.stderr.write",
        }
    assert not [name for name in imported(source) if name == "typing.TYPE_CHECKING"]


@pytest.mark.parametrize("source", SOURCES)
def test_only_the_client_speaks_to_the_api(source: str) -> None:
    """The API's path and token scheme stand in `client` and `simulator` only; certificates count always."""
    code = re.sub(r'""".*?"""|#[^\n]*', "", (ROOT / source).read_text(encoding="utf-8"), flags=re.DOTALL)
    if not source.startswith(("importer/client/", "importer/simulator/")):
        assert not re.search(r"v3/callnotify|Zoho-oauthtoken", code)
    assert not re.search(r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False", code)


@pytest.mark.parametrize("source", SOURCES)
def test_functions_are_short(source: str) -> None:
    """No function is longer than 60 lines, but for those listed with a reason."""
    long = {
        f"{source}:{each.name}": each.end_lineno - each.lineno + 1
        for each in functions(source)
        if each.end_lineno is not None and each.end_lineno - each.lineno >= LONGEST_FUNCTION_LINES
    }
    assert {name: lines for name, lines in long.items() if name not in LONGER_FUNCTIONS} == {}


@pytest.mark.parametrize("source", SOURCES)
def test_functions_take_few_parameters(source: str) -> None:
    """No function takes more than six parameters, but for those listed with a reason."""
    many = {}
    for each in functions(source):
        names = [one.arg for one in (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MOST_PARAMETERS:
            many[f"{source}:{each.name}"] = count
    assert {name: count for name, count in many.items() if name not in TAKES_MORE_PARAMETERS} == {}


def test_exceptions_to_the_rules_are_still_needed() -> None:
    """A function listed as an exception is still there."""
    known = {f"{source}:{each.name}" for source in SOURCES for each in functions(source)}
    assert known >= TAKES_MORE_PARAMETERS.keys() | LONGER_FUNCTIONS.keys()
