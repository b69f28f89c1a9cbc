"""From an export to the draft of its format."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from importer.formats.catalogue import Catalogue
from importer.formats.drafting.export import Export, read_export
from importer.formats.drafting.roles import Role, roles_of
from importer.formats.drafting.writing import draft_text
from importer.formats.faults import TomlText
from importer.formats.language import word_key


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft: its TOML text, what it was made from, which column was taken for what, and its open points."""

    text: str
    export: Export
    roles: Mapping[str, Role]
    open_points: tuple[tuple[int, str], ...]


def draft_of(
    path: Path,
    name: str,
    catalogue: Catalogue,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> Draft:
    """Draft the format ``name`` from an export; raises InputUnusableError where there is nothing to learn from."""
    export = read_export(path, encoding, delimiter, sheet)
    known = frozenset(word_key(word) for table in catalogue.causes.values() for word in table.words)
    roles = roles_of(export, known)
    text = draft_text(name, export, roles, catalogue.causes)
    return Draft(text, export, roles, tuple(TomlText(name, text).open_points()))


def format_name(text: str, taken: Collection[str]) -> str:
    """Return a name for a format that is made from a file's name and not taken yet."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "my-export"
    while name in taken:
        name = f"my-{name}"
    return name
