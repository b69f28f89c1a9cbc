"""The evidence of each row of a chunk: where its call went, what became of it, when it started, its key."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.formats.cells import NO_TIME
from importer.formats.language import Cause, OutcomeRule, word_key
from importer.prepare.damage import add_damage, add_unmeasured, unmeasured
from importer.prepare.groups import STATE_RANKS, Rank
from importer.prepare.hints import add_faults, direction_hints, missing_status_hints, quoted, unknown_word_hint
from importer.prepare.keys import call_keys
from importer.prepare.plan import Policies, Rules
from importer.prepare.starts import add_start, read_local_times, texts_of
from importer.reading.conditions import Conditions, Flags, matches, seconds_of
from schemas.vocabulary import Direction, Verdict

UNDECIDED = 255


def conditions_on(frame: pd.DataFrame, rules: Rules) -> Conditions:
    """Return the conditions on a chunk, with the format's derived columns."""
    agents = rules.plan.agents
    books = {rules.numbers, rules.plain_numbers} if agents.by_key else set()  # no text is read for an empty list
    return Conditions(
        frame,
        rules.extensions,
        rules.format.derived,
        lists=lambda text: any(agents.listed(text, book) for book in books),
        has=lambda column: not rules.headers.keys().isdisjoint(rules.format.origins(column)),
    )


def add_evidence(rows: pd.DataFrame, conditions: Conditions, rules: Rules) -> pd.DataFrame:
    """Return the rows of outgoing calls with their evidence.

    Takes the derived columns and ``call.direction``. Adds ``call.rank`` (uint8, Rank; PROBLEM where anything is
    not understood), ``call.outcome_rank`` (that of the outcome alone), ``call.start_time`` (datetime64[s], GMT),
    ``call.source_id`` and ``call.key`` as `call_keys` returns them, ``call.problem`` and ``call.hint`` (text, ""
    when the row is understood).
    """
    rows["call.problem"] = ""
    rows["call.hint"] = ""
    _add_ranks(rows, conditions, rules)
    starts = texts_of(rows, rules.format.time.columns)
    add_start(rows, starts, rules)
    was_cancelled = (rows["call.rank"] == Rank.CANCELLED).to_numpy()
    if was_cancelled.any():
        _count_cancelled(rows, was_cancelled, rules)
    unknown = rows["call.direction"] == ""
    open_rows = unknown & (rows["call.rank"].between(*STATE_RANKS) | (rows["call.rank"] == Rank.PROBLEM))
    if open_rows.any():  # of the others it does not matter which way they went: none would be notified
        rows.loc[open_rows, "call.problem"] = "unknown_direction"
        undirected = rows.loc[open_rows].copy()
        names = dict.fromkeys(rule.of for rule in rules.format.endpoint)
        undirected = conditions.select(open_rows.to_numpy(), undirected).with_texts(names)
        rows.loc[open_rows, "call.hint"] = direction_hints(undirected, rules)
        rows.loc[open_rows, "call.rank"] = np.uint8(Rank.PROBLEM)
    add_unmeasured(rows, was_cancelled, rules)
    _reject_ends_before_starts(rows, starts, rules)
    rows["call.source_id"], rows["call.key"] = call_keys(rows, rules.format)
    add_damage(rows, rules, starts)
    rows["call.outcome_rank"] = rows["call.rank"]
    rows["call.rank"] = rows["call.rank"].where(rows["call.problem"] == "", np.uint8(Rank.PROBLEM))
    if unknown.any():
        attended = rows["call.rank"] == Rank.ATTENDED
        rows.loc[rows["call.problem"] == "unknown_direction", "call.rank"] = np.uint8(Rank.UNDIRECTED)
        rows.loc[unknown & attended, "call.rank"] = np.uint8(Rank.UNDIRECTED_ATTENDED)
    return rows


