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


def found_versions() -> dict[str, str]:
    """Return the versions that this process would use."""
    from importlib.metadata import version

    return {"requests": version("requests"), "urllib3": version("urllib3"), **FOUND_SQLITE}


def check_versions(found: Mapping[str, str] = FOUND_SQLITE) -> None:
    """Raise ConfigurationError naming what of this is too old, the version needed and the one found."""
    old = []
    for name, version in found.items():
        numbers = tuple(int(number) for number in re.findall(r"(?:^|\.)([0-9]+)", version))
        if numbers < NEEDED[name]:
            old.append(f"{name} {version} is too old, {'.'.join(map(str, NEEDED[name]))} is needed")
    if old:
        raise ConfigurationError("; ".join(old), hint="Install cdr-importer into an environment of its own.")
