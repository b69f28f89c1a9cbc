"""When the call of each row started: local times in their zone, and the clock that the ids of a file prove."""

from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.formats.dates import column_layouts
from importer.formats.language import ZONE_SOURCES
from importer.prepare.groups import Rank
from importer.prepare.hints import add_faults, quoted
from importer.prepare.keys import has_id_without
from importer.prepare.plan import Rules
from importer.prepare.zones import ZoneEvidence
from importer.reading.conditions import Conditions
from schemas import data, times, zones
from schemas.call import judged, start_schema
from schemas.time_layouts import SPECIAL_FORMATS, WITH_FRACTION, WITH_OFFSET

DECIDED = (Rank.INCOMING, Rank.ATTENDED, Rank.CAME_IN, Rank.STAYED_INSIDE)
"""Ranks of rows whose start does not matter."""


def zone_evidence_of(rules: Rules) -> ZoneEvidence | None:
    """Return what holds the ids of a file against the operator's zone, None where there is nothing to hold."""
    time = rules.format.time
    if time.evidence is None or time.zone_column in rules.headers or time.zone not in ZONE_SOURCES:
        return None
    since = rules.plan.since
    return ZoneEvidence(_zone(rules), ZoneEvidence("UTC", since=since), since)


def add_zone_evidence(evidence: ZoneEvidence, rows: pd.DataFrame, rules: Rules) -> None:
    """Add what the rows of a chunk (with derived columns) prove about the zone; some of them, in a long file."""
    spec = rules.format.time
    if spec.evidence is None:
        return
    # Which rows does not depend on where chunks and parts of the file begin.
    shown = spec.evidence_time or spec.columns
    columns = [*dict.fromkeys(("call.line", spec.evidence.column, *shown))]
    some = rows.loc[rows["call.line"] % rules.zone_lines == 0, columns]
    texts, lines = texts_of(some, shown), some["call.line"].to_numpy(dtype=np.int64)
    local, stated = times.proved_offsets(texts, rules.time_formats, _made_at(some[spec.evidence.column], rules))
    evidence.add(lines, texts, local)
    if evidence.stated is not None:
        evidence.stated.add(lines, texts, stated)


def known_starts(conditions: Conditions, rules: Rules) -> npt.NDArray[np.int64]:
    """Return the start of each row of a chunk that has one, as epoch seconds; none from after the run began."""
    spec = rules.format.time
    evidence = spec.evidence.columns() if spec.evidence else ()
    columns = {*spec.columns, spec.zone_column, *evidence, *spec.evidence_time}
    frame = conditions.with_texts(rules.format.derived.keys() & columns)
    read = read_local_times(texts_of(frame, spec.columns), frame, rules)["utc"].dropna()
    starts = read.to_numpy().astype("datetime64[s]").astype(np.int64)
    return starts[starts <= rules.plan.now]


