"""The questions by which a person at a terminal describes an export that no format fits."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from importer.cli.output import BACK, aligned, ask, show, show_lines, wrapped
from importer.errors import UsageError
from importer.formats.catalogue import RESERVED_NAMES, load_catalogue, load_format, user_folder
from importer.formats.drafting import Draft, agreed, draft_of, format_name, meanings_in, toml_text
from importer.formats.language import CauseTable, word_key
from importer.private_files import write_new
from importer.settings.options import Settings
from schemas.vocabulary import Direction, Verdict, counted

Answers = Mapping[str, tuple[str, ...]]
"""The answers so far, by key of the format or `outcome.WORD`: empty where there is no such column, else `OPEN`."""

OPEN = ("TODO",)
BY_ENDS = ("by its ends",)
"""The answer that no column says which way a call went: those of our extensions went out."""
LISTS = ("columns", "formats", "id", "agent")
MEANINGS = {"direction": tuple(map(str, Direction)), "outcome": tuple(map(str, Verdict))}
REACHED = (Verdict.ATTENDED, Verdict.VOICEMAIL, Verdict.OUR_SIDE, Verdict.IGNORE)
"""What a word may mean beside a time of talk."""
REMARKS: Mapping[str, str] = {
    Direction.AGENT_LEG: "only our own telephone's part",
    Direction.OTHER_LEG: "a detail, another row has the call",
    Direction.OTHER_KIND: "a fax, a message",
    Verdict.ATTENDED: "the customer answered",
    Verdict.REJECTED: "declined",
    Verdict.BLOCKED: "barred",
    Verdict.INVALID: "no such number",
    Verdict.NOTAVAILABLE: "out of reach, switched off",
    Verdict.NOANSWER: "it rang, nobody answered",
    Verdict.CANCELLED: "our caller gave up while it rang",
    Verdict.VOICEMAIL: "or a machine answered",
    Verdict.OUR_SIDE: "our own line failed",
    Verdict.IGNORE: "another row tells",
}
_NUMBER = re.compile(r"\+?[0-9 ()/-]{7,}")
_WITH_PREFIX = re.compile(r"[+0][0-9 ()./-]{6,}")
_DURATION = re.compile(r"[0-9:.' hmins]{1,12}")
_SOME_DAY = datetime(2026, 4, 3, 14, 5)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the values that it takes, by what is typed; ``lines`` are shown above it."""

    key: str
    text: str
    values: Mapping[str, tuple[str, ...]]
    default: str | None = None
    lines: tuple[str, ...] = ()

    def check(self, typed: str) -> None:
        """Raise UsageError for what is no answer to this question."""
        if typed not in (*self.values, BACK, "?"):
            fit = ", ".join(self.values) or "nothing"
            raise UsageError(f"'{typed}' does not fit here", hint=f"What fits: {fit}; ? leaves it open.")


def describe(export: Path, settings: Settings) -> Path:
    """Ask what an export does not prove of its format, and write that to the user's own formats.

    What is left open is a draft in the working folder, since every run would refuse it there: ConfigurationError.
    """
    draft, catalogue = draft_of(export, settings), load_catalogue()
    show_lines(wrapped(f"{draft.file}: {draft.seen}. Its columns:"), err=True)
    columns = enumerate(draft.columns.values(), start=1)
    cells = [(str(number), each.header or each.name, ", ".join([*each.counts][:3])) for number, each in columns]
    show_lines(aligned((), cells), err=True)
    show("Answer with numbers. Enter takes the default, < goes back, ? leaves it open.", err=True)
    answers: dict[str, tuple[str, ...]] = {}
    while question := next(
        (each for each in _questions(draft, catalogue.causes, answers) if each.key not in answers), None
    ):
        show_lines(question.lines, err=True)
        typed = ask(question.text, question.default, question.check)
        if typed == BACK and answers:
            answers.popitem()
        elif typed and typed != BACK:
            answers[question.key] = question.values.get(typed, OPEN)
    own = user_folder() / "formats"
    files = {path.stem for folder in (Path(), own) for path in folder.glob("*.toml")}
    name = format_name(export.name.split(".")[0], {*catalogue.formats, *RESERVED_NAMES, *files})
    text = draft.text(name, catalogue.causes, _settled(draft, catalogue.causes, answers))
    path = (Path() if text.open_points() else own) / f"{name}.toml"
    write_new(path, text.text, with_folder=True)
    load_format(path, catalogue.causes)
    return path


