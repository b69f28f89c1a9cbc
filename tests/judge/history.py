"""What the judge is shown: facts that others recorded, none of them told by the run that is judged."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from judge.answers import Meaning, meaning_of
from misbehaviour import Arrival

CONTENT = ("state", "from", "to", "start_time")


@dataclass(frozen=True)
class Post:
    """One request at the server; ``content`` is its form without the id, ``moment`` monotonic seconds."""

    moment: float
    call_id: str
    content: tuple[tuple[str, str], ...] = ()
    meaning: Meaning = Meaning.NOTHING
    complete: bool = True


@dataclass(frozen=True)
class Record:
    """One thing an operator said of a call, and when.

    ``sent``, ``not_sent``, ``close``: `resolve`; ``reopened``: `resolve --reopen` took the last of these back;
    ``resend``: `--on-uncertain resend` for an uncertain call; ``retry``: `--retry-refused` for a refused one;
    ``new_content``: a row imported with other content under the same id; ``attended``: an import showed a call of
    the ledger attended; ``corrected``: `resolve --close` ended the reminder of it; ``restored``: a backup was
    accepted in the ledger's place; ``forgotten``: its number was forgotten while it was open; ``purged``: settled,
    it was deleted.
    """

    moment: float
    call_id: str
    kind: str


@dataclass(frozen=True)
class Held:
    """One call as the ledger holds it."""

    call_id: str
    state: str
    reason: str = ""
    has_payload: bool = True


@dataclass(frozen=True)
class Row:
    """One row of a results file."""

    file: str
    line: int
    call_id: str
    outcome: str
    content: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """The results file of one run, and the places (file, line) that its input holds.

    ``attended`` has the places of rows that show a call attended, with the outcome that the ledger before the run
    calls for, empty where the results say nothing of it.
    """

    run: str
    rows: Sequence[Row]
    input: Sequence[tuple[str, int]] = ()
    attended: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Death:
    """One run that was killed, with so many requests in flight at most."""

    moment: float
    workers: int = 1


@dataclass(frozen=True)
class History:
    """All that is known of one ledger and one account.

    ``is_recovered`` says that the last run ended by itself, so that no call may be in flight. ``outputs`` are
    what runs printed and ``files`` what they wrote, by a name for each: ``canaries`` may stand in neither,
    ``numbers`` in no output. ``left_uncertain`` has the exit code of each import and delivery, and how many calls
    the ledger held uncertain after it.
    """

    posts: Sequence[Post] = ()
    ledger: Mapping[str, Held] = field(default_factory=dict)
    records: Sequence[Record] = ()
    results: Sequence[Results] = ()
    deaths: Sequence[Death] = ()
    integrity: str = "ok"
    is_recovered: bool = True
    staged: frozenset[str] = frozenset()
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    canaries: Sequence[str] = ()
    numbers: Sequence[str] = ()
    exit_codes: Sequence[int] = ()
    left_uncertain: Sequence[tuple[int, int]] = ()


def posts_of(arrivals: Iterable[Arrival]) -> list[Post]:
    """Return the server's record as posts; a request whose body never came names no call."""
    posts = []
    for each in arrivals:
        content = tuple(sorted((name, value) for name, value in each.fields.items() if name != "id"))
        posts.append(Post(each.moment, each.fields.get("id", ""), content, meaning_of(each.sent), each.complete))
    return posts


def looking_on(path: Path) -> sqlite3.Connection:
    """Connect to a ledger for reading only: a connection that may write takes a dead run's ``-wal`` file away."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)


def ledger_of(path: Path) -> tuple[dict[str, Held], str]:
    """Return the calls of a ledger and SQLite's verdict on the file, read without the importer."""
    query = """SELECT calls.call_id, calls.state, calls.reason, payloads.seq IS NOT NULL
        FROM calls LEFT JOIN payloads ON payloads.seq = calls.seq"""
    with closing(looking_on(path)) as connection:
        held = {row[0]: Held(row[0], row[1], row[2], bool(row[3])) for row in connection.execute(query)}
        verdicts = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        broken = list(connection.execute("PRAGMA foreign_key_check"))
    return held, "; ".join(verdicts) if not broken else f"{len(broken)} broken references"
