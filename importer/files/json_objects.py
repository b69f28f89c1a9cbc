"""JSON as APIs and scripts write it, as rows: objects line by line, a list of them, or envelopes around such.

A list is an array, or an object that has objects by their ids (`{"3300000701": {"callType": "1"}}`), or
lists of them by days.
pandas' `to_json` has the columns of a table, each by its row numbers (`{"callType": {"0": "1", "1": "0"}}`).
The keys of all objects, in the order of their first use, are the header. Numbers stay text, so that long ids
survive; `true`, `false` and `null` become `true`, `false` and nothing; an object inside an object gives a column
for each of its keys (`data.answer`), but one that is little more than objects of the same keys, such as a call
with its legs by name, gives a row for each; a list becomes its JSON text. Each row has the line number on which
its object starts in the file; where several objects start on one line, they count on from there. Memory stays
flat: an object is at most 16 MiB long, and none is kept. Objects in the cells of a CSV file are taken apart too.
"""

import ast
import codecs
import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, BinaryIO, Final, NoReturn, TextIO

from importer.errors import InputUnusableError
from importer.files.packing import FIRST_BYTES
from importer.files.spooling import BLOCK_BYTES, csv_blocks

MOST_KEYS = 1000
MOST_LISTS = 20
USUAL_WAY, LONGEST_WAY = 2, 4
"""Keys on the way to the list of nearly all answers, and of Switchvox's."""
FEWEST_SAME_KEYS = 10
"""Legs of a call have so many keys in common; its two ends, both with a name and a number, have fewer."""
FIRST_RECORDS = 200
"""A CSV file in which so many records have no object in a cell is taken for one without; by the keys of so many
objects it is known whether they are calls."""
LONGEST_VALUE = 16 << 20
BROKEN_OFF = 16
"""So close to the end of the text read an error may be a word or an escape that is cut there."""

_BEGINNING: Final = re.compile(r"\ufeff?\s*(?:\[\s*(?:[\[{]|\](?!\s*[^\s\[{])|$)|\{\s*(?:[\"}]|$))")
_SPACE: Final = re.compile(r"\s*")
_BY_ID: Final = re.compile(
    r'\{\s*"(?:|[0-9][0-9.-]*|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"\s*:\s*'
    r"(?:\{|\[\s*[{\]])"
)
_LONGEST_BY_ID: Final = 1000
_ROW_NUMBER: Final = re.compile("[0-9]{1,7}")

Place = tuple[str, ...] | None
"""The keys on the way to an object, or a list of them, in each object of the file; none where the file is a list
and these are the calls, None where these are and stand one after the other."""

IsHeader = Callable[[Collection[str]], object]
"""Says whether these names of columns are those of calls, by something that is true."""

EMPTY: Final = ("",)
"""The place of the calls of an answer that holds none."""

_FAULT: Final = re.compile("(?i)err|fault|message")
_BEFORE_TABLES: Final = ("header", "database")  # the types of the objects that phpMyAdmin writes before its tables
_PAGING: Final = re.compile("(?i)more|next|page|current")
_NUMBER: Final = re.compile(r"\+\d|\d{7}|\d{3}[-.) ]+\d{3}")

_Item = tuple[int, dict[str, str], str | None]
"""An object: the line on which it starts, its values as text by key, and its text where it is not whole."""

_Record = tuple[int, list[str]]
"""The line on which a record starts, and its cells."""


class LackingError(InputUnusableError):
    """An object has no list or object where others have their calls."""


def is_json(opened: Callable[[], BinaryIO]) -> bool:
    """Return whether a file holds JSON objects or an array, by its first bytes."""
    with opened() as source:
        start = source.read(FIRST_BYTES)
    return _BEGINNING.match(start.decode(json.detect_encoding(start), "ignore")) is not None


