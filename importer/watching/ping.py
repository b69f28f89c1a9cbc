"""Pings of a dead man's switch, by the protocol of healthchecks.io.

``URL/start`` when a run begins, ``URL/<exit code>`` when it ends: https://healthchecks.io/docs/http_api/
"""

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import requests

from importer.client import Line, Route, SendFailure, Timeouts, Trust

PING_LIMITS = Timeouts(connect_seconds=5.0, gap_seconds=5.0, deadline_seconds=10.0)
MOST_TRIES = 3


class Ping:
    """Pings a dead man's switch when a run begins and ends; a switch that does not answer does not fail the run.

    ``failed`` gets the reason of a ping that did not arrive, as a slug. Raises ConfigurationError when the
    route's CA bundle cannot be read.
    """

    def __init__(
        self, url: str, route: Route, *, failed: Callable[[str], None], limits: Timeouts = PING_LIMITS
    ) -> None:
        self._url = urlsplit(url)
        self._route = route
        self._trust = Trust(route.ca_bundle)
        self._failed = failed
        self._limits = limits

    def start(self) -> None:
        """Ping that a run begins: one try, which takes ten seconds at most."""
        self._send("start", "", tries=1)

    def finish(self, exit_code: int, counts: str) -> None:
        """Ping how the run ended, with its counts; up to three tries."""
        self._send(str(exit_code), counts, tries=MOST_TRIES)

    def _send(self, word: str, body: str, *, tries: int) -> None:
        url = urlunsplit(self._url._replace(path=f"{self._url.path.rstrip('/')}/{word}"))
        why = ""
        for _ in range(tries):
            why = self._try(requests.Request("POST", url, data=body.encode()))
            if not why:
                return
        self._failed(why)

    def _try(self, request: requests.Request) -> str:
        """Send one ping; return the reason when it did not arrive, else an empty text."""
        line = Line(self._route, trust=self._trust, limits=self._limits)
        try:
            answer = line.exchange(request)
        except SendFailure as failure:
            return failure.kind
        except requests.RequestException:
            return "bad_address"
        finally:
            line.close()
        return "" if 200 <= answer.status < 300 else f"http_{answer.status}"
