"""Cells that another program has destroyed: ids like 1.74E+09, starts without seconds, unreadable durations."""

from itertools import chain

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from importer.formats.dates import OFFSET, column_layouts, is_own
from importer.prepare.groups import STATE_RANKS, Rank
from importer.prepare.hints import add_faults
from importer.prepare.keys import PART_OF_A_DAY, cuts, has_id_without
from importer.prepare.plan import Rules
from importer.reading.conditions import Flags, arrow_of, matches, seconds_of
from schemas import data

_NEITHER_TIME = "[^0-9]+|[^0-9]*[0-9]{1,3}(?:[.,]0+)?[^0-9]*"
"""What is no time, in a cell that reading has emptied of all that stands for none."""

_WITH_SECONDS = "[:.][0-9]{2}[:.][0-9]{2}"
_ISO_MINUTE = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T][0-9]{{2}}:[0-9]{{2}}(?: ?{OFFSET})?"
"""What spreadsheet programs show where dates are ISO's, as in Sweden and Canada."""


def unmeasured(durations: pd.Series) -> Flags:
    """Return which cells hold a duration that cannot be read, or that a spreadsheet shows as a part of a day."""
    written = ~matches(durations, "[^1-9#]*")
    lost = seconds_of(durations).isna().to_numpy() | matches(durations, PART_OF_A_DAY)
    return np.asarray(written & lost, dtype=np.bool_)


def add_unmeasured(rows: pd.DataFrame, was_cancelled: Flags, rules: Rules) -> None:
    """Add ``call.problem`` and its hint where talk, or the ringing of a call that was given up, cannot be read.

    `####` in place of the time of the answer may be one, or a date of zero; so may a word, or digits too few for a
    time, as where columns were moved.
    """
    call, derived = rules.format.call, rules.format.derived
    tests = [test for rule in rules.format.outcome for test in rule.when.items()]
    talk = {call.talk_seconds or "", *(name for name, test in tests if test.over is not None)}
    answers = {call.answer_time or "", *(name for name, test in tests if test.empty is not None)}
    is_asked = rows["call.rank"].between(Rank.ATTENDED, Rank.OUR_SIDE_COUNTED).to_numpy()
    for name in sorted(answers & {*rows}):
        hidden = is_asked & matches(rows[name], _NEITHER_TIME if name == call.answer_time else "##+")
        add_faults(rows, pd.Series("unreadable_time", rows.index[hidden]), rows[name], rules, name)
    is_open = (rows["call.rank"].between(*STATE_RANKS) & (rows["call.problem"] == "")).to_numpy()
    for name in (*sorted(talk), call.ring_seconds or "", call.duration_seconds or ""):
        asked = is_open if name in talk else is_open & was_cancelled
        sources = derived.get(name, ())
        columns = [source.column for source in sources if source.extract is None]
        for column in columns or dict.fromkeys([name, *(source.column for source in sources)]):
            if column not in rows or not asked.any():
                continue
            lost = asked.copy()
            lost[asked] = unmeasured(rows[column][asked])
            if not columns and column != name:  # of which nothing was taken out
                lost &= (rows[name] == "").to_numpy()
            add_faults(rows, pd.Series("unreadable_duration", rows.index[lost]), rows[column], rules, column)


def add_damage(rows: pd.DataFrame, rules: Rules, starts: pd.Series) -> None:
    """Add ``call.problem`` and ``call.hint`` where no id is left that distinguishes calls.

    A start that stands in for an id must have its seconds.
    """
    is_keyless, time = rows["call.key"] == "", rules.format.time
    if is_keyless.any():
        keyless = rows.loc[is_keyless]
        for name, reason, cut in chain(*(cuts(keyless, rules.format, of_ids=each) for each in (False, True))):
            add_faults(rows, pd.Series(reason, keyless.index[cut]), rows[name], rules, name)
    exact = zip(time.columns, column_layouts(time.formats, len(time.columns)), strict=True)
    names = [name for name, layouts in exact if any("%S" in layout for layout in layouts)]
    seconds = {each for name in names for each in (name, *rules.format.origins(name))}
    without = [layout for layout in time.formats if "%M" in layout and "%S" not in layout]
    if not (rules.is_resaved or (names and not without)) or seconds.isdisjoint(rules.format.id_columns()):
        return
    if "%S" in time.formats[0] and not rules.shows_seconds:
        without = []  # which layout the system itself had cannot be told any more
    has_id = has_id_without(seconds, rows, rules.format)
    if has_id.all():
        return
    is_short = matches(starts, _ISO_MINUTE) | rules.is_resaved
    has_seconds = pc.match_substring_regex(arrow_of(starts), pattern=_WITH_SECONDS).to_numpy()
    lost = is_short & ~has_id & ~np.asarray(has_seconds, dtype=np.bool_) & (rows["call.problem"] == "").to_numpy()
    lost[lost] = [not is_own(text, without) for text in starts[lost].tolist()]
    rows.loc[lost, "call.problem"] = "lost_seconds"
    rows.loc[lost, "call.hint"] = data("hints")["others"]["lost_seconds"].format(
        column=rules.shown(time.columns)[0]
    )