def places_of_objects(
    opened: Callable[[], BinaryIO], shown: str, paging: dict[str, str]
) -> Iterator[tuple[Place, ...]]:
    """Yield where the calls of a file may be, in the order to look there; ``opened`` opens the file.

    ``paging`` gets what may say in its last page whether another one follows.

    Of a single object these are its lists and itself, then what is inside; of several these, then a list inside
    of any, then what is inside it. Only the columns distinguish an envelope around calls from one call with a list
    of its legs. An answer without calls has an empty list, no word of a fault, and nothing that may be a telephone
    number.
    """
    lists: dict[Place, None] = {}
    inside: dict[Place, None] = {}
    with opened() as source:
        text = _Text(source, shown)
        if text.is_list:
            yield ((),)
        is_single = not text.is_list
        for _ in text.items():
            paging.clear()
            for way in _lists(text, inside, paging):
                # A single call has many lists far inside of it: these alone are not too many.
                lists |= {way: None} if len(lists) < MOST_LISTS + (len(way) <= USUAL_WAY) else {}
            if is_single and text.peek():
                yield (None,)
                is_single = False
            if len(lists) > MOST_LISTS:
                text.refuse(f"the object has more than {MOST_LISTS} lists of objects")
    if is_single and not lists:
        (_, cells, _), *others = islice(_objects(opened, shown, None), 2)
        filled = {key: cell for key, cell in cells.items() if cell not in ("", "[]") and "://" not in cell[:8]}
        is_empty = "[]" in cells.values() and not others
        if is_empty and not any(_FAULT.search(key) or _NUMBER.search(filled[key]) for key in filled):
            yield None, EMPTY
            return
    yield (*lists, None) if is_single else (*lists,)
    yield (*inside,)


def rows_of_objects(
    opened: Callable[[], BinaryIO], shown: str, place: Place, *, may_lack: bool = False, is_header: IsHeader = bool
) -> Iterator[bytes]:
    """Yield the objects of a file as CSV text under a header of their keys; ``opened`` opens the file anew.

    A last line that is not whole becomes a record of one cell without a line end: so reading finds a record that
    is still being written. Raises InputUnusableError naming the line of anything else that is not JSON, is no
    object among the objects, has a key twice, or is larger than the limits of this module, and where the keys of
    the first objects are no header by ``is_header``; LackingError for an object without the ``place``, unless it
    ``may_lack`` it.
    """
    keys: dict[str, None] = {}
    is_whole = True
    for number, (line, cells, unfinished) in enumerate(_objects(opened, shown, place, may_lack)):
        keys.update(dict.fromkeys(cells))
        is_whole = unfinished is None
        if number == FIRST_RECORDS and not is_header(keys):
            raise InputUnusableError(f"{shown}: the objects at {place} are no calls")
        if len(keys) > MOST_KEYS:
            raise InputUnusableError(
                f"{shown}: line {line}: the objects have more than {MOST_KEYS} different keys",
                hint="These are no call records: export the calls alone.",
            )
    if not keys and place not in ((), EMPTY):  # an empty list may be the answer for a day without calls
        raise InputUnusableError(
            f"{shown} has no objects, so nothing says which system wrote it",
            hint="If there were no calls, leave the file out; else look at what was asked of the API.",
        )
    rows = (
        (line, [cells.get(key, "") for key in keys] if unfinished is None else [unfinished])
        for line, cells, unfinished in _objects(opened, shown, place, may_lack)
    )
    yield from _blocks(chain([(0, [*keys])], rows) if keys else (), 0, is_whole)


def rows_of_cells(opened: Callable[[], BinaryIO]) -> Iterator[bytes]:
    """Yield CSV text in which the objects in the cells of a CSV file are taken apart; nothing if it has none.

    Connectors and pandas write an object into one cell. A column is taken apart where each of its cells that is
    filled holds one.
    """
    keys: dict[int, dict[str, None]] = {}
    others: set[int] = set()
    columns: list[str] = []
    try:
        for number, (_, cells) in enumerate(_records(opened)):
            if number > FIRST_RECORDS and not keys:
                return
            columns = columns or _columns_of(cells)
            for place, (column, cell) in enumerate(zip(columns, cells, strict=False)) if number else ():
                if (found := _object_in(cell, column)) is not None:
                    keys.setdefault(place, {}).update(dict.fromkeys(found))
                elif cell.strip():
                    others.add(place)
    except (csv.Error, UnicodeDecodeError):
        return
    apart = {place: list(names) for place, names in keys.items() if place not in others}
    if not 0 < sum(map(len, apart.values())) <= MOST_KEYS:
        return
    with opened() as source:
        source.seek(-1, io.SEEK_END)
        is_ended = source.read() in b"\r\n"
    yield from _blocks(_taken_apart(opened, apart), 1, is_ended)


