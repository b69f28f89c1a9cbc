"""A report as one HTML file: nothing in it is asked for from elsewhere, nothing in it runs."""

import os
import secrets
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from importer import __version__
from importer.errors import CannotCreateError
from importer.report.colours import variables
from importer.report.data import Report
from importer.report.sections import facts_of, needs_of, sections_of
from importer.results import write_whole


def page_of(report: Report) -> str:
    """Return the page as HTML; every text of the report is escaped."""
    # Not the environment's own loader: it would read the template from a folder, which a zipped package has not.
    source = files("importer.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["drawn"] = Markup
    html: str = environment.from_string(source).render(
        report=report,
        facts=facts_of(report),
        needs=needs_of(report),
        sections=sections_of(report),
        version=__version__,
        light=variables(dark=False),
        dark=variables(dark=True),
    )
    return html


def write_page(report: Report, path: Path, *, replace: bool = False) -> None:
    """Write the page whole or not at all, readable by its owner only.

    Raises CannotCreateError when it cannot be written, and, unless it may ``replace``, when something is there.
    """
    check_free(path, replace=replace)
    text = page_of(report)
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        write_whole(made, text)
        try:
            if replace:
                made.replace(path)
            else:
                os.link(made, path)  # unlike a rename, this never replaces a file
        finally:
            made.unlink(missing_ok=True)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise CannotCreateError(
            f"the report {path} cannot be written: {error.strerror}", hint="Name another file with --output."
        ) from error


def check_free(path: Path, *, replace: bool) -> None:
    """Raise CannotCreateError when something is at ``path`` that must not be replaced; before anything is read."""
    if not replace and os.path.lexists(path):
        raise _taken(path)


def _taken(path: Path) -> CannotCreateError:
    return CannotCreateError(
        f"{path} exists already", hint="Give the page another name, or replace this one with --force."
    )
