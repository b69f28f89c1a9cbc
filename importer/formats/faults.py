"""What is wrong with a TOML file of the user's: file, line, key, value, rule and what to do."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tomli
from pydantic import BaseModel, ValidationError

from importer.errors import ConfigurationError

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
