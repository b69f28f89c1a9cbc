"""A draft as TOML: what was seen, with its evidence, and the word TODO wherever a person must decide."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from importer.formats.detection import RESAVED_DELIMITERS
from importer.formats.drafting.export import FALLBACK_ENCODINGS, MOST_ROWS, Column, Export
from importer.formats.drafting.outcomes import Reading, Word, read_words
from importer.formats.drafting.roles import INCOMING, INTERNAL, OUTGOING, Role
from importer.formats.language import CauseTable, word_key
from schemas.vocabulary import Direction, Verdict

Roles = Mapping[str, Role]

_WIDTH = 100
_MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}


def draft_text(name: str, export: Export, roles: Roles, causes: Mapping[str, CauseTable]) -> str:
    """Return the draft: TOML that `load_format` refuses until every TODO in it is settled."""
    parts = (
        _head(name, export),
        _columns(export, roles),
        _directions(export, roles["direction"], roles["agent"], roles["customer"]),
        _outcomes(roles, causes),
        _time(export, roles["start"]),
        _numbers(roles["customer"]),
        _call(roles),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML takes no DEL


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _said(text: str) -> Iterator[str]:
    """Yield a comment, broken into lines."""
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _name(column: Column | None, what: str) -> str:
    """Return the line's value for a role: the column's name, or an open point."""
    return _text(column.name) if column else f'"TODO" # TODO {what}'


def _head(name: str, export: Export) -> Iterator[str]:
    delimiter = _MARKS.get(export.delimiter, export.delimiter)
    header = f"header in line {export.header_line}" if export.header_line else "no header"
    yield "# TODO read this draft line by line, above all the words under [[outcome]]; then delete this line."
    yield "#"
    yield from _said(
        "Made by `cdr-importer formats new`. What a person must decide is marked by that word on its line; the "
        "format is refused until none is left. The README says under `Adding a format` what can stand here."
    )
    first = "the first " if export.rows >= MOST_ROWS else ""
    yield from _said(
        f"Seen in {export.name}: {first}{_rows(export.rows)}, {export.encoding}, delimiter {delimiter}, {header}."
    )
    if export.header_line:
        yield f"# True header: {export.delimiter.join(column.shown for column in export.columns)}"
    yield ""
    yield f"name = {_text(name)}"
    yield f"title = {_text(name)} # product and version, as `cdr-importer formats` shows them"
    yield 'certainty = "real"'
    yield "notes = [] # what the export cannot tell, for whoever reads `detect`"


def _columns(export: Export, roles: Roles) -> Iterator[str]:
    yield "[file]"
    others = [mark for mark in RESAVED_DELIMITERS if mark != export.delimiter]
    yield f"delimiters = {_list([export.delimiter, *others] if export.header_line else [export.delimiter])}"
    yield f"encodings = {_list(FALLBACK_ENCODINGS)}"
    if not export.header_line:
        yield from _layout(export)
        return
    taken = [column for role in roles.values() for column in (role.column, role.clock) if column]
    used = {column.name for column in taken}
    yield ""
    yield from _said(
        "The columns that must be there, by which such a file is recognised, as name = header. A header is "
        "compared without case and punctuation; a list holds several spellings."
    )
    yield "[columns]"
    yield from (_column(column) for column in export.columns if column.name in used)
    yield ""
    yield from _said("Columns that need not be there. To use one, name it below.")
    yield "[optional_columns]"
    yield from (_column(column) for column in export.columns if column.name not in used and column.header)


def _column(column: Column) -> str:
    return f"{column.name} = {_text(column.header)} # {_look(column)}"


def _look(column: Column) -> str:
    filled = f"{column.filled} filled, {column.distinct} different"
    return f"{column.kind}; {filled}" if column.filled else "empty in every row"


def _layout(export: Export) -> Iterator[str]:
    """Yield the columns of an export without header, which is recognised by what its cells look like."""
    yield "header = false"
    yield ""
    yield from _said("No header: the columns by their order. Give them names that say what they are.")
    yield "# TODO are these the columns, in every file of this system?"
    yield "[[layouts]]"
    yield f"columns = {_list([column.name for column in export.columns])}"
    yield from _said("; ".join(f"{column.name}: {_look(column)}" for column in export.columns))
    yield ""
    yield from _said("By these a file is recognised: in most rows each cell must match as a whole.")
    yield "[detect.patterns]"
    for column in export.columns:
        if column.pattern:
            yield f"{column.name} = {_text(column.pattern)}"


def _directions(export: Export, direction: Role, agent: Role, customer: Role) -> Iterator[str]:
    yield from _said(
        f"Which way a call went: {', '.join(Direction)}. The first rule that holds decides; a row for which none "
        "holds is rejected."
    )
    if direction.column is None:
        yield from _directions_without_column(export, agent, customer)
        return
    column = direction.column
    yield from _alternatives(direction, "direction")
    for is_first, (word, count) in zip([True, *[False] * len(column.words)], column.words, strict=False):
        if not is_first:
            yield ""
        yield f"[[direction]] # {_rows(count)}"
        yield f"when = {{ {column.name} = {_text(word)} }}"
        known = _direction_of(word)
        yield f"is = {_text(known)}" if known else 'is = "TODO" # TODO which of those above?'


def _direction_of(word: str) -> str:
    key = word_key(word)
    for words, meaning in ((OUTGOING, "outgoing"), (INCOMING, "incoming"), (INTERNAL, "internal")):
        if key in words:
            return meaning
    return ""


def _directions_without_column(export: Export, agent: Role, customer: Role) -> Iterator[str]:
    yield from _said("No column was found that says it.")
    yield "# TODO does the export hold outgoing calls only? Then one rule is enough, as this one:"
    anchor = customer.column or agent.column or export.columns[0]
    yield "[[direction]]"
    yield f"when = {{ {anchor.name} = {{ empty = false }} }}"
    yield 'is = "outgoing"'
    if agent.column and customer.column:
        yield from _said("Else tell our own extensions from numbers outside (see [numbers] extension):")
        ours = [f"{column.name} = {{ extension = true }}" for column in (agent.column, customer.column)]
        for tests, meaning in ((", ".join(ours), "internal"), (ours[0], "outgoing"), (ours[1], "incoming")):
            yield f"# [[direction]]\n# when = {{ {tests} }}\n# is = {_text(meaning)}"


def _alternatives(role: Role, what: str) -> Iterator[str]:
    if role.others:
        shown = ", ".join(f"`{column.shown}`" for column in role.others)
        yield f"# TODO is column `{role.column.shown if role.column else ''}` the {what}, and not {shown}?"


def _outcomes(roles: Roles, causes: Mapping[str, CauseTable]) -> Iterator[str]:
    status, answered, talk = (roles[name] for name in ("status", "answer_time", "talk_seconds"))
    yield from _said(
        f"What became of a call: {', '.join(Verdict)}. Here too the first rule that holds decides. A word that "
        "nothing knows makes a rejected row."
    )
    if answered.column:
        yield from _said("Does only the customer's answer fill this column? Then this rule may stand first:")
        yield f'# [[outcome]]\n# when = {{ {answered.column.name} = {{ empty = false }} }}\n# is = "attended"'
    elif talk.column:
        yield from _said(
            "Is this the time talked with the customer, without ringing? Then this rule may stand first:"
        )
        yield f'# [[outcome]]\n# when = {{ {talk.column.name} = {{ over = 0 }} }}\n# is = "attended"'
    if status.column is None:
        yield "# TODO no column was found that says it: name one, with a table or words"
        yield '[[outcome]]\ncolumn = "TODO"\nwords = { ANSWERED = "attended" }'
        return
    yield from _alternatives(status, "status")
    if not status.column.words:
        yield f"# TODO column `{status.column.shown}` holds too many different texts to be listed here"
    yield from _looked_up(status.column, read_words(status.column.words, causes))


def _looked_up(column: Column, reading: Reading) -> Iterator[str]:
    yield "[[outcome]]"
    yield f"column = {_text(column.name)}"
    if reading.table:
        yield f"table = {_text(reading.table)} # knows what is not listed below"
        yield from (f"# {_seen(word)}" for word in reading.words if not reading.is_open(word))
    listed = [word for word in reading.words if reading.is_open(word) or not reading.table]
    if listed or not reading.table:
        yield "\n[outcome.words]"
    for word in listed:
        verdict = "TODO" if reading.is_open(word) else word.agreed()
        yield f"{_text(word.text)} = {_text(verdict)} # {_seen(word, with_word=False)}"
    if not listed and not reading.table:
        yield '"ANSWERED" = "TODO"'


def _seen(word: Word, *, with_word: bool = True) -> str:
    counted = f"{_rows(word.count)}; {word.said()}"
    return f"{_text(word.text)}: {counted}" if with_word else counted


def _time(export: Export, start: Role) -> Iterator[str]:
    yield from _said(
        'When the call started. Local times need --timezone; write zone = "UTC" or another IANA name if the '
        'system always writes that, zone = "value" if each time carries its offset.'
    )
    yield from _alternatives(start, "start")
    yield "[time]"
    if start.column is None:
        yield f'columns = ["TODO"] # TODO which column, or which two (date and clock)?{_dates(export)}'
        yield 'formats = ["%Y-%m-%d %H:%M:%S"]'
        return
    clock = start.clock
    yield f"columns = {_list([column.name for column in (start.column, clock) if column])}"
    formats = [f"{each} {clock.time_formats[0]}" if clock else each for each in start.column.time_formats]
    yield f"formats = {_list(formats[:1])}{_day_or_month(formats)}"
    if start.column.is_absolute:
        yield 'zone = "value" # every time seen carries its offset'
    elif re.search(r"utc|gmt", start.column.header.casefold()):
        yield 'zone = "UTC" # its header says so'


def _day_or_month(formats: Sequence[str]) -> str:
    """Return an open point where the cells can be read with day and month swapped."""
    for each in formats[1:]:
        if each.translate(str.maketrans("md", "dm")) == formats[0]:
            return f" # TODO day or month first? Else {_text(each)}; every date seen can be both"
    return ""


def _dates(export: Export) -> str:
    likely = [column.shown for column in export.columns if re.search(r"(?i)date|time|start", column.header)]
    return f" By their headers: {', '.join(likely)}" if likely else ""


def _numbers(customer: Role) -> Iterator[str]:
    yield from _said(
        'What digits without + are: "national" numbers (--country says of where), or "international" with the '
        "country code in front. `outside_prefix` is what is dialled to get a line, `extension` what our own "
        "numbers look like."
    )
    yield "[numbers]"
    shapes = customer.column.shapes if customer.column else ()
    plain = [(shape, count) for shape, count in shapes if "+" not in shape]
    if plain or not shapes:
        seen = ", ".join(f"{count} of {shape}" for shape, count in shapes)
        yield f'plain_digits = "TODO" # TODO national or international?{f" Seen: {seen}" if seen else ""}'
    else:
        yield 'plain_digits = "national" # every number seen has its +'
    yield '# outside_prefix = "9"'
    yield r"# extension = '\d{2,5}'"


def _call(roles: Roles) -> Iterator[str]:
    customer, agent, start = (roles[name].column for name in ("customer", "agent", "start"))
    yield from _said(
        "Which columns make the call. Rows with one id are one call; without an id the columns of unique_by make "
        "it."
    )
    yield "[call]"
    found = roles["id"]
    yield from _alternatives(found, "id of the call")
    if found.column is None:
        yield '# id = ["..."] # no column was found that could be the system\'s own id of the call'
    else:
        yield f"id = [{_text(found.column.name)}]"
        if found.column.distinct < found.column.filled:
            rows = _rows(found.column.filled - found.column.distinct)
            yield f"legs = true # TODO {rows} more than ids: are they legs of a call? Else take another id"
        else:
            yield "legs = false # every row seen has an id of its own"
    clock = roles["start"].clock
    unique = [column.name for column in (agent, customer, start, clock) if column]
    yield (
        f"unique_by = {_list(unique)}"
        if agent and customer and start
        else 'unique_by = ["TODO"] # TODO which columns?'
    )
    yield from _alternatives(roles["customer"], "customer's number")
    yield f"customer = {_name(customer, 'which column has the number that was called?')}"
    yield from _alternatives(roles["agent"], "agent")
    yield f"agent = [{_text(agent.name)}]" if agent else 'agent = ["TODO"] # TODO which column names who called?'
    for role in ("ring_seconds", "talk_seconds", "answer_time", "voiceuri"):
        if column := roles[role].column:
            yield from _alternatives(roles[role], role)
            yield f"{role} = {_text(column.name)}"
