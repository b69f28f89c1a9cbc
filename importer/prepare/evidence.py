"""What each row of a chunk says: where the call went, what became of it, when it started, which call it is of."""

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.formats.cells import NO_TIME
from importer.formats.dates import column_layouts
from importer.formats.language import ZONE_SOURCES, Cause, CdrFormat, OutcomeRule, TimeSpec, word_key
from importer.prepare.damage import (
    add_damage,
    add_unmeasured,
    all_filled,
    cut_numbers,
    cuts,
    has_id_without,
    unmeasured,
)
from importer.prepare.groups import Rank
from importer.prepare.hints import direction_hints, missing_status_hints, quoted, unknown_word_hint, value_hints
from importer.prepare.plan import Policies, Rules
from importer.prepare.zones import ZoneEvidence
from importer.reading.conditions import Conditions, joined, matches, seconds_of
from schemas import times, zones
from schemas.call import CALL_ID, judged, start_schema
from schemas.time_layouts import SPECIAL_FORMATS, WITH_FRACTION, WITH_OFFSET
from schemas.vocabulary import Direction, Verdict

UNDECIDED = 255
DECIDED = (Rank.INCOMING, Rank.ATTENDED, Rank.CAME_IN, Rank.STAYED_INSIDE)
"""Ranks of rows whose start does not matter."""

_PLAIN_ID = re.compile(CALL_ID)


def derived_of(frame: pd.DataFrame, rules: Rules) -> Conditions:
    """Return the conditions on a chunk, with the format's derived columns."""
    agents = rules.plan.agents
    books = {rules.numbers, rules.plain_numbers} if agents.by_key else set()  # no text is read for an empty list

    def lists(text: str) -> bool:
        return any(agents.listed(text, book) for book in books)

    return Conditions(frame, rules.extensions, rules.format.derived, lists)


def with_texts(frame: pd.DataFrame, conditions: Conditions, names: Iterable[str]) -> pd.DataFrame:
    """Return the chunk with some of the derived columns as text."""
    for name in names:
        frame[name] = conditions.text(name)
    return frame


def add_evidence(rows: pd.DataFrame, conditions: Conditions, rules: Rules) -> pd.DataFrame:
    """Return the rows of outgoing calls with what they say of the call.

    Takes the derived columns and ``call.direction``; adds ``call.rank`` (uint8, Rank; PROBLEM where anything is
    not understood), ``call.said`` (the rank of the outcome alone), ``call.start_time`` (datetime64[s], GMT),
    ``call.source_id`` and ``call.key`` as `call_keys` gives them, ``call.problem`` and ``call.hint``
    (text, "" when the row is understood).
    """
    rows["call.problem"] = ""
    rows["call.hint"] = ""
    _add_ranks(rows, conditions, rules)
    starts = _texts_of(rows, rules.format.time.columns)
    _add_start(rows, starts, rules)
    was_cancelled = (rows["call.rank"] == Rank.CANCELLED).to_numpy()
    _count_cancelled(rows, rules)
    unknown = rows["call.direction"] == ""
    open_rows = unknown & rows["call.rank"].isin([*range(Rank.BUSY, Rank.NOANSWER + 1), Rank.PROBLEM])
    if open_rows.any():  # of the others it does not matter which way they went: none would be notified
        rows.loc[open_rows, "call.problem"] = "unknown_direction"
        undirected = rows.loc[open_rows].copy()
        names = dict.fromkeys(rule.of for rule in rules.format.endpoint)
        undirected = with_texts(undirected, conditions.select(open_rows.to_numpy(), undirected), names)
        rows.loc[open_rows, "call.hint"] = direction_hints(undirected, rules)
        rows.loc[open_rows, "call.rank"] = np.uint8(Rank.PROBLEM)
    add_unmeasured(rows, was_cancelled, rules)
    rows[["call.source_id", "call.key"]] = call_keys(rows, rules.format)
    add_damage(rows, rules, starts)
    rows["call.said"] = rows["call.rank"]
    rows["call.rank"] = rows["call.rank"].where(rows["call.problem"] == "", np.uint8(Rank.PROBLEM))
    if unknown.any():
        attended = rows["call.rank"] == Rank.ATTENDED
        rows.loc[rows["call.problem"] == "unknown_direction", "call.rank"] = np.uint8(Rank.UNDIRECTED)
        rows.loc[unknown & attended, "call.rank"] = np.uint8(Rank.UNDIRECTED_ATTENDED)
    return rows


