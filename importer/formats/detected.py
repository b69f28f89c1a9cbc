"""How one file is to be read: what detection has found of it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from importer.files.export import ExportFile
from importer.formats.cells import Dialect, plain_cell
from importer.formats.dates import DateOrder, offset_in
from importer.formats.language import CdrFormat


@dataclass(frozen=True, slots=True)
class Detection:
    """How one file is to be read: its format, and where each column of the format stands.

    ``positions`` maps the format's column names to positions from 0. ``field_count`` is the number of cells of a
    row, the least number with ``open_end``. ``sample`` holds the cells of the first rows. ``header_line`` is the
    physical line of the header: 0 where it is the keys of JSON objects, None without one. Rows stand below
    ``last_line_above``. ``titles`` are the `title_key` of the lines above the header.

    Where a spreadsheet program wrote the file anew, ``dialect`` is that of the program. ``rewriting`` is None
    unless it changed the times: the order in its dates, and the layouts of each of its columns. It wrote 486.0 for
    486 in the ``pointed`` columns, which hold words, and parted the thousands in the ``grouped`` columns of ids.
    """

    file: ExportFile
    format: CdrFormat
    encoding: str
    dialect: Dialect
    positions: Mapping[str, int]
    field_count: int
    sample: tuple[tuple[str, ...], ...]
    last_line_above: int
    header_line: int | None = None
    header: tuple[str, ...] = ()
    rewriting: tuple[DateOrder, Mapping[str, tuple[str, ...]]] | None = None
    pointed: frozenset[str] = frozenset()
    grouped: frozenset[str] = frozenset()
    open_end: bool = False
    titles: frozenset[str] = frozenset()

    @property
    def spill(self) -> int | None:
        """Where the cell stands that takes a row's surplus cells, None when no cell does."""
        return self.positions.get(self.format.file.spill or "")

    def places(self, names: Collection[str]) -> list[int]:
        """Return where the columns stand that these are taken from, as far as the file has them."""
        return [self.positions[name] for name in self.format.origins(*names) if name in self.positions]

    def texts(self, name: str) -> list[str]:
        """Return the cells of the first rows in a column of the file, as they are meant."""
        place = self.positions.get(name)
        return [plain_cell(row[place]) for row in self.sample if place is not None and place < len(row)]

    def shows_seconds(self) -> bool:
        """Return whether a start of the first rows has seconds: a spreadsheet hides those of none or of all."""
        origins = self.format.origins(*self.format.time.columns)
        return any(re.search(r":\d\d:\d\d", text) for origin in origins for text in self.texts(origin))

    def times_carry_offsets(self) -> bool:
        """Return whether all starts of the first rows carry an offset from GMT, or ``Z``, behind a time of day."""
        places = self.places(self.format.time.columns)
        starts = [[plain_cell(row[place]) for place in places if place < len(row)] for row in self.sample]
        filled = [cells for cells in starts if any(cells)]
        return bool(filled) and all(any(map(offset_in, cells)) for cells in filled)

    def needs_timezone(self) -> bool:
        """Return whether the operator must give --timezone; rows without an offset among others are rejected."""
        return self.format.needs_timezone(self.positions) and not self.times_carry_offsets()

    @property
    def path(self) -> Path:
        """The path of the file as it was given."""
        return self.file.path
