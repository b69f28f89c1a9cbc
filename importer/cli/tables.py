"""Lines and tables that fit the terminal; 80 columns where there is none."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence

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
    """Return aligned lines no wider than the terminal.

    The widest columns are narrowed first: a cell of the last one goes on in the next line, any other is cut.
    """
    cells = [list(map(_one_line, row)) for row in rows]
    lines = [list(header), *cells] if header else cells
    if not lines:
        return []
    widths = _fitted([max(map(len, column)) for column in zip(*lines, strict=True)], width or terminal_width())
    ruled = [*lines[:1], ["-" * size for size in widths], *lines[1:]] if header else lines
    return [line for cells in ruled for line in _lines(cells, widths)]


def _one_line(cell: str) -> str:
    """Return a cell without what would move the cursor: a cell of an export may hold anything."""
    return "".join(character if character.isprintable() else " " for character in cell)


def _fitted(widths: Sequence[int], width: int) -> list[int]:
    fitted = list(widths)
    while sum(fitted) + len(GAP) * (len(fitted) - 1) > width and max(fitted) > NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    last = textwrap.wrap(cells[-1], max(widths[-1], 1), break_on_hyphens=False) or [""]
    front = [_cut(cell, size).ljust(size) for cell, size in zip(cells[:-1], widths[:-1], strict=True)]
    blank = [" " * size for size in widths[:-1]]
    return [GAP.join([*(blank if place else front), part]).rstrip() for place, part in enumerate(last)]


def _cut(cell: str, size: int) -> str:
    return cell if len(cell) <= size else cell[: size - 3] + "..."