def _settled(draft: Draft, causes: Mapping[str, CauseTable], answers: Answers) -> dict[str, str]:
    """Return what the answers settle: by the beginnings of its lines in a draft, and by its tables."""
    layouts = draft.starts().get(answers["columns"], ())
    lines = {
        key: f"{key} = {toml_text(values if key in LISTS else values[0])}"
        for key, values in {"formats": layouts, **answers}.items()
        if values not in ((), OPEN)
    }
    settled = {f"{key} = ": line for key, line in lines.items()}
    settled["# TODO read"] = "# Described by the answers of a person; rows with other words are rejected."
    settled["# TODO are these"] = "# As they stand in the file that was described."
    durations = (lines[key] for key in ("ring_seconds", "talk_seconds") if key in lines)
    settled["agent = "] = "\n".join((lines.get("agent", 'agent = ["TODO"]'), *durations))
    if answers["id"] != OPEN:
        unique = [*answers["columns"], *answers["agent"], *answers["customer"]]
        settled["unique_by = "] = "" if answers["id"] else f"unique_by = {toml_text(unique)}"
        settled.setdefault("id = ", "")
    way = answers["direction"]
    rules = [(f"{way[0]} = {toml_text(word)}", meant) for word, meant in _meanings(answers, "direction")]
    if not way:
        rules = [(f"{answers['customer'][0]} = {{ empty = false }}", "outgoing")]
    if way == BY_ENDS:
        called, caller = (f"{answers[end][0]} = {{ extension = true }}" for end in ("customer", "agent"))
        rules = [(f"{caller}, {called}", "internal"), (caller, "outgoing"), (called, "incoming")]
    if rules:
        tables = (f"[[direction]]\nwhen = {{ {test} }}\nis = {toml_text(meant)}" for test, meant in rules)
        settled["[[direction]]"] = "\n\n".join(tables)
    words = [f"{toml_text(word)} = {toml_text(meant)}" for word, meant in _meanings(answers, "outcome")]
    if below := [lines["table"]] if "table" in lines else words and ["[outcome.words]", *words]:
        told = "\n".join(("[[outcome]]", f"column = {toml_text(answers['outcome'][0])}", *below))
        settled["[[outcome]]"] = f"{_contradicted(causes, answers)}{told}"
    return settled


def _contradicted(causes: Mapping[str, CauseTable], answers: Answers) -> str:
    """Return a rule that rejects rows whose word is of an unattended call though they talked, "" without any."""
    table = causes.get("".join(answers.get("table", ())))
    of_table = ((word, each.talked or each.otherwise) for word, each in table.words.items()) if table else ()
    words = [word for word, meant in (*of_table, *_meanings(answers, "outcome")) if meant not in REACHED]
    if not words or answers["talk_seconds"] in ((), OPEN):
        return ""
    told = f"{answers['outcome'][0]} = {toml_text(words)}, {answers['talk_seconds'][0]} = {{ over = 0 }}"
    return f'# They talked, so word or meaning is wrong.\n[[outcome]]\nwhen = {{ {told} }}\nis = "unknown"\n\n'


def _meanings(answers: Answers, kind: str) -> list[tuple[str, str]]:
    """Return the words of a kind with what they mean, without those left open: their rows are rejected."""
    named = (
        (key.removeprefix(f"{kind}."), values) for key, values in answers.items() if key.startswith(f"{kind}.")
    )
    return [(word, values[0]) for word, values in named if values != OPEN]


