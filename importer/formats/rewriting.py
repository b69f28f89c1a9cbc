"""Whether a spreadsheet program wrote the dates of a file anew, and whether its days or its months come first."""

import csv
from collections.abc import Iterator

from importer.errors import InputUnusableError
from importer.formats.cells import cell_reader, cut_line, plain_cell
from importer.formats.dates import (
    DateOrder,
    OrderEvidence,
    Rewriting,
    column_layouts,
    is_own,
    is_rewritten,
    own_order,
)
from importer.formats.detected import Detection

Layouts = dict[str, tuple[str, ...]]


def rewriting_of(detection: Detection, chosen: DateOrder | None) -> Rewriting | None:
    """Return how the times of a file are to be written back, None where they are as the system wrote them.

    The first rows tell whether there is anything to do; then the whole file is searched for a row that leaves no
    choice. Raises InputUnusableError when none does, when two disagree, or when one contradicts ``chosen``.
    """
    layouts = _layouts(detection)
    own = own_order(detection.format.time.formats)
    if not _is_open(detection, layouts, own, chosen):
        return None
    seen = OrderEvidence()
    for line, text in _cells(detection, list(layouts)):
        seen.look(line, text)
    return Rewriting(_decided(seen, own, chosen, detection), layouts)


def _layouts(detection: Detection) -> Layouts:
    """Return the layouts of each column of the file that holds a start time, or a part of it."""
    spec = detection.format.time
    found: Layouts = {}
    for name, layouts in zip(spec.columns, column_layouts(spec.formats, len(spec.columns)), strict=True):
        found |= {origin: layouts for origin in detection.format.origins(name) if origin in detection.positions}
    return found


def _is_open(detection: Detection, layouts: Layouts, own: DateOrder | None, chosen: DateOrder | None) -> bool:
    """Say whether most dates of the first rows are none of the format's, or cannot have its order.

    One date of another kind among those of the system is a fault of its row.
    """
    seen = OrderEvidence()
    is_rewritten_mostly = False
    for name, wanted in layouts.items():
        place = detection.positions[name]
        texts = [plain_cell(cells[place]) for cells in detection.sample if place < len(cells)]
        anew = sum(is_rewritten(text, wanted) for text in texts)
        is_rewritten_mostly |= anew > sum(is_own(text, wanted) for text in texts)
        for text in texts:
            seen.look(0, text)
    is_contrary = own is not None and bool(seen.proofs) and own not in seen.proofs
    return is_rewritten_mostly or is_contrary or (seen.open is not None and chosen not in (None, own))


def _cells(detection: Detection, names: list[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of these columns, row by row."""
    places = [detection.positions[name] for name in names]
    skip = detection.format.file.skip_initial_space
    with detection.file.open_text(detection.encoding) as source:
        spans = detection.format.file.spans
        lines = (cut_line(line, spans) for line in source) if spans else source
        reader = cell_reader(lines, detection.delimiter, detection.quotes, skip_initial_space=skip)
        line = detection.file.first_line
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # an over-long cell: reading rejects its row
                cells = []
            if line > detection.last_line_above:
                yield from ((line, plain_cell(cells[place])) for place in places if place < len(cells))
            line = detection.file.first_line + reader.line_num


def _decided(
    seen: OrderEvidence, own: DateOrder | None, chosen: DateOrder | None, detection: Detection
) -> DateOrder:
    shown = detection.file.shown
    if chosen is None and own is not None and own in seen.proofs:
        return own  # what cannot have this order is rejected row by row
    if len(seen.proofs) > 1 and chosen is None:
        places = " and ".join(f'line {line} "{text}"' for line, text in sorted(seen.proofs.values()))
        raise InputUnusableError(
            f"{shown}: the dates disagree whether the day or the month comes first: {places}",
            hint="Export again without opening the file in a spreadsheet program, or say with --date-order which "
            "it is; rows that cannot be read so are rejected.",
        )
    if len(seen.proofs) == 1 and seen.contradicts(chosen or own):
        proved, (line, text) = next(iter(seen.proofs.items()))
        said = "--date-order says" if chosen else f"format {detection.format.name} has"
        raise InputUnusableError(
            f'{shown}: line {line} "{text}" has the {_first(proved)} first, {said} the {_first(chosen or own)}',
            hint=f"Mend that line if it alone is wrong, or say --date-order {proved}.",
        )
    order = chosen or next(iter(seen.proofs), None) or own
    if order is not None or seen.open is None:
        return order or DateOrder.DAY_MONTH
    line, text = seen.open
    raise InputUnusableError(
        f'{shown}: a spreadsheet program wrote the dates anew (line {line} "{text}"), and no row tells whether '
        "the day or the month comes first",
        hint="Say it with --date-order day-month or --date-order month-day, or export again and import the file "
        "without opening it in a spreadsheet program.",
    )


def _first(order: DateOrder | None) -> str:
    return "day" if order is DateOrder.DAY_MONTH else "month"
