"""What must be at least so new that the promises hold; older is refused before anything is done."""

import re
import sqlite3
from collections.abc import Mapping

from importer.errors import ConfigurationError

NEEDED: Mapping[str, tuple[int, ...]] = {
    "requests": (2, 32, 4),  # older ones send .netrc passwords to other hosts: CVE-2024-47081
    "urllib3": (2, 7),  # older ones take a body shorter than its Content-Length, or a decompression bomb
    "SQLite": (3, 37),  # STRICT tables: https://www.sqlite.org/stricttables.html
}
FOUND_SQLITE: Mapping[str, str] = {"SQLite": sqlite3.sqlite_version}
"""The one version on which commands depend that only open the ledger."""


def check_versions(found: Mapping[str, str] | None = None) -> None:
    """Raise ConfigurationError naming what of this, by default of all, is too old, and the version needed."""
    if found is None:
        from importlib import metadata

        found = {name: metadata.version(name) for name in ("requests", "urllib3")} | {**FOUND_SQLITE}
    old = []
    for name, version in found.items():
        numbers = tuple(int(number) for number in re.findall(r"(?:^|\.)([0-9]+)", version))
        if numbers < NEEDED[name]:
            old.append(f"{name} {version} is too old, {'.'.join(map(str, NEEDED[name]))} is needed")
    if old:
        raise ConfigurationError("; ".join(old), hint="Install cdr-importer into an environment of its own.")
