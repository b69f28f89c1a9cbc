"""The language of `schemas/causes/*.toml`: what the words of a telephone system for an outcome mean."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from importer.formats.cells import caseless
from importer.formats.language import Table
from schemas.vocabulary import Verdict


def word_key(word: str) -> str:
    """Return a status word in the form in which words are compared: without case, spaces, `-` and `_`."""
    return re.sub(r"[\s_-]+", "", caseless(word))


class Cause(Table):
    """The meaning of a word of a cause table, which may depend on whether the far end rang or talked."""

    otherwise: Verdict
    rang: Verdict | None = None
    talked: Verdict | None = None


class CauseTable(Table):
    """The words of one vocabulary of outcomes, each with its meaning; the first of equal words counts."""

    name: str = ""
    title: str = ""
    words: Mapping[
        str,
        Annotated[Cause, BeforeValidator(lambda value: {"otherwise": value} if isinstance(value, str) else value)],
    ]
