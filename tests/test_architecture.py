"""The house's own rules, read from the source: who imports whom, who prints, how long a function may be."""

import ast
import functools
import re
import sys
from collections.abc import Iterator

from conftest import ROOT

ORDER = (
    *("errors", "private_files", "requirements", "records", "settings", "processes", "files", "formats"),
    *("reading", "prepare", "ledger", "pacing", "auth", "client", "results", "report", "pipeline", "watching"),
    *("setup", "cli"),
)
LONGEST_FUNCTION_LINES = 60
MOST_PARAMETERS = 6

PAGE = (ROOT / "importer/README.md").read_text(encoding="utf-8")

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


@functools.cache
def imported(source: str) -> list[str]:
    """Return the dotted names that a file imports anywhere, also inside functions."""
    names = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_order_is_the_one_the_front_door_tells() -> None:
    """The docstring of `importer` names the modules in the order tested here."""
    told = re.sub(r"\s+", " ", ast.get_docstring(parsed("importer/__init__.py")) or "")
    listed = re.search(r"in this order: ([a-z_, ]+);", told)
    assert listed is not None
    assert listed[1].split(", ") == [name for name in ORDER if name in listed[1].split(", ")]
    others = {module_of(source) for source in WITH_MODULES} - {*listed[1].split(", ")}
    assert others == {"", "__main__", "simulator"}


def test_imports_point_down() -> None:
    """A module of `importer` imports only modules above it in the order; the simulator none at all."""
    for source in WITH_MODULES:
        mine = module_of(source)
        names = {name.split(".")[1] for name in imported(source) if name.startswith("importer.")}
        allowed = {mine, "__version__", *(ORDER[: ORDER.index(mine)] if mine in ORDER else ())}
        if mine in ("cli", "__main__"):
            allowed |= {"cli", "simulator"}
        assert names <= allowed, source


def test_simulator_stands_alone() -> None:
    """The simulator uses the standard library and itself: client and simulator cannot share a mistake."""
    for source in (source for source in SOURCES if source.startswith("importer/simulator/")):
        foreign = {name.split(".")[0] for name in imported(source)} - sys.stdlib_module_names - {"importer"}
        assert foreign == set(), source
        own = [name for name in imported(source) if name.startswith("importer")]
        assert all(name.startswith("importer.simulator") for name in own), source


def test_schemas_know_nothing_of_the_importer() -> None:
    """`schemas` never imports `importer`, and its vocabulary imports the standard library only."""
    for source in (source for source in SOURCES if source.startswith("schemas/")):
        assert "importer" not in {name.split(".")[0] for name in imported(source)}, source
    assert {name.split(".")[0] for name in imported("schemas/vocabulary.py")} <= sys.stdlib_module_names


def test_only_the_command_line_prints_or_exits() -> None:
    """print, click.echo and sys.exit stand in `cli` only, TYPE_CHECKING nowhere."""
    printing = {"print", "click.echo", "sys.exit", "exit", "quit", "sys.stdout.write", "sys.stderr.write"}
    for source in SOURCES:
        names = {ast.unparse(node.func) for node in ast.walk(parsed(source)) if isinstance(node, ast.Call)}
        allowed = {"importer/cli/output.py": printing, "importer/cli/app.py": {"click.echo", "sys.exit"}}
        allowed["importer/__main__.py"] = {"sys.stderr.write", "sys.exit"}  # where `cli` is not loaded yet
        assert not names & printing - allowed.get(source, set()), source
        assert "typing.TYPE_CHECKING" not in imported(source), source


def test_only_the_client_speaks_to_the_api() -> None:
    """The API's path and token scheme stand in `client` and `simulator` only; certificates count always."""
    for source in SOURCES:
        code = re.sub(r'""".*?"""|#[^\n]*', "", (ROOT / source).read_text(encoding="utf-8"), flags=re.DOTALL)
        if not source.startswith(("importer/client/", "importer/simulator/")):
            assert not re.search(r"v3/callnotify|Zoho-oauthtoken", code), source
        unsafe = r"(verify|check_hostname|assert_hostname)\s*=\s*(False|None)|CERT_NONE|CERT_OPTIONAL"
        assert not re.search(f"{unsafe}|_unverified_context|InsecureRequestWarning|disable_warnings", code), source


def test_functions_are_short_and_take_few_parameters() -> None:
    """No function is longer than 60 lines or takes more than six parameters."""
    for source in SOURCES:
        for each in (node for node in ast.walk(parsed(source)) if isinstance(node, ast.FunctionDef)):
            assert (each.end_lineno or 0) - each.lineno < LONGEST_FUNCTION_LINES, f"{source}: {each.name}"
            names = [one.arg for one in (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs)]
            assert len({*names} - {"self", "cls"}) <= MOST_PARAMETERS, f"{source}: {each.name}"


def defined(source: str) -> set[str]:
    """Return what a file defines: functions, classes and constants, members as `Class.member`."""

    def names(body: list[ast.stmt], owner: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield owner + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{owner}{node.name}.")
            elif isinstance(node, ast.Assign):
                yield from (owner + each.id for each in node.targets if isinstance(each, ast.Name))

    return {*names(parsed(source).body)}


def test_page_names_what_is_there() -> None:
    """Every path on the page of the house exists, and every name behind a colon is defined in that file."""
    named = re.findall(r"`([a-z_]+/[\w./]*|\w+\.py)(?::([\w.]+))?`", PAGE)
    assert len(named) > 40
    assert len(named) == len(re.findall(r"`[^`\n ]*(?:/|\.py)[^`\n ]*`", PAGE)), "one is not read"
    for path, name in named:
        places = [place for place in (path, f"importer/{path}") if (ROOT / place).exists()]
        assert places, path
        assert not name or name in defined(places[0]), f"{path}:{name}"


def test_page_shows_the_whole_house() -> None:
    """The picture names every module directly under `importer`, and the page has at most 80 lines."""
    picture = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    assert {module_of(source) for source in WITH_MODULES} - {"", "__main__"} <= {*re.findall(r"\w+", picture[1])}
    assert len(PAGE.splitlines()) <= 80
    behaviours = re.findall(r"^\| .* \|$", PAGE, re.MULTILINE)[1:]
    assert len(behaviours) == 13