def _add_ranks(rows: pd.DataFrame, conditions: Conditions, rules: Rules) -> None:
    ranks = np.full(len(rows), UNDECIDED, dtype=np.uint8)
    ranks[(rows["call.direction"] == Direction.AGENT_LEG).to_numpy()] = Rank.AGENT_LEG
    incoming = Rank.INCOMING if rules.format.call.incoming_decides else Rank.CAME_IN
    ranks[(rows["call.direction"] == Direction.INCOMING).to_numpy()] = incoming
    ranks[(rows["call.direction"] == Direction.INTERNAL).to_numpy()] = Rank.STAYED_INSIDE
    word_hints: npt.NDArray[np.object_] | None = None
    for rule in rules.format.outcome:
        open_rows = ranks == UNDECIDED
        if not open_rows.any():
            break
        if rule.column is None and rule.value is not None:
            ranks[open_rows & conditions.hold(rule.when)] = _rank_of(rule.value, rules.policies)
        else:
            hints = _look_up(rows, ranks, open_rows & conditions.hold(rule.when), rule, rules)
            if hints is not None:
                word_hints = hints if word_hints is None else np.where(word_hints == "", hints, word_hints)
    ranks[ranks == UNDECIDED] = Rank.PROBLEM
    missing = ranks == Rank.PROBLEM
    if word_hints is not None:
        unknown = (word_hints != "") & missing
        rows.loc[unknown, "call.problem"] = "unknown_status"
        rows.loc[unknown, "call.hint"] = word_hints[unknown]
        missing &= ~unknown
    if missing.any():
        rows.loc[missing, "call.problem"] = "missing_status"
        rows.loc[missing, "call.hint"] = missing_status_hints(rows.loc[missing], rules)
    rows["call.rank"] = ranks


def _look_up(
    rows: pd.DataFrame,
    ranks: npt.NDArray[np.uint8],
    applies: npt.NDArray[np.bool_],
    rule: OutcomeRule,
    rules: Rules,
) -> npt.NDArray[np.object_] | None:
    """Rank rows by the words of one column; return the hint of each row whose word nothing knows, else ""."""
    codes, words = pd.factorize(rows[rule.column or ""])
    known: dict[str, Cause | str] = {}
    for word, meaning in rule.words.items():
        known.setdefault(word_key(word), "next" if meaning == "next" else Cause(otherwise=Verdict(meaning)))
    for word, cause in (rules.causes[rule.table].words if rule.table else {}).items():
        known.setdefault(word_key(word), cause)
    # Reading has taken 486.0 for 486, and an operator may have told either.
    keys = ([word_key(word) + zeros for zeros in ("", ".0", ".00")] for word in words)
    found = (next((known[key] for key in each if key in known), None) for each in keys)
    causes = [cause if word else "next" for word, cause in zip(words, found, strict=True)]
    call = rules.format.call
    rang, talked = np.zeros((2, len(rows)), dtype=np.bool_)
    for flags, seconds in ((rang, call.ring_seconds), (talked, call.talk_seconds)):
        if seconds:
            flags |= (seconds_of(rows[seconds]) > 0).to_numpy()
    if call.answer_time:
        talked |= (rows[call.answer_time] != "").to_numpy()
    for part, chosen in (("otherwise", applies), ("rang", applies & rang), ("talked", applies & talked)):
        verdicts = (getattr(cause, part) if isinstance(cause, Cause) else None for cause in causes)
        ranks_of = [UNDECIDED if each is None else _rank_of(each, rules.policies) for each in verdicts]
        ranked = np.array(ranks_of, dtype=np.uint8)[codes]
        ranks[chosen & (ranked != UNDECIDED)] = ranked[chosen & (ranked != UNDECIDED)]
    unknown = applies & np.array([cause is None for cause in causes], dtype=np.bool_)[codes]
    if not unknown.any():
        return None
    if rule.unknown == "reject":
        ranks[unknown] = Rank.PROBLEM
    told = zip(words, causes, strict=True)
    hints = [unknown_word_hint(word, rule, rules) if cause is None else "" for word, cause in told]
    return np.where(unknown, np.array(hints, dtype=object)[codes], "")


def _rank_of(verdict: Verdict | Literal["unknown"], policies: Policies) -> Rank:
    """Return the rank of a verdict, where a policy decides that of what it counts as."""
    if verdict == "unknown":
        return Rank.PROBLEM
    counts_as = {Verdict.VOICEMAIL: policies.voicemail, Verdict.OUR_SIDE: policies.our_side}
    return Rank[counts_as.get(verdict, verdict).name]