def _questions(draft: Draft, causes: Mapping[str, CauseTable], answers: Answers) -> Iterator[Question]:
    """Yield the questions as far as the answers so far decide which, first those that a column answers."""
    number_of = {name: str(number) for number, name in enumerate(draft.columns, start=1)}
    starts = {" ".join(number_of[name] for name in names): names for names in draft.starts()}
    text = "When it began (date and clock apart: two numbers, as 2 3)"
    none = "No column has times as they are known here: ? leaves it open."
    yield Question("columns", text, starts, _only(starts), () if starts else (none,))
    if len(layouts := draft.starts().get(answers["columns"], ())) > 1:
        lines = tuple(f"  {number}  {_SOME_DAY:{layout}}" for number, layout in enumerate(layouts, start=1))
        yield Question("formats", "How the 3rd of April 2026 is written there", _numbered(layouts), lines=lines)
    columns = _numbered(draft.columns)
    others = {number_of[name]: column for name, column in draft.columns.items() if name not in answers["columns"]}
    untimed = {n: column for n, column in others.items() if not column.layouts}
    yield Question("id", "The system's own id of the call, no number of a person (0: none)", {"0": (), **columns})
    yield Question("agent", "Who of us called (extension, number, e-mail or name)", columns)
    used = (*answers["id"], *answers["agent"])
    dialled = [n for n, column in untimed.items() if column.is_mostly(_NUMBER) and column.name not in used]
    yield Question("customer", "The number that was called", columns, _only(dialled))
    few = {n: columns[n] for n, column in others.items() if column.words()}
    text = "Whether it went out or came in (0: all went out, 00: those of our extensions)"
    yield Question("direction", text, {"0": (), "00": BY_ENDS, **few})
    yield Question("outcome", "What became of it (busy, answered and so on)", few)
    times = {n: columns[n] for n, column in others.items() if column.is_mostly(_DURATION)}
    yield Question("ring_seconds", "How long it rang (0: no column)", {"0": (), **times}, "0")
    yield Question("talk_seconds", "How long they talked (0: no column)", {"0": (), **times}, "0")
    called = draft.columns.get("".join(answers["customer"]))
    text = "Numbers without + have 1 no country code, 2 their country code"
    default = "1" if called and called.is_mostly(_WITH_PREFIX) else None
    yield Question("plain_digits", text, _numbered(("national", "international")), default)
    yield from _about_words("direction", draft, answers, {})
    yield from _about_outcomes(draft, causes, answers)
    meant = [f"  {word} = {meaning}" for kind in MEANINGS for word, meaning in _meanings(answers, kind)]
    lines = ("What the words mean; rows with a word left open are rejected:", *meant)
    yield Question("all", "Right? 1 writes the format, < goes back", {"1": ()}, "1", lines)


def _numbered(values: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {str(number): (value,) for number, value in enumerate(values, start=1)}


def _only(numbers: Collection[str]) -> str | None:
    """Return the one number, None where there are none or several: that decides nothing."""
    return next(iter(numbers)) if len(numbers) == 1 else None


def _about_outcomes(draft: Draft, causes: Mapping[str, CauseTable], answers: Answers) -> Iterator[Question]:
    """Yield the questions about the words that say what became of a call, of codes first whose they are.

    Without the time of talk no table is offered that needs it: an answered call would count as unanswered.
    """
    column = draft.columns.get("".join(answers["outcome"]))
    words = [word for word, _ in column.words()] if column else []
    tables = [each for each in causes.values() if all(map(str.isdecimal, words)) and {*words} <= each.words.keys()]
    if answers["talk_seconds"] in ((), OPEN):
        tables = [each for each in tables if not any(each.words[code].talked for code in words)]
    if words and tables:
        rows = []
        for number, table in enumerate(tables, start=1):
            meant = (filter(None, (table.words[code].otherwise, table.words[code].talked)) for code in words[:3])
            some = (f"{code} {' or '.join(each)}" for code, each in zip(words, meant, strict=False))
            rows.append((f"  {number}", table.title, ", ".join(some)))
        names = _numbered(each.name for each in tables)
        yield Question("table", "Table of these codes (0: none)", {"0": (), **names}, lines=(*aligned((), rows),))
    if answers.get("table", OPEN) in ((), OPEN):
        meanings = meanings_in(causes)
        likely = {word: agreed(meanings.get(word_key(word), {})) for word in words}
        yield from _about_words("outcome", draft, answers, likely)


def _about_words(kind: str, draft: Draft, answers: Answers, likely: Mapping[str, str]) -> Iterator[Question]:
    """Yield a question for each word of the column of a ``kind``, the first with what words can mean."""
    values = _numbered(MEANINGS[kind])
    numbers = {meant: number for number, (meant,) in values.items()}
    remarks = aligned((), [(f"  {number}", meant, REMARKS.get(meant, "")) for meant, number in numbers.items()])
    lines = ("What each word means:", *remarks)
    column = draft.columns.get("".join(answers[kind]))
    for word, count in column.words() if column else ():
        default = numbers.get(likely.get(word, ""))
        yield Question(f"{kind}.{word}", f"{word}, {counted(count, 'row')}", values, default, lines)
        lines = ()