def _columns_of(header: list[str]) -> list[str]:
    """Return the columns of a CSV file, nameless where all are a connector's own: then one has whole calls.

    Airbyte writes `_airbyte_raw_id`, `_airbyte_extracted_at`, `_airbyte_meta` and `_airbyte_data` unless it is to
    flatten the last one.
    """
    return [""] * len(header) if all(name.startswith("_") for name in header) else header


def _blocks(records: Iterable[_Record], next_line: int, is_ended: bool) -> Iterator[bytes]:
    """Yield CSV text, a record on its line or behind the others; the last without an end unless ``is_ended``."""

    def on_lines() -> Iterator[list[str]]:
        following = next_line
        for line, cells in records:
            yield from ([] for _ in range(line - following))
            yield cells
            following = max(line, following) + 1

    last = b""
    for block in csv_blocks(on_lines()):
        yield last
        last = block
    yield last if is_ended else last.removesuffix(b"\n")


def _taken_apart(opened: Callable[[], BinaryIO], apart: Mapping[int, Sequence[str]]) -> Iterator[_Record]:
    """Yield the records of a CSV file with the objects taken apart; one of another width is a single cell."""
    columns: list[str] = []
    for line, cells in _records(opened):
        found: list[str] = []
        for place, cell in enumerate(cells):
            if place not in apart:
                found.append(cell)
            elif columns:
                held = _object_in(cell, columns[place]) or {}
                found += [held.get(key, "") for key in apart[place]]
            else:
                found += apart[place]
        columns = columns or _columns_of(cells)
        yield line, found if len(cells) == len(columns) else [",".join(cells)]


def _records(opened: Callable[[], BinaryIO]) -> Iterator[_Record]:
    """Yield the records of a CSV file, each with the line on which it starts."""
    with opened() as source:
        text = io.TextIOWrapper(source, "utf-8-sig", newline="")
        reader = csv.reader(iter(lambda: _line_of(text), ""), strict=True)
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1


def _line_of(text: TextIO) -> str:
    if len(line := text.readline(LONGEST_VALUE)) == LONGEST_VALUE:
        raise csv.Error("one line, of whatever, would fill the memory")
    return line


def _object_in(cell: str, column: str) -> dict[str, str] | None:
    """Return what a cell holds of an object, in JSON or as Python writes it, as `_cells_of` does.

    None for no object, and for one that has a key twice.
    """
    text = cell.strip()
    # TypeError: what Python takes for a key and JSON does not.
    with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found: object = None
        if text.startswith("{'"):
            with warnings.catch_warnings(action="ignore"):  # of a text that only looks like Python's
                found = ast.literal_eval(text)
        elif text.startswith("{"):
            found = json.loads(
                text, object_pairs_hook=_once_each, parse_int=str, parse_float=str, parse_constant=str
            )
        if isinstance(found, dict):
            return _cells_of({column: found} if column else found)
    return None


def _cells_of(row: dict[str, Any]) -> dict[str, str]:
    """Return the values of an object as text; the keys of an object inside it become `outer.inner`.

    Raises ValueError for a key that then stands there twice.
    """
    cells: dict[str, str] = {}
    for key, each in row.items():
        inner = {f"{key}.{name}": cell for name, cell in each.items()} if isinstance(each, dict) else {key: each}
        for column, cell in inner.items():
            if column in cells:
                raise ValueError(f"an object has the key {column[:40]!r} twice")
            text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
            cells[str(column)] = "" if cell is None else text
    # Airbyte writes what an object holds once more beside it: `properties_hs_timestamp`.
    copied = [name for name in cells if "." in name and cells.get(name.replace(".", "_")) == cells[name]]
    for name in copied:
        del cells[name]
    return cells


