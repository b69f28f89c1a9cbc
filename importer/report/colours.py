"""The colours of a page by role, for light and for dark; pictures name roles only.

matplotlib can draw fixed colours only. So a picture is drawn in a stand-in for each role, and the stand-ins are
replaced by the style sheet's variables, which follow what the reader's screen prefers.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.vocabulary import Outcome


class Colour(NamedTuple):
    """One role's colour on a light and on a dark page."""

    light: str
    dark: str


COLOURS: Mapping[str, Colour] = {
    "paper": Colour("#ffffff", "#0d1117"),
    "panel": Colour("#f5f7f9", "#161b22"),
    "ink": Colour("#1b1f24", "#e6edf3"),
    "muted": Colour("#57606a", "#9aa4ae"),
    "line": Colour("#d5dbe1", "#343b44"),
    "bar": Colour("#2f74b5", "#58a1e0"),
    "accepted": Colour("#1a7f64", "#3fb68b"),
    "already_accepted": Colour("#86c9b4", "#1d6b55"),
    "would_send": Colour("#2f74b5", "#58a1e0"),
    "pending": Colour("#8c959f", "#747d87"),
    "refused": Colour("#c2570c", "#f0883e"),
    "uncertain": Colour("#8250df", "#a980f5"),
    "rejected": Colour("#cf222e", "#f85149"),
    "conflict": Colour("#9a6700", "#d6a520"),
    "heat0": Colour("#eef3f8", "#161d26"),
    "heat1": Colour("#c9dff0", "#12324f"),
    "heat2": Colour("#97c3e3", "#155180"),
    "heat3": Colour("#5c9fd0", "#1f78b8"),
    "heat4": Colour("#2b76b3", "#58a6dd"),
    "heat5": Colour("#0b4a85", "#a5d3f7"),
}
HEAT = tuple(name for name in COLOURS if name.startswith("heat"))
OUTCOMES = tuple(outcome for outcome in Outcome if outcome.value in COLOURS)
"""The outcomes that have a colour: those a call can have."""

STAND_INS: Mapping[str, str] = {name: f"#{0x0A0001 + number:06x}" for number, name in enumerate(COLOURS)}
"""Role -> the colour that a picture is drawn in."""


def variables(*, dark: bool) -> str:
    """Return the style sheet's variables."""
    return "".join(f"--{name}:{colour.dark if dark else colour.light};" for name, colour in COLOURS.items())
