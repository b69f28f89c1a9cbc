"""Rows of the results as cells: their order, and no formula that a spreadsheet would run."""

import re
import string
import unicodedata

from importer.records import Call, ResultRow
from schemas.vocabulary import E164, Outcome

_NUMBER = re.compile(E164)
_HARMLESS_START = frozenset(("", *string.digits, *string.ascii_letters))
_FORMULA_START = frozenset("=+-@\t\r\n")
_NO_FATE = ("",) * 6


def call_cells(call: Call, outcome: Outcome) -> list[str]:
    """Return the row of a call that nothing more is to be said of; numbers and times are valid by then."""
    return [
        defused(call.place.file),
        str(call.place.line),
        call.call_id,
        outcome,
        call.state,
        call.agent_number,
        call.customer_number,
        call.start_time,
        defused(call.zohouser),
        defused(call.source_id),
        *_NO_FATE,
    ]


def cells_of(row: ResultRow) -> list[str]:
    """Return a row as the cells of the results file, with formulas defused."""
    return [
        defused(row.place.file),
        str(row.place.line) if row.place.line else "",
        row.call_id,
        row.outcome.value,
        row.state,
        defused(row.agent_number),
        defused(row.customer_number),
        row.start_time,
        defused(row.zohouser),
        defused(row.source_id),
        row.reason,
        defused(row.hint),
        "" if row.http_status is None else str(row.http_status),
        defused(row.code),
        str(row.attempts) if row.attempts else "",
        row.sent_at,
    ]


def defused(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula; strict E.164 stays as it is.

    The dangerous first characters are OWASP's (CSV Injection), also behind blanks and invisible characters.
    """
    if text[:1] in _HARMLESS_START:
        return text
    bare = text.lstrip(" \u00a0")
    while bare and unicodedata.category(bare[0]) == "Cf":
        bare = bare[1:].lstrip(" \u00a0")
    first = unicodedata.normalize("NFKC", bare[:1])
    if first not in _FORMULA_START or not first or _NUMBER.fullmatch(text):
        return text
    return "'" + text


def fused(text: str) -> str:
    """Return what a cell held before `defused`, where it did anything."""
    bare = text[1:]
    return bare if text[:1] == "'" and defused(bare) == text else text
