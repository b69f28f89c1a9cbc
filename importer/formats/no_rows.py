r"""Lines that are no rows of any export, though they stand among them: totals, and what database clients print.

Sources: psql's PrintQuery and `\timing`, the mysql and MariaDB clients (`-t`, `tee`), MySQL Workbench, sqlcmd and
SQL*Plus, whose counts of rows are in the language of the machine; `sep=` is Excel's.
"""

import re
from collections.abc import Sequence
from typing import Final

from importer.formats.cells import plain_cell

TOTALS: Final = re.compile(
    r"(?:grand[ -]?|sub[ -]?)?totals?(?: calls| général| general| geral)?|(?:gesamt)?summe|(?:ins)?gesamt|"
    r"som(?:me|a)|suma|totale|totaal|totalt|sum",
    re.IGNORECASE,
)
TOTALS_BEGIN: Final = ("to", "gr", "su", "ge", "in", "so")

MOST_CELLS = 3
"""So many cells at most a line of words has, which commas in it divide: `Query OK, 2 rows affected, 1 warning`."""

_RULE: Final = re.compile(r"[-=+|\s]*(?:--|==|\+-|-\+)[-=+|\s]*")
"""Dashes under a header, and the frame of a printed table."""

_PRINTED: Final = re.compile(
    r"""
    \(\s*\d[\d.,\s]*[^\W\d_][^\d]*\)                                   # (2 rows), (2 rows affected), (2 Zeilen)
    | \d+\s(?:rows?|row\(s\)|records?)\s(?:in\sset|returned|selected|affected|fetched)\b.*
    | \d+\s(?:Zeilen?|lignes?|filas?|rig(?:a|he)|linhas?|rijen|rij)\s[^\d]{3,40}
    | (?:Empty\sset|Query\sOK|no\srows\sselected|Rows\smatched:|Records:\s\d).*
    | (?:Time|Zeit|Temps|Durée|Duración|Tempo|Tiempo)\s?:\s\d+[.,]\d+\sms\b.*
    | Completion\stime:.*
    | (?:(?:mysql|MariaDB\s\[[^]]*\])> | \w+[=-][#>])(?:\s.*)? | Bye
    | sep=[^0-9A-Za-z"]
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_printed(cells: Sequence[str], delimiter: str) -> bool:
    """Say whether a record is a rule, a count of rows or another line that a client prints around the rows.

    None of these could be a call: there are letters and dashes where the time and the number of a row stand.
    """
    if sum(map(bool, cells)) <= MOST_CELLS:
        line = delimiter.join(cells).strip(f"\ufeff {delimiter}")
        if _PRINTED.fullmatch(line) or _PRINTED.fullmatch(line + delimiter):
            return True
    return bool(_RULE.fullmatch("".join(cells).lstrip("\ufeff")))


def is_total(cells: Sequence[str]) -> bool:
    """Say whether the first cell of a record is the word of a line of totals."""
    word = cells[0].strip() if cells else ""
    return word[:2].lower() in TOTALS_BEGIN and bool(TOTALS.fullmatch(plain_cell(word).rstrip(":").strip()))
