"""What each row of a chunk says: where the call went, what became of it, when it started, which call it is of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.formats import CauseTable, CdrFormat
from importer.formats.language import Cause, OutcomeRule, Zone
from importer.prepare.groups import Rank
from importer.prepare.plan import PreparePlan
from importer.reading.conditions import Conditions, Extensions, extracted, joined, seconds_of, values_of
from schemas import times
from schemas.vocabulary import Direction, Verdict

RANK_OF = {
    Verdict.ATTENDED: Rank.ATTENDED,
    Verdict.BUSY: Rank.BUSY,
    Verdict.REJECTED: Rank.REJECTED,
    Verdict.BLOCKED: Rank.BLOCKED,
    Verdict.INVALID: Rank.INVALID,
    Verdict.NOTAVAILABLE: Rank.NOTAVAILABLE,
    Verdict.NOANSWER: Rank.NOANSWER,
    Verdict.VOICEMAIL: Rank.NOANSWER,
    Verdict.CANCELLED: Rank.CANCELLED,
    Verdict.OUR_SIDE: Rank.OUR_SIDE,
    Verdict.IGNORE: Rank.IGNORE,
}

UNDECIDED = 255


@dataclass(frozen=True, slots=True)
class Rules:
    """One format with the cause tables it uses and what the operator wants."""

    format: CdrFormat
    causes: Mapping[str, CauseTable]
    plan: PreparePlan

    def extensions(self) -> Extensions:
        """Return how our own internal numbers are recognised."""
        return Extensions(self.format.numbers.extension, self.plan.agents.extensions)


def with_derived(frame: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Return the chunk with the format's derived columns (text) added."""
    for name, sources in rules.format.derived.items():
        frame[name] = values_of(frame, sources, rules.extensions())
    return frame


def directions(frame: pd.DataFrame, rules: Rules) -> pd.Series:
    """Return for each row its Direction as text, "" where no rule of the format holds."""
    conditions = Conditions(frame, rules.extensions())
    found = np.full(len(frame), "", dtype=object)
    open_rows = np.ones(len(frame), dtype=np.bool_)
    for rule in rules.format.direction:
        decided = open_rows & conditions.hold(rule.when)
        found[decided] = rule.value.value
        open_rows &= ~decided
    return pd.Series(found, index=frame.index)


