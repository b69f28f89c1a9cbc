"""What the cause tables say of the status words of an unknown export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from importer.formats.language import Cause, CauseTable, word_key


@dataclass(frozen=True, slots=True)
class Word:
    """A status word with its count of rows; ``meanings`` is what each table that knows it says, by table."""

    text: str
    count: int
    meanings: Mapping[str, str]

    def said(self) -> str:
        """Return what the tables say, those of one opinion together, at most three by name."""
        by_meaning: dict[str, list[str]] = {}
        for table, meaning in self.meanings.items():
            by_meaning.setdefault(meaning, []).append(table)
        parts = []
        for meaning, tables in by_meaning.items():
            more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
            parts.append(f"{meaning} in {', '.join(tables[:3])}{more}")
        return "; ".join(parts) or "no cause table knows it"

    def agreed(self) -> str:
        """Return what every table that knows the word says, "" where they differ or none does."""
        said = set(self.meanings.values())
        return said.pop() if len(said) == 1 else ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The words of a status column, and the table that knows most of them ("" when none knows half)."""

    words: tuple[Word, ...]
    table: str

    def is_open(self, word: Word) -> bool:
        """Say whether a person must decide: no table knows the word, tables differ, or none looks at ringing."""
        said = word.agreed()
        return not said or (" " in said and self.table not in word.meanings)


def read_words(words: Sequence[tuple[str, int]], causes: Mapping[str, CauseTable]) -> Reading:
    """Look the words of a status column up in every table."""
    by_table = {
        name: {word_key(known): _text(cause) for known, cause in reversed([*table.words.items()])}
        for name, table in causes.items()
    }
    read = tuple(
        Word(
            text,
            count,
            {name: known[word_key(text)] for name, known in by_table.items() if word_key(text) in known},
        )
        for text, count in words
    )
    counts = {name: sum(name in word.meanings for word in read) for name in causes}
    best = max(counts, key=lambda name: (counts[name], -len(causes[name].words)), default="")
    enough = best and counts[best] >= 2 and counts[best] * 2 >= len(read)
    return Reading(read, best if enough else "")


def _text(cause: Cause) -> str:
    more = [f"{part} {verdict}" for part, verdict in (("rang:", cause.rang), ("talked:", cause.talked)) if verdict]
    return f"{cause.otherwise} ({', '.join(more)})" if more else cause.otherwise.value
