"""The libraries of the optional extra `report`."""

import logging
from importlib.util import find_spec

from importer.errors import ConfigurationError

_NEEDED = ("jinja2", "matplotlib")


def require_extra() -> None:
    """Raise ConfigurationError that says what to install, when drawing or the template would fail."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"a report needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint="Install them into the environment of this program: pip install 'cdr-importer[report]'",
        )
    # A home that cannot be written to or a font cache being built is no news for who wants a report.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
