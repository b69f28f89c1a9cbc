"""Pings of a dead man's switch: ``URL/start`` and ``URL/<exit code>``.

Source: https://healthchecks.io/docs/http_api/
"""

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests

from importer.client import Line, SendFailure, Trust
from importer.records import Timeouts

PING_LIMITS = Timeouts(connect_seconds=5.0, gap_seconds=5.0, deadline_seconds=10.0)
"""Of each try of a ping."""


def pings_of(url: str, proxy: str | None, ca_bundle: Path | None) -> partial[str]:
    """Return `ping` for one switch, with an id of this run that pairs its two pings: a UUID.

    Raises ConfigurationError for a CA bundle that cannot be read.
    """
    bundle, parts = str(ca_bundle) if ca_bundle else None, urlsplit(url)
    url = urlunsplit(parts._replace(query=f"{parts.query}&rid={uuid.uuid4()}".lstrip("&")))
    return partial(ping, partial(Line, proxy, trust=Trust(bundle), limits=PING_LIMITS), url)


def ping(connect: Callable[[], Line], url: str, word: str, body: str = "", *, tries: int = 1) -> str:
    """Ping ``start`` or an exit code at a dead man's switch, each try on a line of its own.

    Returns why none arrived, as a slug, "" if one did: a switch that does not answer does not fail the run.
    """
    parts = urlsplit(url)
    address = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{word}"))
    why = ""
    for _ in range(tries):
        line = connect()
        try:
            status = line.exchange(requests.Request("POST", address, data=body.encode())).status
            if 200 <= status < 300:
                return ""
            why = f"http_{status}"
        except SendFailure as failure:
            why = failure.kind
        except requests.RequestException:
            why = "bad_address"
        finally:
            line.close()
    return why
