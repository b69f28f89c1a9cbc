"""Hints of rows that cannot be used: the file's own columns, the values, what to do."""

import json
import re
from collections.abc import Sequence
from itertools import product

import pandas as pd

from importer.formats.language import OutcomeRule
from importer.prepare.plan import Rules
from schemas import data, numbers, times
from schemas.call import DAMAGED_USER
from schemas.vocabulary import Role, Verdict

LONGEST_VALUE = 80


def quoted(text: str) -> str:
    """Return a value of the export in quotes, cut where it is over-long."""
    return f'"{text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."}"'


def subject(columns: Sequence[str], one: str = "", several: str = "") -> str:
    """Return `Column a` or `Columns a, b`, with a verb of their number."""
    is_many = len(columns) > 1
    return f"Column{'s' * is_many} {', '.join(columns)}{' ' * bool(one)}{several if is_many else one}"


def direction_hints(rows: pd.DataFrame, rules: Rules) -> list[str]:
    """Return for each row why nothing says whether its call went out or came in."""
    cdr_format = rules.format
    asked = [cdr_format.origins(name) for rule in cdr_format.direction for name in rule.when]
    origins = [next((each for each in found if each in rules.headers), found[0]) for found in asked]
    there = list(dict.fromkeys(name for name in origins if name in rules.headers)) or list(dict.fromkeys(origins))
    shown = rules.shown(there)
    tests = [(name, test) for rule in cdr_format.direction for name, test in rule.when.items()]
    sources = [source for name in {name for name, _ in tests} for source in cdr_format.derived.get(name, ())]
    tests += [each for source in sources for each in source.when.items()]
    asks_for_agents = any(source.agent for source in sources)
    asks_for_agents |= any(test.extension is not None or test.role is not None for _, test in tests)
    agents = " list the agent in the agents file (--agents)," if asks_for_agents else ""
    todo = f"Correct the value,{agents} or add a [[direction]] rule to a format of your own."
    doubts = [""] * len(rows)
    # Where the export does not name the far end its columns tell more.
    names_trunks = any(rule.value is Role.TRUNK for rule in cdr_format.endpoint)
    names = [*dict.fromkeys(rule.of for rule in cdr_format.endpoint if not rule.of.startswith("dialled"))]
    for (role, doubt), name in product(data("hints")["roles"].items(), names if names_trunks else ()):
        roles = rules.extensions.roles_of(rows[name])
        for place, (text, each) in enumerate(zip(rows[name], roles, strict=True)):
            if text and each == role and not doubts[place]:
                doubts[place] = f"{quoted(text)} {doubt}"
    hints = []
    known = rows.reindex(columns=there, fill_value="")  # without those that neither the file nor the format has
    for values, doubt in zip(known.itertuples(index=False, name=None), doubts, strict=True):
        if doubt:
            hints.append(doubt)
            continue
        filled = [f"{column} {quoted(value)}" for column, value in zip(shown, values, strict=True) if value]
        what = f"{subject(filled, 'does', 'do')} not tell"
        what = what if filled else f"{subject(shown, 'is', 'are')} empty: nothing tells"
        hints.append(f"{what} whether the call went out or came in. {todo}")
    return hints


def value_hints(faults: pd.Series, texts: pd.Series, rows: pd.DataFrame, rules: Rules, name: str) -> list[str]:
    """Return for each of ``faults``, the reasons of some rows, what it says of the text of column ``name``.

    ``rows`` have the columns of the file that ``name`` is taken from.
    """
    origins = [origin for origin in rules.format.origins(name) if origin in rules.headers]
    shown = rules.shown(origins)
    first = rules.shown((name,))[0]
    cells = (column.loc[faults.index].tolist() for column in (texts, *(rows[origin] for origin in origins)))
    hints = []
    for reason, text, *values in zip(faults.tolist(), *cells, strict=True):
        places = (place for place, value in enumerate(values) if text and text in value)
        column = next((shown[place] for place in places), first)
        hints.append(_SENTENCES[reason].format(column=column, value=quoted(text)))
    return hints


def add_faults(rows: pd.DataFrame, faults: pd.Series, texts: pd.Series, rules: Rules, name: str) -> None:
    """Set ``call.problem`` of some rows to ``faults``, their reasons, and ``call.hint`` to `value_hints`."""
    if len(faults):
        rows.loc[faults.index, "call.problem"] = faults
        rows.loc[faults.index, "call.hint"] = value_hints(faults, texts, rows, rules, name)


_SENTENCES = {**numbers.REASONS, **times.REASONS, **data("hints")["others"]}


