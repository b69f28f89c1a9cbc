"""What another program has made of the cells of a file, by its first rows: cut ids, decimals, dates of its own."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from importer.errors import ConfigurationError, InputUnusableError
from importer.formats.cells import POINTED, are_grouped, numbered_records, plain_cell, ungrouped
from importer.formats.dates import DateOrder, OrderEvidence, column_layouts, is_own, is_rewritten, own_order
from importer.formats.detected import Detection

POINTED_ID: Final = "[0-9]+[.,]0+"
"""An id that was taken for a number and written with a decimal point."""

_KEPT_DIGITS: Final = 15
"""Spreadsheet programs keep so many digits of a number."""
_SURE_ZEROS: Final = 4
"""Whole ids end in so many zeros once in 10,000 files."""
_EPOCH_ID_LENGTH: Final = len("1772460847.0")


def with_rewritten(detection: Detection, date_order: str | None) -> Detection:
    """Return the detection with all that another program has changed in the cells; raises as `rewriting_of`."""
    found, texts_of = detection.format, detection.texts
    words, ids = found.columns_of_words(), found.origins_of_ids()
    cut = []  # patterns of ids that lost digits
    columns = [{*map(ungrouped, texts_of(name))} - {""} for name in ids]
    long = [text for text in set().union(*columns) if re.fullmatch(f"[1-9][0-9]{{{_KEPT_DIGITS},}}", text)]
    zeros = sum(len(text) - _KEPT_DIGITS for text in long)
    if zeros >= _SURE_ZEROS and not any(text[_KEPT_DIGITS:].strip("0") for text in long):
        cut.append(f"[1-9][0-9]{{{_KEPT_DIGITS - 1}}}0+")
    # pandas writes 4000101.0 in a column that has an empty cell, Excel 4000101.00. One id of Asterisk may end in
    # .0 after a start of the program, two do not.
    for some in filter(None, [{text for text in column if re.search("[.,]", text)} for column in columns]):
        is_epoch = len(some) == 1 and len(min(some)) == _EPOCH_ID_LENGTH
        if not is_epoch and all(re.fullmatch(POINTED_ID, text) for text in some):
            cut.append(POINTED_ID)
    if cut and not found.call.cut_id:
        call = found.call.model_copy(update={"cut_id": "|".join(dict.fromkeys(cut))})
        detection = replace(detection, format=found.model_copy(update={"call": call}))
    pointed = (name for name in words if any(re.match(POINTED, text) for text in texts_of(name)))
    grouped = (name for name in ids if are_grouped(texts_of(name)))
    detection = replace(detection, pointed=frozenset(pointed), grouped=frozenset(grouped))
    return replace(detection, rewriting=rewriting_of(detection, date_order))


def rewriting_of(detection: Detection, asked: str | None) -> tuple[DateOrder, dict[str, tuple[str, ...]]] | None:
    """Return how the times of a file are to be written back, None where they are as the system wrote them.

    They are rewritten if most dates of the first rows are in no layout of the format, or cannot have its order; a
    single such date is a fault of its row. Then the whole file is searched for evidence: a row that leaves no
    choice, dots, ids that carry a clock. Raises InputUnusableError without evidence, when two rows disagree, or
    when one contradicts the order that is ``asked`` for; ConfigurationError when the ids contradict that.
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
            first_rows.add(0, text)
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
                seen.add(line, plain_cell(cells[place]), epoch)
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
        whose = "--date-order says" if chosen else f"format {detection.format.name} has"
        first = "month" if proved is DateOrder.DAY_MONTH else "day"
        raise InputUnusableError(
            f'{shown}: line {line} "{text}" has the {proved.split("-")[0]} first, {whose} the {first} first',
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
