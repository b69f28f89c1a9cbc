"""What data looks like: words, numbers, times, the shape of a call, export formats and cause tables.

Nothing in here opens a file of the user, uses a network or imports ``importer``.
"""

from collections.abc import Mapping
from functools import cache


@cache
def hints(kind: str) -> Mapping[str, str]:
    """Return the sentences of a table of `hints.toml` by reason, with ``{column}`` and ``{value}`` to fill in."""
    from importlib.resources import files  # what only asks for words does without

    import tomli

    table: dict[str, str] = tomli.loads(files("schemas").joinpath("hints.toml").read_text("utf-8"))[kind]
    return table
