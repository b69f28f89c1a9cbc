"""A cell as it was meant: without what spreadsheets, chats and address books leave around a value.

`importer.reading.cleaning` does the same on whole columns; a test holds the two against each other.
"""

import re
from collections.abc import Sequence
from typing import Final

INVISIBLE: Final = "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
"""Direction marks (Unicode Bidi_Control), zero width space, word joiner, byte order mark.

The joiners U+200C and U+200D stay: names in Persian or Hindi are spelt with them.
"""

NO_BREAK_SPACES: Final = "[\u00a0\u2007\u202f]"

FORCED: Final = r'(?s)="([^"]*)"'
"""What makes a spreadsheet take digits for text; RFC 4180 doubles the quotes around it."""

APOSTROPHE: Final = r"(?s)'([-+=@(0-9].*)"
"""The other way, which our own results use too; a name may begin with an apostrophe, but a letter follows then."""

_INVISIBLE: Final = re.compile(INVISIBLE)
_NO_BREAK_SPACES: Final = re.compile(NO_BREAK_SPACES)
_FORCED: Final = re.compile(FORCED)
_APOSTROPHE: Final = re.compile(APOSTROPHE)


def cut_line(line: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return a line of printed text as cells between tabs; ``spans`` are first and last positions, from 1.

    What stands between or behind the columns is a further cell: such a line is laid out in another way, and cut at
    these positions its cells would be wrong.
    """
    line = line.replace("\f", "").replace("\t", " ").rstrip()
    if not line:
        return ""
    outside, end = [], 0
    for first, last in spans:
        outside.append(line[end : first - 1])
        end = last
    surplus = " ".join("".join((*outside, line[end:])).split())
    cells = [line[first - 1 : last].strip() for first, last in spans]
    return "\t".join([*cells, surplus] if surplus else cells)


def plain_cell(text: str) -> str:
    """Return the value of a cell: trimmed, without invisible marks, forced text unwrapped."""
    if not text.isascii():
        text = _NO_BREAK_SPACES.sub(" ", _INVISIBLE.sub("", text))
    text = text.strip()
    for pattern in (_FORCED, _APOSTROPHE):
        if match := pattern.fullmatch(text):
            text = match[1].strip()
    return text
