"""What detection finds of one file, and whether a spreadsheet wrote its dates anew: days or months first."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from importer.errors import ConfigurationError, InputUnusableError
from importer.files.export import ExportFile
from importer.formats.cells import Dialect, numbered_records, plain_cell
from importer.formats.dates import (
    DateOrder,
    OrderEvidence,
    column_layouts,
    is_own,
    is_rewritten,
    offset_in,
    own_order,
)
from importer.formats.language import CdrFormat


@dataclass(frozen=True, slots=True)
class Detection:
    """How one file is to be read: its format, and where each column of the format stands.

    ``positions`` maps the format's column names to positions from 0; ``field_count`` is the number of cells a
    row has, at least where ``open_end`` is set; ``header_line`` is the physical line of the header, 0 where it is
    the keys of JSON objects, None without one; rows stand below ``last_line_above``; ``sample`` holds the cells of
    the first rows. Where a spreadsheet program wrote the file anew, ``dialect`` is its own, and ``rewriting`` is
    the order of its dates and the layouts of each column that holds a start or an end; ``pointed`` are columns of
    words in which it wrote 486.0 for 486, ``grouped`` those of ids whose thousands it parted. ``titles`` says how
    the lines above the header begin.
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
        origins = (origin for name in names for origin in self.format.origins(name))
        return [self.positions[name] for name in origins if name in self.positions]

    def texts(self, name: str) -> list[str]:
        """Return the cells of the first rows in a column of the file, as they are meant."""
        place = self.positions.get(name)
        return [plain_cell(row[place]) for row in self.sample if place is not None and place < len(row)]

    def shows_seconds(self) -> bool:
        """Return whether a start of the first rows has seconds: a spreadsheet hides those of none or of all."""
        origins = (origin for name in self.format.time.columns for origin in self.format.origins(name))
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


def rewriting_of(
    detection: Detection, asked: str | None
) -> tuple[DateOrder, Mapping[str, tuple[str, ...]]] | None:
    """Return how the times of a file are to be written back, None where they are as the system wrote them.

    The first rows tell whether there is anything to do: most of their dates are none of the format's, or cannot
    have its order. One such date among those of the system is a fault of its row. Then the whole file is searched
    for evidence: a row that leaves no choice, dots, ids that carry a clock. Raises InputUnusableError when
    there is none, when two disagree or one contradicts the order that is ``asked`` for; ConfigurationError when
    the ids contradict that.
    """
    chosen = DateOrder(asked) if asked else None
    spec, first_rows = detection.format.time, OrderEvidence()
    layouts: dict[str, tuple[str, ...]] = {}  # of each column that holds a start time, or a part of it
    for name, some in zip(spec.columns, column_layouts(spec.formats, len(spec.columns)), strict=True):
        layouts |= {origin: some for origin in detection.format.origins(name) if origin in detection.positions}
    own, is_rewritten_mostly = own_order(spec.formats), False
    for name, wanted in layouts.items():
        texts = detection.texts(name)
        anew = sum(is_rewritten(text, wanted) for text in texts)
        is_rewritten_mostly |= anew > sum(is_own(text, wanted) for text in texts)
        for text in texts:
            first_rows.look(0, text)
    is_contrary = own is not None and bool(first_rows.proofs) and own not in first_rows.proofs
    is_asked = first_rows.open is not None and chosen not in (None, own)
    if not (is_rewritten_mostly or is_contrary or is_asked):
        return None
    seen = OrderEvidence()
    places = [detection.positions[name] for name in layouts]
    ids = detection.places([spec.evidence.column]) if spec.evidence else []
    with detection.file.open_text(detection.encoding) as source:
        for line, cells in numbered_records(source, detection.dialect, detection.file.first_line):
            if cells is None or line <= detection.last_line_above:
                continue  # reading rejects the row of an over-long cell
            id_text = next(filter(None, (plain_cell(cells[place]) for place in ids if place < len(cells))), "")
            epoch = spec.made_at(id_text, is_cut=True)
            for place in (place for place in places if place < len(cells)):
                seen.look(line, plain_cell(cells[place]), epoch)
    ends = detection.format.call.end_time
    for name, some in zip(ends, column_layouts(spec.formats, len(ends)), strict=False):
        layouts |= {origin: some for origin in detection.format.origins(name) if origin in detection.positions}
    return _decided(seen, own, chosen, detection), layouts


def _decided(
    seen: OrderEvidence, own: DateOrder | None, chosen: DateOrder | None, detection: Detection
) -> DateOrder:
    """Return what stands first in the dates of a file; raises as `rewriting_of` does."""
    shown = detection.file.shown
    own = None if seen.made else own  # a format's own order is overruled by the ids
    if chosen is None and own is not None and own in seen.proofs:
        return own  # what cannot have this order is rejected row by row
    evidence = {order: found[:2] for order, found in seen.made.items()}
    who, hint = "ids of the rows", "Export again without opening the file in a spreadsheet program"
    if len(evidence) < 2:
        dots = {} if seen.dotted is None else {DateOrder.DAY_MONTH: seen.dotted}
        evidence, who = {**evidence, **dots, **seen.proofs}, "dates"
        hint += ", or say with --date-order which it is; rows that cannot be read so are rejected"
    if len(seen.made) > 1 or (len(evidence) > 1 and chosen is None):
        places = " and ".join(f'line {line} "{text}"' for line, text in sorted({*evidence.values()}))
        raise InputUnusableError(
            f"{shown}: the {who} disagree whether the day or the month comes first: {places}", hint=f"{hint}."
        )
    for proved, (line, text, epoch) in seen.made.items():
        if chosen not in (None, proved):
            raise ConfigurationError(
                f'{shown}: line {line} "{text}" has the {proved.split("-")[0]} first, --date-order says the '
                f"{chosen.split('-')[0]}: the id of the row was made at {epoch} "
                f"({datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M:%S} GMT)",
                hint=f"Say --date-order {proved}, or leave it out: the ids decide. Nothing was sent.",
            )
    if len(evidence) == 1 and (chosen or own) not in (None, *evidence):
        proved, (line, text) = next(iter(evidence.items()))
        said = "--date-order says" if chosen else f"format {detection.format.name} has"
        first = "month" if proved is DateOrder.DAY_MONTH else "day"
        raise InputUnusableError(
            f'{shown}: line {line} "{text}" has the {proved.split("-")[0]} first, {said} the {first} first',
            hint=f"Mend that line if it alone is wrong, or say --date-order {proved}.",
        )
    order = chosen or next(iter(evidence), None) or own
    if order is not None or seen.open is None:
        return order or DateOrder.DAY_MONTH
    line, text = seen.open
    raise InputUnusableError(
        f'{shown}: a spreadsheet program wrote the dates anew (line {line} "{text}"), and no row tells whether '
        "the day or the month comes first",
        hint="Say it with --date-order day-month or --date-order month-day, or export again and import the file "
        "without opening it in a spreadsheet program.",
    )
