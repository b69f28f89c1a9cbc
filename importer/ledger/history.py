"""The ledger over time: requests by when they began, refusals by what the answer said.

Whole tables are counted by SQLite; only counts come out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from importer.ledger.reader import LedgerReader

_OF_RUN = "(? IS NULL OR sent_run = (SELECT number FROM runs WHERE run_id = ?))"


@dataclass(frozen=True, slots=True)
class Refusals:
    """Calls that stand refused with the same answer; ``hint`` is that of one of them."""

    http_status: int | None
    code: str
    reason: str
    hint: str
    count: int


def requests_over_time(reader: LedgerReader, span_seconds: int, run_id: str | None = None) -> Mapping[int, int]:
    """Return how many calls had their last request in each span of time: its first second (epoch) -> calls.

    Only spans with requests are there. With a run, only its requests count.
    """
    query = f"""SELECT CAST(strftime('%s', sent_at) AS INTEGER) / ? * ? AS span, count(*) FROM calls
        WHERE sent_at != '' AND {_OF_RUN} GROUP BY span HAVING span IS NOT NULL"""  # noqa: S608 no value in it
    return dict(reader._rows(query, (span_seconds, span_seconds, run_id, run_id)))


def refusals(reader: LedgerReader, run_id: str | None = None) -> list[Refusals]:
    """Return the refused calls by answer, the most frequent first; with a run, those whose request it sent."""
    query = f"""SELECT http_status, code, reason, max(hint), count(*) AS calls FROM calls
        WHERE state = 'refused' AND {_OF_RUN} GROUP BY http_status, code, reason
        ORDER BY calls DESC, code LIMIT 200"""  # noqa: S608
    return [Refusals(*row) for row in reader._rows(query, (run_id, run_id))]
