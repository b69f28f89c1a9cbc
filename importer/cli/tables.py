"""Lines and tables that fit the terminal; 80 columns where there is none."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from importer.cli.saying import escaped

NARROWEST = 6
GAP = "  "


def terminal_width() -> int:
    """Return the columns of the terminal, 80 without one."""
    return max(40, shutil.get_terminal_size().columns)


def wrapped(text: str, indent: str = "", width: int | None = None) -> list[str]:
    """Return a text as lines no wider than the terminal, those after the first under ``indent``."""
    return textwrap.wrap(
        text, width or terminal_width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=True
    ) or [""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> list[str]:
    """Return aligned lines no wider than the terminal: the widest columns are narrowed, long cells go on below."""
    cells = [list(map(escaped, row)) for row in rows]
    lines = [list(header), *cells] if header else cells
    if not lines:
        return []
    widths = _fitted([max(map(len, column)) for column in zip(*lines, strict=True)], width or terminal_width())
    ruled = [*lines[:1], ["-" * size for size in widths], *lines[1:]] if header else lines
    return [line for cells in ruled for line in _lines(cells, widths)]


def _fitted(widths: Sequence[int], width: int) -> list[int]:
    fitted = list(widths)
    while sum(fitted) + len(GAP) * (len(fitted) - 1) > width and max(fitted) > NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [textwrap.wrap(cell, size, break_on_hyphens=False) for cell, size in zip(cells, widths, strict=True)]
    height = max(1, *map(len, parts))
    rows = zip(*([*part, *[""] * (height - len(part))] for part in parts), strict=True)
    return [GAP.join(part.ljust(size) for part, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]], width: int = 80) -> list[str]:
    """Return aligned lines, one for each row, cut at ``width``: for what is read at a glance."""
    lines = [tuple(header), *map(tuple, rows)] if header else [tuple(row) for row in rows]
    if not lines:
        return []
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out = []
    for line in lines:
        text = "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        out.append(text if len(text) <= width else text[: width - 3] + "...")
    return out
