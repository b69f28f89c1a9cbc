"""All formats and cause tables known to this run: the built-in ones and the user's own, checked when loaded.

What is wrong with a file of the user's is said with file, line, key, value, rule and what to do.
"""

import difflib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import tomli
from pydantic import BaseModel, ValidationError

from importer.errors import ConfigurationError, UsageError
from importer.formats.language import BUILT_IN, CauseTable, CdrFormat, LookAlike, word_key
from importer.private_files import open_small, why
from schemas.vocabulary import Verdict, counted

Model = TypeVar("Model", bound=BaseModel)

DIRECTIVES = {*Verdict, "next"}
"""What a word of a format may mean: a verdict, or hand the row to the next rule."""

LONGEST_LINE = 160

RESERVED_NAMES = frozenset({"list", "new", "test"})
"""Words that `cdr-importer formats` takes for itself."""

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of tables, and positions in lists from 0."""

SHOWN_CHARACTERS = 60
SEE_README = "See `Adding a format` in schemas/formats/README.md."
OPEN_POINT = re.compile(r"\bTODO\b")


@dataclass(frozen=True, slots=True)
class TomlText:
    """A TOML file as it stands; ``name`` is what messages call it."""

    name: str
    text: str

    def parsed(self) -> dict[str, Any]:
        """Return its tables; raises ConfigurationError where it is not TOML."""
        try:
            return tomli.loads(self.text)
        except (ValueError, RecursionError) as error:  # also for numbers and tables beyond the parser's limits
            fault, _, place = str(error).partition(" (at ")
            where = re.match(r"line \d+", place)
            raise ConfigurationError(
                f"{self.name}:{f' {where[0]}:' if where else ''} not valid TOML: {fault}",
                hint="Mend the line: texts stand in quotes, and one key has one line.",
            ) from error

    def fault(self, path: KeyPath, message: str, hint: str = SEE_README) -> ConfigurationError:
        """Return an error for the value at ``path``: ``message`` holds value and rule, ``hint`` what to do.

        It names the line where the value, or the table it should stand in, begins.
        """
        lines = self.text.split("\n")
        begins, deepest = 1, 0
        found: tuple[int, int] | None = None
        for ends in range(1, len(lines) + 1):
            # The first lines of a TOML file are TOML again, except in the middle of a value.
            try:
                tables = tomli.loads("\n".join(lines[:ends]))
            except tomli.TOMLDecodeError:
                continue
            depth = _reached(path, tables)[0]
            if depth > deepest:
                found, deepest = (begins, ends), depth
            if deepest == len(path):
                break
            begins = ends + 1
        place = ""
        if found is not None:
            # Of several lines the one on which the value is written, else the first.
            value = _reached(path, self.parsed())[1]
            numbers = range(found[0], found[1] + 1) if isinstance(value, str) and value else ()
            holding = [number for number in numbers if value in lines[number - 1]]
            place = f" line {holding[0] if len(holding) == 1 else found[0]},"
        # Tables of a list are counted from 1, as a person counts them.
        key = ".".join(str(part + 1) if isinstance(part, int) else part for part in path) or "(whole file)"
        return ConfigurationError(f"{self.name}:{place} key {key}: {message}", hint=hint)

    def fault_of(self, error: ValidationError, model: type[BaseModel]) -> ConfigurationError:
        """Return the first fault that pydantic found."""
        first = error.errors(include_url=False)[0]
        path: KeyPath = first["loc"]
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("tuple", "list")
        value = first["input"]
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), known_keys(model), n=1)
            meant = f"Did you mean `{near[0]}`? " if near else ""
            if "policies" in path or path[-1] in ("outside_prefix", "extension"):
                meant = "It stands in the configuration file, in a table [policies.NAME] of the format's name. "
            return self.fault(path, "this key is not known", f"{meant}{SEE_README}")
        if first["type"] == "missing":
            return self.fault(path, "this key is required and missing", f"Add it. {SEE_README}")
        if first["type"] == "value_error" and not path:
            # Only the tables together show it; what the text names in quotes is the place.
            named = re.search(r"'([^']+)'", message)
            tables = self.parsed()
            path = next(_places_of(named[1], tables), ()) if named else ()
            columns = [name for part in _COLUMN_TABLES for name in tables.get(part, {})]
            columns += tables.get("file", {}).get("columns", {})
            columns += [name for layout in tables.get("layouts", ()) for name in layout.get("columns", ())]
            near = difflib.get_close_matches(named[1], columns, n=1) if named and path else []
            meant = f"Did you mean `{near[0]}`? " if near else ""
            read = f"Columns here: {', '.join(columns)}. " if path else ""
            return self.fault(path, message, f"{meant}{read}{SEE_README}")
        is_named = repr(value) in message or (first["type"] == "value_error" and message.startswith(f"{value} "))
        if isinstance(value, str | int | float) and not is_named:
            message = f"{repr(value)[:SHOWN_CHARACTERS]}: {message}"
        return self.fault(path, message)

    def open_points(self) -> list[tuple[int, str]]:
        """Return line and text of every place that a draft marks with the word TODO."""
        lines = enumerate(self.text.split("\n"), start=1)
        return [(number, line.strip()) for number, line in lines if OPEN_POINT.search(line)]


def known_keys(model: type[BaseModel]) -> set[str]:
    """Return every key that a file of this kind may have, at whatever depth."""
    schema = model.model_json_schema()
    return {key for table in (schema, *schema.get("$defs", {}).values()) for key in table.get("properties", {})}


def _reached(path: KeyPath, tables: Any) -> tuple[int, Any]:
    """Return how many parts of a path are there, and the value at the last of them."""
    for depth, part in enumerate(path):
        is_key = isinstance(tables, dict) and part in tables
        is_place = isinstance(tables, list) and isinstance(part, int) and part < len(tables)
        if not (is_key or is_place):
            return depth, tables
        tables = tables[part]
    return len(path), tables


_COLUMN_TABLES = ("columns", "optional_columns", "derived")
_SAY_NO_COLUMN = ("name", "title", "certainty", "notes", "words", "columns", "optional_columns")


def _places_of(name: str, tables: dict[str, Any]) -> Iterator[KeyPath]:
    """Yield where a column is named: as a value, or as the key of a condition."""
    waiting: list[tuple[KeyPath, Any]] = [((), tables)]
    while waiting:
        path, value = waiting.pop(0)
        if value == name or (path and path[-1] == name):
            yield path
        if isinstance(value, list):
            waiting += [((*path, place), each) for place, each in enumerate(value)]
        if isinstance(value, dict):
            skipped: Sequence[str] = _SAY_NO_COLUMN if not path else ("words",)
            waiting += [((*path, key), each) for key, each in value.items() if key not in skipped]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Formats and cause tables by name; ``own`` and ``own_causes`` name those that the user's folder has.

    ``lookalikes`` are kinds of export without calls, which are refused by name.
    """

    formats: Mapping[str, CdrFormat]
    causes: Mapping[str, CauseTable]
    own: frozenset[str] = frozenset()
    lookalikes: tuple[LookAlike, ...] = ()
    own_causes: frozenset[str] = frozenset()

    def candidates(self, name: str | None) -> list[CdrFormat]:
        """Return the format of this name alone, all without one; raises as `pick`."""
        return [self.pick(name)] if name else [*self.formats.values()]

    def pick(self, name: str) -> CdrFormat:
        """Return the format of this name, or the one in the ``.toml`` file of this path.

        Raises UsageError for an unknown name, ConfigurationError for a file that breaks a rule.
        """
        if name.endswith(".toml"):
            return load_format(Path(name), self.causes)
        if name not in self.formats:
            near = difflib.get_close_matches(name, self.formats, n=3)
            meant = f"Did you mean {' or '.join(near)}? " if near else ""
            raise UsageError(
                f"--format: there is no format {name!r}", hint=f"{meant}`cdr-importer formats` lists them all."
            )
        return self.formats[name]