def _reject_ends_before_starts(rows: pd.DataFrame, starts: pd.Series, rules: Rules) -> None:
    """Give rows of a state a problem where the call ends or is answered before its start: one of the two is wrong.

    Systems round either to the second, and spreadsheets show an end without its seconds.
    """
    call = rules.format.call
    for columns in filter(None, (call.end_time, (call.answer_time,) if call.answer_time else ())):
        open_rows = rows["call.rank"].between(*STATE_RANKS) & (rows["call.problem"] == "")
        some = rows.loc[open_rows & rows["call.start_time"].notna()]
        if not len(some):
            continue
        texts, started = texts_of(some, columns), some["call.start_time"]
        read = read_local_times(texts, some, rules)["utc"]
        is_short = (read == started.dt.floor("min")) & ~matches(texts, ".*:[0-9]{2}:[0-9]{2}.*")
        is_before = (read < started - pd.Timedelta(1, "s")) & ~is_short
        if is_before.any():
            faults = pd.Series("end_before_start", index=some.index[is_before])
            add_faults(rows, faults, texts, rules, columns[0])
            first = rules.shown(rules.format.time.columns)[0]
            further = [f" Column {first} holds {quoted(start)}." for start in starts[faults.index]]
            rows.loc[faults.index, "call.hint"] = rows.loc[faults.index, "call.hint"] + further


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
    """Rank rows by the words of one column; return the hint of each row whose word is in no table, else ""."""
    codes, words = pd.factorize(rows[rule.column or ""])
    known: dict[str, Cause | str] = {}
    for word, meaning in rule.words.items():
        known.setdefault(word_key(word), "next" if meaning == "next" else Cause(otherwise=Verdict(meaning)))
    for word, cause in (rules.causes[rule.table].words if rule.table else {}).items():
        known.setdefault(word_key(word), cause)
    # Reading has made 486 of 486.0; a table of the operator may have either.
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
    pairs = zip(words, causes, strict=True)
    hints = [unknown_word_hint(word, rule, rules) if cause is None else "" for word, cause in pairs]
    return np.where(unknown, np.array(hints, dtype=object)[codes], "")


def _rank_of(verdict: Verdict | Literal["unknown"], policies: Policies) -> Rank:
    """Return the rank of a verdict, or of the verdict as which a policy counts it."""
    if verdict == "unknown":
        return Rank.PROBLEM
    if verdict == Verdict.OUR_SIDE and policies.our_side != "skip":
        return Rank.OUR_SIDE_COUNTED
    return Rank[(Verdict(policies.voicemail) if verdict == Verdict.VOICEMAIL else verdict).name]


def _count_cancelled(rows: pd.DataFrame, was_cancelled: Flags, rules: Rules) -> None:
    """Rank calls that the agent gave up as not answered if they rang long enough or, by policy, for unknown time.

    Where the ringing is not on record the whole call bounds it: it cannot have rung longer than it lasted.
    """
    cancelled, policies, call = rows.loc[was_cancelled], rules.policies, rules.format.call
    rang, lasted = (
        seconds_of(cancelled[name]).mask(unmeasured(cancelled[name]))
        if name
        else pd.Series(np.nan, cancelled.index)
        for name in (call.ring_seconds, call.duration_seconds)
    )
    counts = rang >= policies.cancelled_ring_seconds
    if policies.cancelled_unknown == "noanswer":
        if call.end_time:
            texts = texts_of(cancelled, call.end_time)
            ended = read_local_times(texts, cancelled, rules)
            between = (ended["utc"] - cancelled["call.start_time"]).dt.total_seconds()
            is_lost = rang.isna() & lasted.isna() & (cancelled["call.problem"] == "") & ~matches(texts, NO_TIME)
            faults = ended["reason"][is_lost & (ended["reason"] == "unreadable_time")]
            add_faults(rows, faults, texts, rules, call.end_time[0])
            # An end equal to the start proves nothing: systems write one stamp twice where they measured nothing.
            lasted = lasted.fillna(between.where(between > 0))
        counts |= rang.isna() & ~(lasted < policies.cancelled_ring_seconds)
    rows.loc[counts.index[counts], "call.rank"] = np.uint8(Rank.NOANSWER)