def add_evidence(rows: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """Return the rows of outgoing calls with what they say of the call.

    Takes the derived columns and ``call.direction``; adds ``call.rank`` (uint8, Rank), ``call.start_time`` (datetime64[s],
    GMT), ``call.problem`` and ``call.problem_hint`` (text, "" when the row is understood).
    """
    rows["call.problem"] = ""
    rows["call.problem_hint"] = ""
    unknown = rows["call.direction"] == ""
    rows.loc[unknown, "call.problem"] = "unknown_direction"
    rows.loc[unknown, "call.problem_hint"] = _direction_hint(rules.format)
    _add_ranks(rows, rules)
    _add_start(rows, rules)
    rows.loc[rows["call.problem"] != "", "call.rank"] = Rank.PROBLEM
    return rows


def _direction_hint(cdr_format: CdrFormat) -> str:
    columns = ", ".join(
        dict.fromkeys(cdr_format.shown(name) for rule in cdr_format.direction for name in rule.when)
    )
    return (
        f"Columns {columns} do not tell whether this call went out or came in: "
        "list the agent's extension in the agents file, or add a [[direction]] rule to a format of your own."
    )


def _add_ranks(rows: pd.DataFrame, rules: Rules) -> None:
    ranks = np.full(len(rows), UNDECIDED, dtype=np.uint8)
    ranks[(rows["call.direction"] == Direction.AGENT_LEG).to_numpy()] = Rank.AGENT_LEG
    ranks[(rows["call.direction"] == "").to_numpy()] = Rank.PROBLEM
    conditions = Conditions(rows, rules.extensions())
    for rule in rules.format.outcome:
        open_rows = ranks == UNDECIDED
        if not open_rows.any():
            break
        if rule.column is None and rule.value is not None:
            ranks[open_rows & conditions.hold(rule.when)] = RANK_OF[rule.value]
        else:
            _look_up(rows, ranks, open_rows & conditions.hold(rule.when), rule, rules)
    missing = ranks == UNDECIDED
    rows.loc[missing, "call.problem"] = "missing_status"
    rows.loc[missing, "call.problem_hint"] = _missing_hint(rules.format)
    ranks[_cancelled_after_ringing(rows, ranks, rules)] = Rank.NOANSWER
    rows["call.rank"] = ranks


def _missing_hint(cdr_format: CdrFormat) -> str:
    columns = ", ".join(dict.fromkeys(cdr_format.shown(rule.column) for rule in cdr_format.outcome if rule.column))
    return f"Column {columns} is empty: nothing says what became of the call. Export the row again or remove it."


def _look_up(
    rows: pd.DataFrame,
    ranks: npt.NDArray[np.uint8],
    open_rows: npt.NDArray[np.bool_],
    rule: OutcomeRule,
    rules: Rules,
) -> None:
    """Rank the open rows by the words of one column; a word that nothing knows is a problem of its row."""
    codes, words = pd.factorize(rows[rule.column or ""])
    rang, talked = _rang_and_talked(rows, rules.format)
    for code, word in enumerate(words):
        chosen = open_rows & (codes == code)
        if word == "" or not chosen.any():
            continue
        cause = _cause(word, rule, rules.causes)
        if cause is None:
            ranks[chosen] = Rank.PROBLEM
            rows.loc[chosen, "call.problem"] = "unknown_status"
            rows.loc[chosen, "call.problem_hint"] = _unknown_word_hint(word, rule, rules.format)
        elif isinstance(cause, Cause):
            ranks[chosen] = RANK_OF[cause.otherwise]
            if cause.rang is not None:
                ranks[chosen & rang] = RANK_OF[cause.rang]
            if cause.talked is not None:
                ranks[chosen & talked] = RANK_OF[cause.talked]


def _cause(word: str, rule: OutcomeRule, causes: Mapping[str, CauseTable]) -> Cause | str | None:
    """Return what a word means: a cause, the word ``next``, or None when nothing knows it."""
    key = word_key(word)
    for known, meaning in rule.words.items():
        if word_key(known) == key:
            return meaning if meaning == "next" else Cause(otherwise=Verdict(meaning))
    table = causes[rule.table].words if rule.table else {}
    return next((cause for known, cause in table.items() if word_key(known) == key), None)


def word_key(word: str) -> str:
    """Return a status word in the form in which words are compared: without case, spaces, `-` and `_`."""
    return re.sub(r"[\s_-]+", "", word.casefold())


def _unknown_word_hint(word: str, rule: OutcomeRule, cdr_format: CdrFormat) -> str:
    where = (
        f"[words] of the cause table {rule.table} (schemas/causes/{rule.table}.toml)"
        if rule.table
        else f"the words of the format {cdr_format.name}"
    )
    shown = cdr_format.shown(rule.column or "")
    return f'Column {shown}: no table knows "{word}". Add a line `"{word}" = "..."` to {where}.'


def _rang_and_talked(
    rows: pd.DataFrame, cdr_format: CdrFormat
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    call = cdr_format.call
    rang = np.zeros(len(rows), dtype=np.bool_)
    talked = np.zeros(len(rows), dtype=np.bool_)
    if call.ring_seconds:
        rang |= (seconds_of(rows[call.ring_seconds]) > 0).to_numpy()
    if call.talk_seconds:
        talked |= (seconds_of(rows[call.talk_seconds]) > 0).to_numpy()
    if call.answer_time:
        talked |= (rows[call.answer_time] != "").to_numpy()
    return rang, talked


def _cancelled_after_ringing(
    rows: pd.DataFrame, ranks: npt.NDArray[np.uint8], rules: Rules
) -> npt.NDArray[np.bool_]:
    """Say which calls the agent gave up count as not answered: long enough ringing, or no way to tell."""
    cancelled = np.asarray(ranks == Rank.CANCELLED, dtype=np.bool_)
    column = rules.format.call.ring_seconds
    if column is None or not cancelled.any():
        return cancelled
    seconds = seconds_of(rows[column]).to_numpy()
    long_enough = seconds >= rules.plan.policies.cancelled_ring_seconds
    return np.asarray(cancelled & (np.isnan(seconds) | long_enough), dtype=np.bool_)


def _add_start(rows: pd.DataFrame, rules: Rules) -> None:
    spec = rules.format.time
    texts = rows[spec.columns[0]]
    for name in spec.columns[1:]:
        texts = texts + " " + rows[name]
    texts = texts.str.strip() if len(spec.columns) > 1 else texts
    evidence = None
    if spec.evidence is not None:
        digits = extracted(rows[spec.evidence.column], spec.evidence.extract)
        evidence = pd.to_numeric(digits.where(digits != ""), errors="coerce").astype("Int64")
    read = times.read_times(texts, times.TimeRules(spec.formats, _zone(rules)), evidence)
    rows["call.start_time"] = read["utc"]
    faulty = (
        (read["reason"] != "") & (rows["call.rank"] != Rank.ATTENDED) & (rows["call.problem"] == "")
    ).to_numpy()
    if faulty.any():
        column = " ".join(rules.format.shown(name) for name in spec.columns)
        rows.loc[faulty, "call.problem"] = read["reason"][faulty]
        rows.loc[faulty, "call.problem_hint"] = [
            times.REASONS[reason].format(column=column, value=f'"{text}"')
            for reason, text in zip(read["reason"][faulty], texts[faulty], strict=True)
        ]


def _zone(rules: Rules) -> str | None:
    zone = rules.format.time.zone
    if zone == Zone.OPTION:
        return rules.plan.timezone
    return None if zone == Zone.VALUE else zone


def call_keys(rows: pd.DataFrame, cdr_format: CdrFormat) -> pd.DataFrame:
    """Return ``source_id`` (the export's own id of the call, "" without one) and ``key`` (what makes the call).

    ``key`` is "" where the row has neither an id nor all the columns that make a call unique.
    """
    source_id = pd.Series("", index=rows.index, dtype="str")
    for candidate in cdr_format.call.id:
        parts = [rows[name] for name in candidate]
        value = parts[0] if len(parts) == 1 else joined(parts).str.replace("\x1f", ".")
        complete = (value != "") if len(parts) == 1 else _all_filled(parts)
        source_id = source_id.where((source_id != "") | ~complete, value)
    key = ("i" + source_id).where(source_id != "", "")
    if cdr_format.call.unique_by:
        parts = [rows[name] for name in cdr_format.call.unique_by]
        key = key.where((key != "") | ~_all_filled(parts), "u" + joined(parts))
    return pd.DataFrame({"source_id": source_id, "key": key})


def _all_filled(parts: list[pd.Series]) -> pd.Series:
    filled = parts[0] != ""
    for part in parts[1:]:
        filled &= part != ""
    return filled
