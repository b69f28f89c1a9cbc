"""What data looks like: words, numbers, times, the shape of a call, export formats and cause tables.

Nothing in here opens a file of the user, uses a network or imports ``importer``.
"""

from collections.abc import Mapping
from functools import cache


@cache
def data(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the tables of a TOML file of this folder: `hints`, by reason, or `words`."""
    from importlib.resources import files  # what only asks for the closed sets of words does without

    import tomli

    return tomli.loads(files("schemas").joinpath(f"{name}.toml").read_text("utf-8"))
