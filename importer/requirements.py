"""What must be at least so new that the promises hold; older is refused before anything is done."""

import sqlite3
from collections.abc import Mapping

from importer.errors import ConfigurationError

NEEDED: Mapping[str, tuple[int, ...]] = {
    "requests": (2, 32, 4),  # older ones send .netrc passwords to other hosts: CVE-2024-47081
    "urllib3": (2, 7),  # older ones take a body shorter than its Content-Length, or a decompression bomb
    "SQLite": (3, 37),  # STRICT tables: https://www.sqlite.org/stricttables.html
}


def found_versions() -> dict[str, str]:
    """Return the versions that this process would use."""
    from importlib.metadata import version

    return {
        "requests": version("requests"),
        "urllib3": version("urllib3"),
        "SQLite": sqlite3.sqlite_version,
    }


def found_sqlite() -> dict[str, str]:
    """Return the one version that commands depend on which only open the ledger; costs nothing."""
    return {"SQLite": sqlite3.sqlite_version}


def check_versions(found: Mapping[str, str]) -> None:
    """Raise ConfigurationError naming what of this is too old, the version needed and the one found."""
    old = [
        f"{name} {found[name]} is too old, {'.'.join(map(str, needed))} is needed"
        for name, needed in NEEDED.items()
        if name in found and _numbers(found[name]) < needed
    ]
    if old:
        raise ConfigurationError("; ".join(old), hint="Install cdr-importer into an environment of its own.")


def _numbers(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