def _count_cancelled(rows: pd.DataFrame, rules: Rules) -> None:
    """Rank calls that the agent gave up as not answered: they rang long enough, or by policy nobody knows.

    Where the ringing is not on record the whole call bounds it: it cannot have rung longer than it lasted.
    """
    cancelled = rows.loc[(rows["call.rank"] == Rank.CANCELLED).to_numpy()]
    if not len(cancelled):
        return
    policies, call = rules.policies, rules.format.call
    rang, lasted = (
        seconds_of(cancelled[name]).mask(unmeasured(cancelled[name]))
        if name
        else pd.Series(np.nan, cancelled.index)
        for name in (call.ring_seconds, call.duration_seconds)
    )
    counts = rang >= policies.cancelled_ring_seconds
    if policies.cancelled_unknown is Verdict.NOANSWER:
        if call.end_time:
            texts = _texts_of(cancelled, call.end_time)
            ended = _read_times(texts, cancelled, rules)
            between = (ended["utc"] - cancelled["call.start_time"]).dt.total_seconds()
            is_lost = rang.isna() & lasted.isna() & (cancelled["call.problem"] == "") & ~matches(texts, NO_TIME)
            faults = ended["reason"][is_lost & (ended["reason"] == "unreadable_time")]
            rows.loc[faults.index, "call.problem"] = faults
            rows.loc[faults.index, "call.hint"] = value_hints(faults, texts, rows, rules, call.end_time[0])
            # An end that is the start says nothing: systems write one stamp twice where they measured nothing.
            lasted = lasted.fillna(between.where(between > 0))
        counts |= rang.isna() & ~(lasted < policies.cancelled_ring_seconds)
    rows.loc[counts.index[counts], "call.rank"] = np.uint8(Rank.NOANSWER)


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
    ids = (spec.evidence.column,) if spec.evidence else ()
    # Which rows do not depend on where chunks and parts of the file begin.
    columns = [*dict.fromkeys(("call.line", *ids, *spec.columns))]
    some = rows.loc[rows["call.line"] % rules.zone_lines == 0, columns]
    made_at = _evidence(some, rules)
    if made_at is not None:
        texts = _texts_of(some, spec.columns)
        lines = some["call.line"].to_numpy(dtype=np.int64)
        local, stated = times.proved_offsets(texts, rules.time_formats, made_at)
        evidence.add(lines, texts, local)
        if evidence.stated is not None:
            evidence.stated.add(lines, texts, stated)


def known_starts(frame: pd.DataFrame, conditions: Conditions, rules: Rules) -> npt.NDArray[np.int64]:
    """Return the start of each row of a chunk that has one, as epoch seconds; none from after the run began."""
    spec = rules.format.time
    columns = {*spec.columns, spec.zone_column, spec.evidence.column if spec.evidence else None}
    frame = with_texts(frame, conditions, rules.format.derived.keys() & columns)
    read = _read_times(_texts_of(frame, spec.columns), frame, rules)["utc"].dropna()
    starts = read.to_numpy().astype("datetime64[s]").astype(np.int64)
    return starts[starts <= rules.plan.now]


