"""Pictures of a report as SVG, each drawn twice: for a wide page and for a telephone.

Only counts and labels come in. Labels are texts of an export: they are drawn as they are, never as formulas, and
matplotlib escapes them.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from importer.report.colours import HEAT, OUTCOMES, STAND_INS
from importer.report.data import Group, Pace

WIDE_INCHES, NARROW_INCHES = 10.0, 3.6
_ROW_INCHES = 0.3
_LONGEST_LABEL = {WIDE_INCHES: 34, NARROW_INCHES: 16}
_MOST_DAYS = 35
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": STAND_INS["ink"],
    "axes.edgecolor": STAND_INS["line"],
    "axes.labelcolor": STAND_INS["muted"],
    "xtick.color": STAND_INS["muted"],
    "ytick.color": STAND_INS["line"],
    "ytick.labelcolor": STAND_INS["ink"],
    "grid.color": STAND_INS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: what it shows in words, and its SVG for a wide and for a narrow page."""

    alt: str
    wide: str
    narrow: str


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What a picture is drawn on."""

    figure: Figure
    axes: Axes
    width_inches: float

    @property
    def is_wide(self) -> bool:
        return self.width_inches == WIDE_INCHES

    def labels(self, texts: Sequence[str]) -> list[str]:
        return [_shortened(text, _LONGEST_LABEL[self.width_inches]) for text in texts]


def bars(name: str, alt: str, counts: Sequence[tuple[str, int]], *, of_first: bool = False) -> Picture:
    """Draw one bar per count with its number; with ``of_first`` also its share of the first."""

    def draw(sheet: _Sheet) -> None:
        numbers = [count for _, count in counts]
        drawn = sheet.axes.barh(range(len(counts)), numbers, color=STAND_INS["bar"], height=0.7)
        texts = [f"{count:,}{_share(count, numbers[0]) if of_first else ''}" for count in numbers]
        sheet.axes.bar_label(drawn, texts, padding=4)
        _rows_down(sheet, [label for label, _ in counts])
        sheet.axes.set_xlim(0, (max(numbers) or 1) * (1.2 if sheet.is_wide else 1.55))
        sheet.axes.set_xticks([])
        sheet.axes.spines["bottom"].set_visible(False)

    return _picture(name, alt, draw, rows=len(counts))


def stacked_bars(name: str, alt: str, groups: Sequence[Group]) -> Picture:
    """Draw one bar per group, in parts by outcome."""

    def draw(sheet: _Sheet) -> None:
        shown = [outcome for outcome in OUTCOMES if any(group.outcomes.get(outcome) for group in groups)]
        left = [0] * len(groups)
        for outcome in shown:
            parts = [group.outcomes.get(outcome, 0) for group in groups]
            sheet.axes.barh(
                range(len(groups)), parts, left=left, height=0.7, label=_words(outcome), color=STAND_INS[outcome]
            )
            left = [before + part for before, part in zip(left, parts, strict=True)]
        for row, total in enumerate(left):
            sheet.axes.annotate(f"{total:,}", (total, row), (4, 0), textcoords="offset points", va="center")
        _rows_down(sheet, [group.label or "(none)" for group in groups])
        sheet.axes.set_xlim(0, (max(left) or 1) * (1.12 if sheet.is_wide else 1.3))
        sheet.axes.xaxis.set_major_locator(MaxNLocator(5 if sheet.is_wide else 3, integer=True))
        _legend(sheet, len(shown))

    return _picture(name, alt, draw, rows=len(groups) + 2)


def columns(name: str, alt: str, groups: Sequence[Group]) -> Picture:
    """Draw one column per group in their order, in parts by outcome; the first and the last are labelled."""

    def draw(sheet: _Sheet) -> None:
        shown = [outcome for outcome in OUTCOMES if any(group.outcomes.get(outcome) for group in groups)]
        bottom = [0] * len(groups)
        for outcome in shown:
            parts = [group.outcomes.get(outcome, 0) for group in groups]
            sheet.axes.bar(
                range(len(groups)), parts, bottom=bottom, label=_words(outcome), color=STAND_INS[outcome]
            )
            bottom = [before + part for before, part in zip(bottom, parts, strict=True)]
        ends = sorted({0, len(groups) - 1})
        sheet.axes.set_xticks(ends, [groups[end].label for end in ends])
        _count_axis(sheet)
        _legend(sheet, len(shown))

    return _picture(name, alt, draw, rows=8)


def heat_map(name: str, alt: str, hours: Mapping[datetime, int]) -> Picture:
    """Draw the counts of each hour: a row per day, or per day of the week where there are too many days."""
    days = sorted({hour.date() for hour in hours})
    by_weekday = (days[-1] - days[0]).days >= _MOST_DAYS
    if by_weekday:
        labels = list(_WEEKDAYS)
    else:
        labels = [f"{days[0] + timedelta(number):%a %Y-%m-%d}" for number in range((days[-1] - days[0]).days + 1)]
    cells = [[0] * 24 for _ in labels]
    for hour, count in hours.items():
        cells[hour.weekday() if by_weekday else (hour.date() - days[0]).days][hour.hour] += count

    def draw(sheet: _Sheet) -> None:
        most = max(map(max, cells))
        bounds = sorted({0.5, *(0.5 + most * step / (len(HEAT) - 1) for step in range(1, len(HEAT)))})
        colours = ListedColormap([STAND_INS[each] for each in HEAT[1:]]).with_extremes(under=STAND_INS["heat0"])
        mesh = sheet.axes.pcolormesh(
            cells,
            cmap=colours,
            norm=BoundaryNorm(bounds, len(HEAT) - 1),
            edgecolors=STAND_INS["paper"],
            linewidth=1.5,
        )
        sheet.axes.invert_yaxis()
        sheet.axes.set_yticks([row + 0.5 for row in range(len(labels))], _day_labels(sheet, labels))
        marks = range(0, 24, 1 if sheet.is_wide else 4)
        sheet.axes.set_xticks([mark + 0.5 for mark in marks], [str(mark) for mark in marks])
        sheet.axes.tick_params(length=0)
        sheet.axes.spines["bottom"].set_visible(False)
        if sheet.is_wide:
            _write_counts(sheet.axes, cells, most)
        else:
            sheet.axes.set_title(f"strongest colour: {most:,} in one hour", fontsize=8, loc="left")
        mesh.set_rasterized(False)

    return _picture(name, alt, draw, rows=len(labels) + 1)


def pace_picture(name: str, alt: str, pace: Pace) -> Picture:
    """Draw how many calls were sent in each span of time."""

    def draw(sheet: _Sheet) -> None:
        counts = pace.counts
        sheet.axes.bar(range(len(counts)), counts, width=1.0, align="edge", color=STAND_INS["bar"])
        sheet.axes.set_xlim(0, max(len(counts), 1))
        ends = [0, len(counts)]
        if sheet.is_wide and len(counts) > 3:
            ends.insert(1, len(counts) // 2)
        sheet.axes.set_xticks(ends, [_clock(pace, end) for end in ends])
        for label, side in zip(sheet.axes.get_xticklabels()[:: len(ends) - 1], ("left", "right"), strict=False):
            label.set_horizontalalignment(side)
        _count_axis(sheet)

    return _picture(name, alt, draw, rows=7)


def _picture(name: str, alt: str, draw: Callable[[_Sheet], None], *, rows: int) -> Picture:
    return Picture(alt, _svg(f"{name}-w", draw, WIDE_INCHES, rows), _svg(f"{name}-n", draw, NARROW_INCHES, rows))


def _svg(name: str, draw: Callable[[_Sheet], None], width_inches: float, rows: int) -> str:
    # The salt makes the ids inside differ from picture to picture, and the same on every run.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width_inches, 0.35 + rows * _ROW_INCHES), layout="constrained")
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        draw(_Sheet(figure, axes, width_inches))
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=_NO_METADATA)
    return _inline(out.getvalue(), name)


def _inline(text: str, name: str) -> str:
    """Return matplotlib's SVG file as an element of a page: roles for colours, ids that no other picture has.

    Only tags are changed; texts are escaped and so hold none.
    """
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    roles = {colour: role for role, colour in STAND_INS.items()}

    def tag(found: re.Match[str]) -> str:
        inside = found[0]
        inside = re.sub(r"#0a00[0-9a-f]{2}\b", lambda colour: f"var(--{roles[colour[0]]})", inside)
        inside = re.sub(r"font-family: [^;\"]*;?", "", inside)
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inside)

    svg = re.sub(r"<[a-zA-Z][^>]*>", tag, svg)
    return re.sub(r'^<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg)


def _rows_down(sheet: _Sheet, labels: Sequence[str]) -> None:
    sheet.axes.set_yticks(range(len(labels)), sheet.labels(labels))
    sheet.axes.invert_yaxis()
    sheet.axes.margins(y=0.02)
    sheet.axes.tick_params(axis="y", length=0)


def _count_axis(sheet: _Sheet) -> None:
    sheet.axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    sheet.axes.tick_params(axis="y", length=0)
    sheet.axes.grid(axis="y", linewidth=0.6)
    sheet.axes.set_axisbelow(True)


def _legend(sheet: _Sheet, entries: int) -> None:
    sheet.figure.legend(
        loc="outside upper left",
        frameon=False,
        ncols=min(entries, 7 if sheet.is_wide else 2),
        handlelength=1,
        columnspacing=1.2,
    )


def _write_counts(axes: Axes, cells: Sequence[Sequence[int]], most: int) -> None:
    for row, counts in enumerate(cells):
        for hour, count in enumerate(counts):
            if count:
                role = "paper" if count > most * 0.6 else "ink"
                axes.text(
                    hour + 0.5, row + 0.5, _compact(count), ha="center", va="center", color=STAND_INS[role], size=8
                )


def _day_labels(sheet: _Sheet, labels: Sequence[str]) -> list[str]:
    """Leave the year out on a narrow page."""
    return [label if sheet.is_wide or len(label) == 3 else f"{label[:4]}{label[9:]}" for label in labels]


def _clock(pace: Pace, span: int) -> str:
    moment = pace.start + timedelta(seconds=span * pace.span_seconds)
    return f"{moment:%Y-%m-%d}" if pace.span_seconds >= 86_400 else f"{moment:%m-%d %H:%M}"


def _share(count: int, of: int) -> str:
    return f"  ({count / of:.1%})" if of else ""


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _compact(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.0f}k"


def _shortened(text: str, longest: int) -> str:
    """Return a label in one line without characters that XML has no place for."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
