"""A number beside the ledger that shows when the ledger is older than the last run that used it.

The ledger counts generations; the file beside it says how far the count had come. A ledger restored from a
backup, or one whose ``-wal`` file was lost, is behind it. The file also says which file the last run closed. Must
not know SQLite.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from importer.errors import ConfigurationError
from importer.ledger.place import read_companion, replace_companion

_CONTENT = re.compile(r"generation=(\d{1,18})\n(?:closed=(\d+ \d+ \d+)\n)?")
_HINT = (
    "Calls that were sent since then would be sent again. Say what was sent since, with the results files: "
    "cdr-importer ledger accept-restore RESULTS.csv ..."
)


@dataclass(frozen=True, slots=True)
class Witness:
    """What stands beside the ledger: a generation, None when there is no file; ``readable`` is False for junk.

    ``closed`` is the `file_mark` of the ledger as the last run left it, None unless that run closed it.
    """

    generation: int | None
    readable: bool = True
    closed: str | None = None


def witness_path(ledger: Path) -> Path:
    """Return where the witness of a ledger is."""
    return ledger.with_name(ledger.name + ".witness")


def read_witness(ledger: Path) -> Witness:
    """Read the witness of a ledger whose place was checked; raises `LedgerError` when the disk fails."""
    text = read_companion(witness_path(ledger), most_bytes=128)
    if text is None:
        return Witness(None)
    found = _CONTENT.fullmatch(text)
    return Witness(int(found[1]), closed=found[2]) if found else Witness(None, readable=False)


def file_mark(ledger: Path) -> str:
    """Return what any write to the ledger's file changes, and any copy or replacement of it."""
    found = ledger.stat()
    return f"{found.st_ino} {found.st_size} {found.st_ctime_ns}"


def check_witness(ledger: Path, witness: Witness, *, generation: int, first_release: bool) -> None:
    """Raise `ConfigurationError` unless the ledger is the one that the last run left.

    A missing witness counts as a restore too: a copy of the ledger alone, on another machine, has none. Only
    the first release (``first_release``) wrote none.
    """
    path = witness_path(ledger)
    if not witness.readable:
        raise ConfigurationError(f"{path} is damaged, so nobody knows if the ledger {ledger} is whole", hint=_HINT)
    if witness.generation is None and not first_release:
        raise ConfigurationError(
            f"{path} is missing: the ledger {ledger} was moved or restored without it", hint=_HINT
        )
    if witness.generation is not None and witness.generation > generation:
        raise ConfigurationError(
            f"the ledger {ledger} (generation {generation}) is older than {path} ({witness.generation}): "
            "it was restored from a backup, or its -wal file was lost",
            hint=_HINT,
        )


def write_witness(ledger: Path, generation: int, closed: str = "") -> None:
    """Make the generation durable beside the ledger, mode 0600, in one step; `LedgerError` when the disk fails.

    ``closed`` is the `file_mark` of a ledger whose file holds all of it and is synced.
    """
    content = f"generation={generation}\n" + (f"closed={closed}\n" if closed else "")
    replace_companion(witness_path(ledger), content)
