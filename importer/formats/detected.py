"""What detection finds of one file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from importer.files import ExportFile
from importer.formats.cells import Dialect, Quotes, plain_cell
from importer.formats.dates import DateOrder, offset_in
from importer.formats.language import CdrFormat


@dataclass(frozen=True, slots=True)
class Detection:
    """How one file is to be read: its format, and where each column of the format stands.

    ``positions`` maps the format's column names to positions from 0; ``field_count`` is the number of cells a
    row has, at least where ``open_end`` is set; ``header_line`` is the physical line of the header, 0 where it is
    the keys of JSON objects, None without one; rows stand below ``last_line_above``; ``sample`` holds the cells of
    the first rows. Where a spreadsheet program wrote the file anew, ``quotes`` are its own, and ``rewriting`` is
    the order of its dates and the layouts of each column that holds one. ``titles`` says how the lines above the
    header begin.
    """

    file: ExportFile
    format: CdrFormat
    encoding: str
    delimiter: str
    positions: Mapping[str, int]
    field_count: int
    sample: tuple[tuple[str, ...], ...]
    last_line_above: int
    quotes: Quotes
    header_line: int | None = None
    header: tuple[str, ...] = ()
    rewriting: tuple[DateOrder, Mapping[str, tuple[str, ...]]] | None = None
    open_end: bool = False
    titles: frozenset[str] = frozenset()

    @property
    def dialect(self) -> Dialect:
        """How the cells are told apart."""
        file = self.format.file
        return Dialect(self.delimiter, self.quotes, file.skip_initial_space, file.spans)

    @property
    def spill(self) -> int | None:
        """Where the cell stands that takes a row's surplus cells, None when no cell does."""
        return self.positions.get(self.format.file.spill or "")

    def times_carry_offsets(self) -> bool:
        """Return whether all starts of the first rows carry an offset from GMT, or ``Z``, behind a time of day."""
        names = [origin for name in self.format.time.columns for origin in self.format.origins(name)]
        places = [self.positions[name] for name in names if name in self.positions]
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