def missing_status_hints(rows: pd.DataFrame, rules: Rules) -> list[str]:
    """Return for each row why nothing in it says what became of the call."""
    outcomes = rules.format.outcome
    names = [rule.column for rule in outcomes if rule.column]
    # What a rule for an empty cell asks besides is no reason where that cell is filled.
    left_open = [rule.when for rule in outcomes if rule.value == "unknown"]
    left_open = [tests for tests in left_open if not any(test.empty for test in tests.values())]
    names += [name for tests in (left_open if names else (rule.when for rule in outcomes)) for name in tests]
    names = [*dict.fromkeys(names)]
    columns = rules.shown(names)
    origins = dict.fromkeys(origin for name in names for origin in rules.format.origins(name))
    there = [name for name in origins if name in rules.headers]
    shown, hints = rules.shown(there), []
    for values in rows[there].itertuples(index=False, name=None):
        filled = [f"{column} {quoted(value)}" for column, value in zip(shown, values, strict=True) if value]
        what = f"{subject(filled, 'does', 'do')} not decide: nothing else"
        what = what if filled else f"{subject(columns, 'is', 'are')} empty: nothing"
        hints.append(f"{what} says what became of the call. Export the row again, or remove it.")
    return hints


def unknown_word_hint(word: str, rule: OutcomeRule, rules: Rules) -> str:
    """Return what is said where a status word is in no table: the file, and a line without a meaning."""
    column = rules.shown((rule.column or "",))[0]
    line = f"""`{json.dumps(word, ensure_ascii=False)} = "..."`"""
    choices = f"with what it means in place of the dots: {', '.join([*Verdict][:-1])} or {[*Verdict][-1]}."
    holds = f"Column {column} holds {quoted(word)}, a word that the"
    if rule.table:
        return (
            f"{holds} cause table {rule.table} does not know: add the line {line} under [words] in "
            f"causes/{rule.table}.toml of your configuration folder, {choices}"
        )
    return (
        f"{holds} format {rules.format.name} does not know: use one of {', '.join(rule.words)}, or add {line} to "
        f"the `words` of its [[outcome]] in a format of your own, {choices}"
    )


def keyless_hint(rules: Rules) -> str:
    """Return what is said where nothing ties a row to its call."""
    cdr_format = rules.format
    ids = rules.shown(name for candidate in cdr_format.call.id for name in candidate)
    columns = f"{subject(ids, 'is', 'are')} empty" if ids else ""
    if cdr_format.call.unique_by:
        others = subject(rules.shown(cdr_format.call.unique_by))
        columns += f"{', and of c' if ids else 'Of c'}{others[1:]} one is empty too"
    return f"{columns}: without an id the call could be notified twice. Export the row again with it."


def call_hint(reason: str, row: Sequence[str], rules: Rules) -> str:
    """Return what is said of a call that breaks the schema for this reason.

    ``row`` has the names of its agent, joined by the unit separator, its start as GMT text, recording and user,
    and what is said where it has no customer's number.
    """
    agents, start_text, voiceuri, zohouser, hint = row
    call = rules.format.call
    if reason == "future_time":
        starts = subject(rules.shown(rules.format.time.columns))
        return data("hints")["calls"][reason].format(columns=starts, start=start_text)
    if reason == "no_agent_number":
        columns = rules.shown(call.agent)
        named = [quoted(name) for name in dict.fromkeys(agents.split("\x1f")) if name]
        if not named:
            what = f"{subject(columns, 'is', 'are')} empty: nothing says which agent called."
            return f"{what} Fill it in, or give --default-agent-number."
        return (
            f"{subject(columns, 'names', 'name')} the agent as {', '.join(named)}, which is no telephone number, "
            "and the agents file has no number for it: add it there (--agents), or give --default-agent-number."
        )
    if reason == "invalid_voiceuri":
        shown = rules.shown((call.voiceuri or "",))[0]
        return data("hints")["calls"][reason].format(column=shown, value=quoted(voiceuri))
    if reason != "invalid_zohouser":
        return hint
    where = "column zohouser of the agents file or --default-zohouser"
    if call.zohouser and call.zohouser in rules.headers:
        where = f"column {rules.shown((call.zohouser,))[0]} or {where}"
    rule = "an id has only letters, digits, `.`, `_` and `-`, at most 64"
    if re.fullmatch(DAMAGED_USER, zohouser):
        rule = "a program took it for a number and wrote a point into it: write it anew, as text"
    return f"User {quoted(zohouser)} ({where}): {rule}."