def _texts_of(rows: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series:
    texts = rows[columns[0]]
    for name in columns[1:]:
        texts = texts + " " + rows[name]
    return texts.str.strip() if len(columns) > 1 else texts


def _evidence(rows: pd.DataFrame, rules: Rules) -> pd.Series | None:
    """Return the epoch second at which the channel of each row was made, None where no id carries it."""
    time = rules.format.time
    if time.evidence is None:
        return None
    ids = rows[time.evidence.column]
    made = [time.made_at(text, is_cut=rules.is_resaved) for text in ids.tolist()]
    return pd.Series(made, ids.index, dtype="Int64")


def _add_start(rows: pd.DataFrame, texts: pd.Series, rules: Rules) -> None:
    spec = rules.format.time
    read, faults = judged(texts.to_frame("start"), start_schema(partial(_read_times, rows=rows, rules=rules)))
    rows["call.start_time"] = read["utc"]
    faulty = ~rows["call.rank"].isin(DECIDED) & (rows["call.problem"] == "")
    faults = faults[faulty[faults.index]]
    if len(faults):
        rows.loc[faults.index, "call.problem"] = faults
        rows.loc[faults.index, "call.hint"] = value_hints(faults, texts, rows, rules, spec.columns[0])
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
    """
    spec = rules.format.time
    names = rows.loc[other, spec.zone_column] if spec.zone_column else pd.Series("", index=rows.index[other])
    for column in spec.columns:
        rows.loc[other, column] = rows.loc[other, column].str.replace(WITH_FRACTION, r"\1", regex=True)
    if spec.formats[0] in SPECIAL_FORMATS:
        return
    for name in names.unique().tolist():
        some = rows.loc[names.index[names == name]]
        zone = _zone(rules, name)
        if zone is None:
            _require_zone(rows, some, rules)
            continue
        bare = some[[*spec.columns]].apply(lambda each: each.str.replace(WITH_OFFSET, r"\1", regex=True))
        read = times.read_times(_texts_of(bare, spec.columns), rules.time_formats, zone)
        is_same = read["is_own"] & (read["utc"] == some["call.start_time"])
        written = bare[is_same] if is_same.any() else bare.iloc[:0]
        if not is_same.all():
            written = pd.concat([written, _local_texts(some.loc[~is_same, "call.start_time"], zone, spec)])
        rows.loc[written.index, [*spec.columns]] = written


def _local_texts(starts: pd.Series, zone: str, spec: TimeSpec) -> pd.DataFrame:
    """Return starts as the format writes them, by column; without seconds where its first layout has none."""
    layouts = [each for each in spec.formats if each not in SPECIAL_FORMATS]
    exact = next((each for each in layouts if "%S" in each), layouts[0])
    is_short = (starts.dt.second == 0).to_numpy() & (layouts[0] != exact)
    written = []
    for layout, some in ((exact, starts[~is_short]), (layouts[0], starts[is_short])):
        parts = column_layouts((layout,), len(spec.columns))
        texts = [times.written_times(some, zone, part) for (part,) in parts]
        written.append(pd.DataFrame(dict(zip(spec.columns, texts, strict=True)), index=some.index))
    return pd.concat(written)


def _require_zone(rows: pd.DataFrame, some: pd.DataFrame, rules: Rules) -> None:
    """Reject those of ``some`` rows that are known by their local time, which without a zone cannot be told.

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
    rows.loc[keyed, "call.hint"] = (
        f"Column {column} has an offset, but without an id the call is known by the local time that its telephone "
        "system showed, and could be notified twice: name the zone of that system with --timezone."
    )


def _read_times(texts: pd.Series, rows: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Read the starts, each in the zone that its row names, else in the format's or the operator's.

    The ids are searched for evidence only where the clock leaves two instants, that is never or for two hours a
    year: searching all of them took 3 % of the time of `check`.
    """
    column, formats = rules.format.time.zone_column, rules.time_formats
    parts = []
    for name in rows[column].unique().tolist() if column and len(rows) else [""]:
        some = texts[(rows[column] == name).to_numpy()] if column else texts
        zone = _zone(rules, name)
        read = times.read_times(some, formats, zone)
        doubtful = read["reason"].isin(times.DOUBTFUL)
        if doubtful.any() and rules.format.time.evidence is not None:
            evidence = _evidence(rows.loc[read.index[doubtful]], rules)
            settled = times.read_times(some[doubtful], formats, zone, evidence)
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


def call_keys(rows: pd.DataFrame, cdr_format: CdrFormat) -> pd.DataFrame:
    """Return ``source_id`` (the export's own id of the call, "" without one) and ``key`` (what makes the call).

    The id is the first of the format's of which no part is empty; by the rule `least` the least of the filled
    cells, as text. ``key`` is "" where the row has neither an id nor all the columns that make a call unique.
    """
    call = cdr_format.call
    source_id = pd.Series("", index=rows.index, dtype="str")
    for candidate in call.id:
        parts = [rows[name] for name in candidate]
        taken = source_id == ""
        if call.id_rule == "least":
            taken = (parts[0] != "") & (taken | (parts[0] < source_id))
        if taken.any():
            value = parts[0]
            if len(parts) > 1:
                value = joined(parts).str.replace("\x1f", ".").where(all_filled(parts), "")
            source_id = source_id.where(~taken, value)
    keyless = source_id == ""
    key = "i" + source_id
    if keyless.any():
        key = key.where(~keyless, "")
        if call.unique_by:
            parts = [rows[name] for name in call.unique_by]
            key = key.where(~(keyless & all_filled(parts)), "u" + joined(parts))
            for _, _, cut in cut_numbers(rows, cdr_format):
                key = key.where(~(keyless & cut), "")
    for _, _, cut in cuts(rows, cdr_format):
        key = key.where(~cut, "") if cut.any() else key
    return pd.DataFrame({"source_id": source_id, "key": key})


def call_id_of(site: str, source_id: str, key: str) -> str:
    """Return the id under which the API gets a call: the same on every run, machine and version.

    The export's own id where it is 1 to 64 letters and digits and no site is set; else 32 hexadecimal digits of
    SHA-256 over site and key.
    """
    if not site and _PLAIN_ID.fullmatch(source_id):
        return source_id
    return hashlib.sha256(f"{site}\x1f{key}".encode()).hexdigest()[:32]