def _rows_in(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an object that has rows or columns inside, and at most one value beside them, else itself.

    pandas' `to_json` writes each column by its row numbers. src: for a call of several legs Grandstream's CDR API
    answers `{"cdr": ..., "main_cdr": {...}, "sub_cdr_1": {...}}`, as some ten public programs that read it say.
    """
    inner = [each for each in found.values() if isinstance(each, dict)]
    numbers = [*inner[0]] if inner and len(inner) == len(found) else []
    if numbers and all(map(_ROW_NUMBER.fullmatch, numbers)) and all([*each] == numbers for each in inner):
        yield from ({name: found[name][number] for name in found} for number in numbers)
    elif len(inner) > 1 >= len(found) - len(inner) and len(set.intersection(*map(set, inner))) >= FEWEST_SAME_KEYS:
        beside = {key: each for key, each in found.items() if not isinstance(each, dict)}
        yield from ({**beside, **each} for each in inner)
    else:
        yield found


def _objects(opened: Callable[[], BinaryIO], shown: str, place: Place, may_lack: bool = False) -> Iterator[_Item]:
    """Yield the objects: of the list at ``place``, or one after the other where it is None."""
    with opened() as source:
        text = _Text(source, shown)
        for _ in text.items():
            if place:
                yield from _listed(text, place, may_lack)
            else:
                yield from text.item(may_be_unfinished=not text.is_list)


def _listed(text: "_Text", place: tuple[str, ...], may_lack: bool) -> Iterator[_Item]:
    is_there = may_lack or place == EMPTY
    for key in text.members():
        if key == place[0] and (place[1:] or text.peek() != "n"):
            is_there = True
            for _ in text.objects():
                yield from _listed(text, place[1:], may_lack) if place[1:] else text.item()
        else:
            value = text.value()
            is_there |= key == "type" and value in _BEFORE_TABLES
    if not is_there:  # such as an answer of a fault among pages
        text.refuse(f"the key {place[0][:40]!r} is missing or null, which other objects have", LackingError)


def _lists(
    text: "_Text", inside: dict[Place, None], paging: dict[str, str], way: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Step over the object at the end of ``way`` and yield the way to each list of objects in it, also far inside.

    The ways to objects, and to objects and lists in those of a list, are added to ``inside``.
    """
    for key in text.members():
        here = (*way, key)
        if text.begins_list() and (text.peek() == "{" or text.peek(behind=1) == "{"):
            yield here
            for number, _ in enumerate(text.listed()):
                if number >= FIRST_RECORDS or text.peek() != "{":
                    text.value()
                    continue
                for inner in text.members():
                    is_place = text.peek() == "{" or text.peek() + text.peek(behind=1) == "[{"
                    inside |= {(*here, inner): None} if is_place and len(inside) < MOST_LISTS else {}
                    text.value()
        elif len(here) < LONGEST_WAY and text.peek() == "{":
            inside |= {here: None} if len(inside) < MOST_LISTS // (2 if way else 1) else {}
            yield from _lists(text, inside, paging, here)
        elif (value := text.value()) and len(paging) < MOST_LISTS and _PAGING.search(name := ".".join(here)):
            paging[name] = str(value)


class _Text:
    """A JSON text read value by value; every error names the line. ``is_list``: it begins with a list."""

    def __init__(self, source: BinaryIO, shown: str) -> None:
        self._source = source
        self._encoding = json.detect_encoding(source.read(4))
        source.seek(0)
        decoder = codecs.getincrementaldecoder(self._encoding)()
        self._decoded = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._shown = shown
        self._buffer = ""
        self._place = 0
        self._line = 1
        self._is_ended = False
        self._value_at = json.JSONDecoder(
            object_pairs_hook=_once_each, parse_int=str, parse_float=str, parse_constant=str, strict=False
        ).raw_decode
        self.is_list = self.begins_list()

    def peek(self, *, behind: int = 0) -> str:
        """Return the next character that is no space, "" at the end; with ``behind`` the one behind so many."""
        while True:
            found = _SPACE.match(self._buffer, self._place + behind)
            after = found.end() if found else len(self._buffer)
            if not behind:
                self._go_to(after)
            if after < len(self._buffer) or not self._read():
                return self._buffer[after : after + 1]

    def take(self, character: str) -> None:
        """Step over this character, which must come next."""
        if self.peek() != character:
            self.refuse(f"{character!r} is missing" if self.peek() else "the text breaks off")
        self._go_to(self._place + 1)

    def elements(self, brackets: str) -> Iterator[None]:
        """Step over a list or an object; the caller steps over each element of it."""
        self.take(brackets[0])
        while self.peek() != brackets[1]:
            yield
            if self.peek() != brackets[1]:
                self.take(",")
                if self.peek() == brackets[1]:
                    self.refuse("a comma stands before the closing bracket")
        self.take(brackets[1])

    def begins_list(self) -> bool:
        """Return whether a list comes next: an array, or objects by their ids, or lists by days."""
        if (first := self.peek()) != "{":
            return first == "["
        while len(self._buffer) - self._place < _LONGEST_BY_ID and self._read():
            pass
        return _BY_ID.match(self._buffer, self._place) is not None

    def listed(self) -> Iterator[None]:
        """Step over a list; the caller steps over each element of it, but a day that is null."""
        by_key = (None for _ in self.members() if self.peek() != "n" or self.value())
        yield from self.elements("[]") if self.peek() == "[" else by_key

    def items(self) -> Iterator[None]:
        """Step over the text: objects or lists of them, which pages of an answer may be, one after the other."""
        while self.peek():
            if self.begins_list() is not self.is_list:
                self.refuse("something stands behind the end of the JSON text")
            yield from self.objects()

    def objects(self) -> Iterator[None]:
        """Step over an object, or a list of objects and lists of them; the caller steps over each object."""
        is_list = self.begins_list()
        for _ in self.listed() if is_list else (None,):
            yield from self.listed() if is_list and self.begins_list() else (None,)

    def members(self) -> Iterator[str]:
        """Step over an object and yield its keys; the caller steps over the value of each."""
        for _ in self.elements("{}"):
            if self.peek() != '"':
                self.refuse("a key in quotes is missing" if self.peek() else "the text breaks off")
            key = str(self.value())
            self.take(":")
            yield key

    def item(self, *, may_be_unfinished: bool = False) -> Iterator[_Item]:
        """Step over an object and yield it; with ``may_be_unfinished`` also one that its line breaks off."""
        if self.peek() != "{":
            self.refuse("an object { } is missing: every item must be one")
        line = self._line
        try:
            found = self.value(may_be_unfinished=may_be_unfinished)
        except EOFError as error:
            rest = self._buffer[self._place :]
            if "\n" in rest:
                self.refuse(str(error))
            self._go_to(len(self._buffer))
            yield line, {}, rest
            return
        for row in _rows_in(found) if isinstance(found, dict) else ():
            try:
                cells = _cells_of(row)
            except ValueError as error:
                self.refuse(str(error))
            yield line, cells, None

    def value(self, *, may_be_unfinished: bool = False) -> object:
        """Step over any value and return it, numbers as text; EOFError where it may break off and does."""
        self.peek()
        while True:
            try:
                found, end = self._value_at(self._buffer, self._place)
                if end < len(self._buffer) or self._is_ended:
                    self._go_to(end)
                    return found
            except json.JSONDecodeError as error:
                is_cut = error.pos > len(self._buffer) - BROKEN_OFF or error.msg.startswith("Unterminated")
                if not is_cut:
                    self._go_to(error.pos)
                    self.refuse(f"this is not JSON ({error.msg})")
                if self._is_ended and may_be_unfinished:
                    raise EOFError("the text breaks off") from error
                if self._is_ended:
                    self.refuse("the text breaks off")
            except ValueError as error:  # of `_once_each`
                self.refuse(str(error))
            except RecursionError:
                self.refuse("brackets are nested too deep")
            if len(self._buffer) - self._place > LONGEST_VALUE:
                self.refuse(f"a value is longer than {LONGEST_VALUE >> 20} MiB")
            self._read()

    def refuse(self, fault: str, kind: type[InputUnusableError] = InputUnusableError) -> NoReturn:
        """Raise an error with the line read last."""
        raise kind(
            f"{self._shown}: line {self._line}: {fault}",
            hint="The file is damaged or cut off, or no list of calls: export it again. Nothing of it was used.",
        )

    def _go_to(self, place: int) -> None:
        self._line += self._buffer.count("\n", self._place, place)
        self._place = place

    def _read(self) -> bool:
        """Read on, at least as much as is held; return whether there was more."""
        held = self._buffer[self._place :]
        block = self._source.read(max(BLOCK_BYTES, len(held)))
        try:
            more = self._decoded.decode(block, final=not block)
        except UnicodeDecodeError:
            self.refuse(f"this or a later line is not {self._encoding} text")
        self._is_ended = not block
        self._buffer, self._place = held + more, 0
        return bool(block)


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _), *_] = Counter(name for name, _ in pairs).most_common(1)
        # JSON leaves open which of the two counts (RFC 8259, section 4).
        raise ValueError(f"an object has the key {twice[:40]!r} twice")
    return found
