"""What a spreadsheet program destroyed for good: ids like 1.74E+09, and seconds where they tell calls apart."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from importer.formats import CdrFormat
from importer.formats.dates import is_own
from importer.prepare.hints import value_hints
from importer.prepare.plan import Rules
from importer.reading.conditions import arrow_of
from schemas import numbers

Flags = npt.NDArray[np.bool_]

_CUT = r"^[-+]?[0-9](?:[.,][0-9]+)?E\+[0-9]{1,3}$"
"""How Excel and LibreOffice show a long number in a narrow column."""

_WITH_SECONDS = "[:.][0-9]{2}[:.][0-9]{2}"


_REASONS = {
    "scientific_notation": numbers.REASONS["scientific_notation"],
    "cut_id": (
        "Column {column} holds {value}: a spreadsheet has cut the end of this id off, and calls of one second "
        "share what is left; export again and import the file without opening it in a spreadsheet."
    ),
}


def cut_ids(rows: pd.DataFrame, cdr_format: CdrFormat) -> Flags:
    """Say which rows have an id whose digits are gone: calls of one hour may share what is left of it."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for name in _id_columns(cdr_format):
        found |= _is_cut(rows[name]) | _lacks_its_end(rows[name], cdr_format)
    return found


def add_damage(rows: pd.DataFrame, rules: Rules, starts: pd.Series) -> None:
    """Add ``call.problem`` and ``call.problem_hint`` where no id is left that tells one call from another."""
    keyless = rows.loc[rows["call.key"] == ""]
    for name in _id_columns(rules.format) if len(keyless) else ():
        for reason, cut in (
            ("scientific_notation", _is_cut(keyless[name])),
            ("cut_id", _lacks_its_end(keyless[name], rules.format)),
        ):
            if cut.any():
                told = keyless.loc[cut].assign(**{"call.text": keyless.loc[cut, name]})
                told["call.reason"] = reason
                rows.loc[told.index, "call.problem"] = reason
                rows.loc[told.index, "call.problem_hint"] = value_hints(_REASONS, told, rules, name)
    if rules.is_resaved and set(rules.format.call.unique_by) & _time_columns(rules.format):
        _add_lost_seconds(rows, rules, starts)


def _add_lost_seconds(rows: pd.DataFrame, rules: Rules, starts: pd.Series) -> None:
    without = [layout for layout in rules.format.time.formats if "%M" in layout and "%S" not in layout]
    has_id = np.zeros(len(rows), dtype=np.bool_)
    for candidate in rules.format.call.id:
        has_id |= np.logical_and.reduce([(rows[name] != "").to_numpy() for name in candidate])
    has_seconds = pc.match_substring_regex(arrow_of(starts), pattern=_WITH_SECONDS).to_numpy()
    lost = ~has_id & ~np.asarray(has_seconds, dtype=np.bool_) & (rows["call.problem"] == "").to_numpy()
    lost[lost] = [not is_own(text, without) for text in starts[lost].tolist()]
    rows.loc[lost, "call.problem"] = "lost_seconds"
    column = rules.shown(rules.format.time.columns)[0]
    rows.loc[lost, "call.problem_hint"] = (
        f"Column {column} has lost its seconds in a spreadsheet program, and without an id they tell this call "
        "from others: it could be notified twice. Export again and import the file without opening it there."
    )


def _id_columns(cdr_format: CdrFormat) -> tuple[str, ...]:
    """Return the columns of the file that ids are taken from."""
    names = (name for candidate in cdr_format.call.id for name in candidate)
    return tuple(dict.fromkeys(origin for name in names for origin in cdr_format.origins(name)))


def _time_columns(cdr_format: CdrFormat) -> set[str]:
    return {each for name in cdr_format.time.columns for each in (name, *cdr_format.origins(name))}


def _lacks_its_end(values: pd.Series, cdr_format: CdrFormat) -> Flags:
    pattern = cdr_format.call.cut_id
    if pattern is None:
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(
        pc.match_substring_regex(arrow_of(values), pattern=f"^(?:{pattern})$").to_numpy(), dtype=np.bool_
    )


def _is_cut(values: pd.Series) -> Flags:
    texts = arrow_of(values)
    if not pc.any(pc.match_substring(texts, "E+"), min_count=0).as_py():
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(pc.match_substring_regex(texts, pattern=_CUT).to_numpy(), dtype=np.bool_)
