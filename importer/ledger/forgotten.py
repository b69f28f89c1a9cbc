"""Numbers that were forgotten, kept beside the ledger, where putting a backup in its place does not undo it.

What is kept is no number but its keyed hash; the key is the ledger's own, which its backups share. Must not know
SQLite.
"""

import hmac
import re
from pathlib import Path

from importer.errors import ConfigurationError
from importer.ledger.place import read_companion, replace_companion

_LINE = re.compile(r"([0-9a-f]{32}) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


def forgotten_path(ledger: Path) -> Path:
    """Return where the list of a ledger is."""
    return ledger.with_name(ledger.name + ".forgotten")


def hashed(number: str, key: bytes) -> str:
    """Return what stands for a number in the list: keyed, or else undone by trying all numbers."""
    return hmac.digest(key, b"forgotten " + number.encode(), "sha256").hex()[:32]


def read_forgotten(ledger: Path) -> dict[str, str]:
    """Return when each number was last forgotten (GMT text), by its hash, beside a ledger whose place was checked.

    Raises `ConfigurationError` for a damaged list, `LedgerError` when the disk fails.
    """
    path = forgotten_path(ledger)
    found = [_LINE.fullmatch(line) for line in (read_companion(path) or "").splitlines()]
    if None in found:
        raise ConfigurationError(
            f"{path} is damaged, so nobody knows which numbers were forgotten",
            hint="Put an earlier copy of it back; or move it away and forget those numbers again first of all.",
        )
    return {match[1]: match[2] for match in found if match}


def keep_forgotten(ledger: Path, hash_of_number: str, at: str) -> None:
    """Make durable that a number was forgotten at that moment (GMT text); raises as `read_forgotten`."""
    kept = {**read_forgotten(ledger), hash_of_number: at}
    replace_companion(forgotten_path(ledger), "".join(f"{each} {moment}\n" for each, moment in kept.items()))