def texts_of(rows: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series:
    """Return a time as text, where date and clock stand in columns of their own joined by a space."""
    texts = rows[columns[0]]
    for name in columns[1:]:
        texts = texts + " " + rows[name]
    return texts.str.strip() if len(columns) > 1 else texts


def _made_at(ids: pd.Series, rules: Rules) -> pd.Series:
    """Return the epoch second at which the channel of each id was made, as Int64."""
    made = [rules.format.time.made_at(text, is_cut=rules.is_resaved) for text in ids.tolist()]
    return pd.Series(made, ids.index, dtype="Int64")


def add_start(rows: pd.DataFrame, texts: pd.Series, rules: Rules) -> None:
    """Add ``call.start_time`` (datetime64[s], GMT) of the starts, and where there is none problem and hint."""
    spec = rules.format.time
    read, faults = judged(texts.to_frame("start"), start_schema(partial(read_local_times, rows=rows, rules=rules)))
    rows["call.start_time"] = read["utc"]
    faulty = ~rows["call.rank"].isin(DECIDED) & (rows["call.problem"] == "")
    faults = faults[faulty[faults.index]]
    if len(faults):
        add_faults(rows, faults, texts, rules, spec.columns[0])
        unknown = rows["call.problem"] == "unknown_zone"
        if spec.zone_column and unknown.any():  # add what the zone of these rows may be
            names = rows.loc[unknown, spec.zone_column]
            advise = {True: zones.fixed_advice, False: zones.zone_advice}
            advice = {name: advise[zones.is_fixed(name)](name) for name in names.unique().tolist()}
            shown = rules.shown((spec.zone_column,))[0]
            further = names.map(lambda name: f" Column {shown} holds {quoted(name)}: {advice[name]}.")
            rows.loc[unknown, "call.hint"] = rows.loc[unknown, "call.hint"] + further
    other = ~read["is_own"] & (read["reason"] == "")
    if other.any():
        _write_back(rows, other, rules)


def _write_back(rows: pd.DataFrame, other: pd.Series, rules: Rules) -> None:
    """Write starts that another program wrote anew as the format does, as local times of their zone.

    Keys and the contents of rows are made of these texts: the same call has them in every export, with and without
    fraction or offset. Where no zone is known and the key is made of the local time, the row has a problem.
    Seconds of zero are left out where the format's first layout has none.
    """
    spec = rules.format.time
    names = rows.loc[other, spec.zone_column] if spec.zone_column else pd.Series("", index=rows.index[other])
    for column in spec.columns:
        rows.loc[other, column] = rows.loc[other, column].str.replace(WITH_FRACTION, r"\1", regex=True)
    if spec.formats[0] in SPECIAL_FORMATS:
        return
    short = spec.formats[0]
    exact = next((each for each in spec.formats if "%S" in each), short)
    for name in names.unique().tolist():
        some = rows.loc[names.index[names == name]]
        zone = _zone(rules, name)
        if zone is None:
            _require_zone(rows, some, rules)
            continue
        bare = some[[*spec.columns]].apply(lambda each: each.str.replace(WITH_OFFSET, r"\1", regex=True))
        read = times.read_times(texts_of(bare, spec.columns), rules.time_formats, zone)
        is_same = read["is_own"] & (read["utc"] == some["call.start_time"])
        written, starts = [bare[is_same]], some.loc[~is_same, "call.start_time"]
        is_short = (starts.dt.second == 0).to_numpy() & (short != exact)
        for layout, anew in ((exact, starts[~is_short]), (short, starts[is_short])):
            layouts = zip(spec.columns, column_layouts((layout,), len(spec.columns)), strict=True)
            texts = {column: times.written_times(anew, zone, own) for column, (own,) in layouts}
            written.append(pd.DataFrame(texts, index=anew.index))
        found = pd.concat([each for each in written if len(each)])
        rows.loc[found.index, [*spec.columns]] = found


def _require_zone(rows: pd.DataFrame, some: pd.DataFrame, rules: Rules) -> None:
    """Reject those of ``some`` rows that are known by their local time, which is unknown without a zone.

    An id or key is made of it, and no id without it is there.
    """
    call, columns = rules.format.call, {*rules.format.time.columns}
    if all(columns.isdisjoint(names) for names in (*call.id, call.unique_by)):
        return
    is_keyed = (some["call.problem"] == "") & ~some["call.rank"].isin(DECIDED)
    is_keyed &= ~has_id_without(columns, some, rules.format)
    keyed = some.index[is_keyed]
    rows.loc[keyed, "call.problem"] = "no_zone"
    column = rules.shown(rules.format.time.columns)[0]
    rows.loc[keyed, "call.hint"] = data("hints")["others"]["offset_without_id"].format(column=column)


def read_local_times(texts: pd.Series, rows: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Return times as `read_times` does, each in the zone that its row names, else the format's or operator's.

    The ids are searched for evidence only where the clock leaves two instants, that is never or for two hours a
    year: searching all of them took 3 % of the time of `check`.
    """
    spec, formats = rules.format.time, rules.time_formats
    column, source = spec.zone_column, spec.evidence
    parts = []
    for name in rows[column].unique().tolist() if column and len(rows) else [""]:
        some = texts[(rows[column] == name).to_numpy()] if column else texts
        zone = _zone(rules, name)
        read = times.read_times(some, formats, zone)
        doubtful = read["reason"].isin(times.DOUBTFUL)
        if doubtful.any() and source is not None:
            asked = rows.loc[read.index[doubtful]]
            made_at = _made_at(asked[source.column], rules)
            if spec.evidence_time:  # made as long after the time as the clock shows, unless it was changed since
                shown = texts_of(asked, spec.evidence_time), some[doubtful]
                made, start = (times.read_times(each, formats, "UTC")["utc"] for each in shown)
                later = (made - start).dt.total_seconds()
                made_at = (made_at - later.astype("Int64")).where(later.between(0, 3599))
            settled = times.read_times(some[doubtful], formats, zone, made_at)
            read = pd.concat([read.loc[~doubtful], settled]).loc[read.index]
        parts.append(read.replace({"reason": {"no_zone": "unknown_zone"}}) if name else read)
    return pd.concat(parts).loc[rows.index] if len(parts) > 1 else parts[0]


def _zone(rules: Rules, named: str = "") -> str | None:
    """Return the zone of rows that name one, the format's or the operator's where they name none."""
    if named:
        return named if zones.is_zone(named) and not zones.is_fixed(named) else None
    zone = rules.format.time.zone
    if zone == "option":
        return rules.plan.timezone or rules.format.time.zone_default
    return rules.plan.timezone if zone == "value" else zone