def user_folder() -> Path:
    """Return the folder whose ``formats/*.toml`` and ``causes/*.toml`` are the user's own."""
    return platformdirs.user_config_path("cdr-importer")


def own_folders(config: Path | None) -> tuple[Path, ...]:
    """Return the folders of own formats: `user_folder`, and the config file's own, which outranks it."""
    beside = () if config is None else (config.resolve().parent,)  # README's night has a link to it
    return tuple({folder.resolve(): folder for folder in (user_folder(), *beside)}.values())


def own_files(folders: Iterable[Path], kind: str) -> list[Path]:
    """Return the user's own files of a kind, `formats` or `causes`, in the order in which they are read."""
    found: list[Path] = []
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError):  # `glob` passes over what cannot be looked at
            found += sorted(path for path in (folder / kind).iterdir() if path.suffix == ".toml")
    return found


def load_catalogue(config: Path | None = None, *folders: Path) -> Catalogue:
    """Load the built-in formats and cause tables, and the user's own of these folders, else of `own_folders`.

    Words of an own cause table outrank those of a table of the same name before it, which keeps its others.

    Raises ConfigurationError naming file, key and rule for the first file that breaks one.
    """
    folders = folders or own_folders(config)
    shipped_causes, shipped_formats, lookalikes = _shipped()
    causes = {table.name: table for table in shipped_causes}
    own_causes = own_files(folders, "causes")
    for path in own_causes:
        file = _own_file(path)
        table = _checked(file, CauseTable)
        if table.name not in ("", path.stem):
            raise file.fault(("name",), f"{table.name!r} is not the name of the file", "Take the line out.")
        keys: dict[str, str] = {}
        for word in table.words:
            if (other := keys.setdefault(word_key(word), word)) != word:
                fault = f"the same word as {other!r}, since case, spaces, - and _ do not count"
                raise file.fault(("words", word), fault, "Leave one of the two lines.")
        below = causes.get(path.stem, table)
        words = {**table.words, **below.words, **table.words}  # its own words come first
        causes[path.stem] = CauseTable(name=path.stem, title=table.title or below.title, words=words)
    formats = {cdr_format.name: cdr_format for cdr_format in shipped_formats}
    own: dict[str, CdrFormat] = {}
    for path in own_files(folders, "formats"):
        cdr_format = load_format(path, causes)
        if cdr_format.name in formats or cdr_format.name in own:
            fault = f"the format name {cdr_format.name!r} is taken"
            raise _own_file(path).fault(("name",), fault, "Give the format of your own another name.")
        own[cdr_format.name] = cdr_format
    names = frozenset(path.stem for path in own_causes)
    return Catalogue({**formats, **own}, causes, frozenset(own), lookalikes, names)


