"""All formats and cause tables known to this run: the built-in ones and the user's own, checked when loaded."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic import BaseModel, ValidationError

from importer.errors import ConfigurationError, UsageError
from importer.formats.language import CauseTable, CdrFormat, LookAlike, word_key
from schemas.vocabulary import Verdict

Model = TypeVar("Model", bound=BaseModel)

DIRECTIVES = {*Verdict, "next"}
"""What a word of a format may mean: a verdict, or hand the row to the next rule."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Formats and cause tables by name; ``own`` and ``own_causes`` name those the user's folder has a file of.

    ``lookalikes`` are files that no format fits and that are refused by name.
    """

    formats: Mapping[str, CdrFormat]
    causes: Mapping[str, CauseTable]
    own: frozenset[str] = frozenset()
    lookalikes: tuple[LookAlike, ...] = ()
    own_causes: frozenset[str] = frozenset()

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


def load_catalogue(own_folder: Path | None = None) -> Catalogue:
    """Load the built-in formats and cause tables, and the user's own where there are any.

    ``own_folder`` stands in for `user_folder`. Words of an own cause table outrank those of the built-in table of
    the same name, which keeps its others.

    Raises ConfigurationError naming file, key and rule for the first file that breaks one.
    """
    folder = own_folder if own_folder is not None else user_folder()
    built_in = {table.name: table for table in _load_all("causes", CauseTable)}
    own_causes = {path.stem: load_causes(path, built_in) for path in sorted((folder / "causes").glob("*.toml"))}
    causes = {**built_in, **own_causes}
    formats = {cdr_format.name: cdr_format for cdr_format in _load_all("formats", CdrFormat)}
    for cdr_format in formats.values():
        _check_tables(cdr_format, causes, f"{cdr_format.name}.toml")
    own: dict[str, CdrFormat] = {}
    for path in sorted((folder / "formats").glob("*.toml")):
        cdr_format = load_format(path, causes)
        if cdr_format.name in formats or cdr_format.name in own:
            raise ConfigurationError(
                f"{path.name}: key name: the format name {cdr_format.name!r} is taken",
                hint="Give the format of your own another name.",
            )
        own[cdr_format.name] = cdr_format
    lookalikes = tuple(_load_all("lookalikes", LookAlike))
    return Catalogue({**formats, **own}, causes, frozenset(own), lookalikes, frozenset(own_causes))


def load_causes(path: Path, built_in: Mapping[str, CauseTable]) -> CauseTable:
    """Load a cause table of the user's, named after its file, with the words of the built-in one below its own."""
    table = _parse(_text_of(path), path.name, CauseTable, {"name": path.stem})
    if table.name != path.stem:
        raise ConfigurationError(
            f"{path.name}: key name: {table.name!r} is not the name of the file", hint="Take the line out."
        )
    keys: dict[str, str] = {}
    for word in table.words:
        if word_key(word) in keys:
            raise ConfigurationError(
                f"{path.name}: key words.{word}: the same word as {keys[word_key(word)]!r}, since case, spaces, "
                "- and _ do not count",
                hint="Leave one of the two lines.",
            )
        keys[word_key(word)] = word
    below = built_in.get(table.name)
    return table if below is None else table.over(below)


def load_format(path: Path, causes: Mapping[str, CauseTable]) -> CdrFormat:
    """Load one format file and check it against the cause tables."""
    cdr_format = _parse(_text_of(path), path.name, CdrFormat)
    _check_tables(cdr_format, causes, path.name)
    # Loads pandas and Arrow: the built-in formats are checked by the tests instead.
    from importer.formats.soundness import first_fault

    if fault := first_fault(cdr_format):
        raise ConfigurationError(f"{path.name}: key {fault}", hint="See `Adding a format` in the README.")
    return cdr_format


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path.name} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}",
            hint=f"Check path and rights of {path}.",
        ) from error


def _load_all(folder: str, model: type[Model]) -> Iterator[Model]:
    entries: list[Traversable] = [
        entry for entry in files("schemas").joinpath(folder).iterdir() if entry.name.endswith(".toml")
    ]
    for entry in sorted(entries, key=lambda entry: entry.name):
        yield _parse(entry.read_text(encoding="utf-8"), entry.name, model)


def _parse(text: str, name: str, model: type[Model], defaults: Mapping[str, str] | None = None) -> Model:
    try:
        return model.model_validate({**(defaults or {}), **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name}: not valid TOML: {error}", hint="Mend the file.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        # Tables of a list are counted from 1, as a person counts them.
        parts = [str(part + 1) if isinstance(part, int) else part for part in first["loc"]]
        key = ".".join(parts) or "(whole file)"
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(
            f"{name}: key {key}: {said}", hint="See `Adding a format` in the README."
        ) from error


def _check_tables(cdr_format: CdrFormat, causes: Mapping[str, CauseTable], name: str) -> None:
    for number, rule in enumerate(cdr_format.outcome, start=1):
        if rule.table is not None and rule.table not in causes:
            known = ", ".join(sorted(causes))
            raise ConfigurationError(
                f"{name}: key outcome.{number}.table: there is no cause table {rule.table!r}",
                hint=f"Known cause tables: {known}.",
            )
        wrong = sorted(set(rule.words.values()) - DIRECTIVES)
        if wrong:
            raise ConfigurationError(
                f"{name}: key outcome.{number}.words: {wrong[0]!r} is not a verdict",
                hint=f"Use one of: {', '.join(sorted(DIRECTIVES))}.",
            )