def systems_of(formats: Iterable[CdrFormat]) -> dict[str, tuple[str, str]]:
    """Return by format its telephone system, if it names one, and the column of `system_id` as shown, else ""."""
    calls = [(each, each.call.system, each.call.system_id) for each in formats]
    return {each.name: (system, each.shown(name) if name else "") for each, system, name in calls if system}


def load_format(path: Path, causes: Mapping[str, CauseTable]) -> CdrFormat:
    """Load one format file of the user's and check it against the cause tables.

    Raises ConfigurationError naming file, line, key and rule for its first fault, or all open points of a draft.
    """
    file = _own_file(path)
    if points := file.open_points():
        raise ConfigurationError(
            f"{file.name} is a draft: {counted(len(points), 'open point')}",
            hint="Settle each and delete the word TODO; nothing is guessed:",
            lines=tuple(f"line {number}: {text[:LONGEST_LINE]}" for number, text in points),
        )
    cdr_format = _checked(file, CdrFormat)
    if cdr_format.name in RESERVED_NAMES:
        raise file.fault(("name",), f"{cdr_format.name!r} is a command of `cdr-importer formats`", "Rename it.")
    for number, rule in enumerate(cdr_format.outcome):
        if rule.table is not None and rule.table not in causes:
            near = difflib.get_close_matches(rule.table, causes, n=1)
            hint = f"{f'Did you mean {near[0]}? ' if near else ''}Known cause tables: {', '.join(sorted(causes))}."
            raise file.fault(("outcome", number, "table"), f"there is no cause table {rule.table!r}", hint)
        for word, directive in rule.words.items():
            if directive not in DIRECTIVES:
                hint = f"Use one of: {', '.join(sorted(DIRECTIVES))}."
                raise file.fault(("outcome", number, "words", word), f"{directive!r} is not a verdict", hint)
    return cdr_format


def _own_file(path: Path) -> TomlText:
    try:
        with io.TextIOWrapper(open_small(path), encoding="utf-8") as file:
            return TomlText(str(path), file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {why(error, path) if isinstance(error, OSError) else 'it is not UTF-8'}",
            hint="Check path and rights.",
        ) from error


@cache
def _shipped() -> tuple[tuple[CauseTable, ...], tuple[CdrFormat, ...], tuple[LookAlike, ...]]:
    """Return the cause tables, formats and look-alikes of the program itself."""
    return _load_all("causes", CauseTable), _load_all("formats", CdrFormat), _load_all("lookalikes", LookAlike)


def _load_all(folder: str, model: type[Model]) -> tuple[Model, ...]:
    entries = [entry for entry in files("schemas").joinpath(folder).iterdir() if entry.name.endswith(".toml")]
    texts = [TomlText(entry.name, entry.read_text("utf-8")) for entry in sorted(entries, key=attrgetter("name"))]
    return tuple(_checked(text, model, BUILT_IN) for text in texts)


def _checked(file: TomlText, model: type[Model], context: Mapping[str, str] | None = None) -> Model:
    """Return the model of a file; the tables of a format's family stand below its own.

    Lists of rules and notes follow the format's; a key of a table that the format has outranks the family's.
    Columns that the family reads and the format does not name are cells that may be missing.
    """
    tables = file.parsed()
    if model is CdrFormat and tables.get("family"):
        folder, name = files("schemas").joinpath("families"), str(tables["family"])
        known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
        if name not in known:
            raise file.fault(("family",), f"there is no family {name!r}", f"Known families: {', '.join(known)}.")
        family = tomli.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
        layouts = [column for layout in tables.get("layouts", []) for column in layout.get("columns", [])]
        named = {*layouts, *tables.get("columns", {}), *tables.get("derived", {})}
        missing = family.get("optional_columns", {})
        family["optional_columns"] = {k: v for k, v in missing.items() if k not in named}
        for key, below in family.items():
            own = tables.get(key, type(below)())
            # Its own rules and keys come first.
            tables[key] = [*own, *below] if isinstance(below, list) else {**own, **below, **own}
    try:
        return model.model_validate(tables, context=context)
    except ValidationError as error:
        raise file.fault_of(error, model) from error
