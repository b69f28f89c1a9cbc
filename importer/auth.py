"""From a refresh token to an access token: one per hour, shared by threads and processes, never one per row.

The token endpoint answers most errors with status 200 and gives out ten tokens in ten minutes at most
(https://zoho.com/accounts/protocol/oauth/web-apps/access-token-expiry.html); both rule this module.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from importer.errors import ConfigurationError, NotPermittedError, ProtocolError, TryLaterError, UnavailableError
from importer.pacing import backoff_seconds
from importer.private_files import make_folders, open_ours, read_small, replace_private_file
from importer.records import ignore
from importer.settings.credentials import Credentials, is_secret
from importer.settings.values import is_loopback

TOKEN_PATH = "/oauth/v2/token"  # noqa: S105 a path, not a secret
_MOST_TRIES = 3

_LIFETIME_SECONDS = 3600.0
_MARGIN_SECONDS = 300.0
_REFRESHES = 2
_REFRESH_PERIOD_SECONDS = 600.0
_LOCK_PATIENCE_SECONDS = 120.0
_LOCK_POLL_SECONDS = 0.2
_CACHE_BYTES = 16 * 1024

_AUTHORISE_HINT = (
    "Run `cdr-importer auth login` to authorise again, and check that --data-center is the account's own."
)
_ERROR_HINTS = {
    # Seen with status 200: Weble/ZohoBooksApi issue 84.
    "invalid_code": f"The refresh token is revoked or belongs to another data centre. {_AUTHORISE_HINT}",
    # Seen with status 200: asciisd/zoho issue 6; wrong data centre as the cause: asciisd/zoho-v3 issue 38.
    "invalid_client": "Client id or secret is wrong, or both are swapped, or unknown in this --data-center.",
    "invalid_grant": f"The refresh token was revoked; the 21st of a user deletes the first. {_AUTHORISE_HINT}",
}
_ERRORS = frozenset(_ERROR_HINTS) | {
    # https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    *("invalid_request", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "access_denied"),
    *("general_error", "invalid_client_secret", "invalid_redirect_uri"),
}
"""Words of the token endpoint that are shown as they are."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """How to sign in: where, as whom, and which API hosts the answer may name.

    ``accounts_url`` and ``api_url`` are bases (scheme, host, port); ``api_url`` is the operator's own and
    overrules the answer. ``api_hosts`` are the host names allowed otherwise. ``cache_path`` None keeps the token
    in memory only. ``proxy`` and ``ca_bundle`` are for whoever builds the transport.
    """

    accounts_url: str
    credentials: Credentials
    api_url: str | None = None
    api_hosts: frozenset[str] = frozenset()
    cache_path: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, the API base it is for, and when to stop using it (seconds since the epoch)."""

    access_token: str = field(repr=False)
    api_url: str
    expires_at: float


_NO_TOKEN = Token("", "", 0.0)
"""In place of one that the API refused, where no other is to be had."""


class GarbledError(ProtocolError):
    """An answer that may be better the next time: a page, cut, not JSON."""


Transport = Callable[[str, Mapping[str, str]], tuple[int, bytes]]
"""Posts a form to a URL and returns status and body of the answer. Raises UnavailableError for the network,
GarbledError for an answer that is cut or not HTTP (both are tried again), ConfigurationError for a certificate
that is not trusted or a proxy."""


class TokenSource:
    """Gives the current access token and renews it; safe for threads and, by cache and wall clock, processes.

    ``note`` gets what is wrong with the cache, without which a run signs in by itself.
    """

    def __init__(
        self,
        sign_in: SignIn,
        *,
        transport: Transport,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str], None] = ignore,
    ) -> None:
        self._sign_in = sign_in
        self._token_url = sign_in.accounts_url + TOKEN_PATH
        # The refresh token is part of the key: after a new authorisation an older token would have the old scopes.
        own = sign_in.credentials
        parts = (sign_in.accounts_url.lower(), own.client_id, own.refresh_token)
        self._cache_key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        self._transport = transport
        self._clock = clock
        self._sleep = sleep
        self._note = note
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._refreshes: list[float] = []

    def token(self, refused: Token | None = None) -> Token:
        """Return a token that is still good, from memory, the cache file or the token endpoint.

        It is another one than the one that the API ``refused``; another thread may have got it already. Raises
        ConfigurationError (the API host named is not one of ours, or TLS trust), NotPermittedError (the sign-in is
        refused), ProtocolError (what answers is not the token endpoint), TryLaterError (Zoho's or our own limit on
        tokens is reached), UnavailableError (the token endpoint is out of reach).
        """
        with self._lock:
            current, stale = self._token, refused or self._token
            if current is not None and (
                current.expires_at > self._clock()
                if refused is None
                else current.access_token != refused.access_token
            ):
                return current
            with self._cache_lock():
                token, refreshes = self._cached()
                if token is None or (stale is not None and token.access_token == stale.access_token):
                    token = self._refresh(refreshes)
                    self._write_cache(token)
            self._token = token
            return token

    def _refresh(self, others: Sequence[float]) -> Token:
        """Ask for a token, if so many were not got lately; ``others`` are when other runs signed in."""
        now = self._clock()
        # Those of this run are in the cache too, unless it cannot be written.
        known = Counter(self._refreshes) | Counter(others)
        # A moment still to come is of a clock that was set back since: it counts as now.
        self._refreshes = [min(each, now) for each in known.elements() if now - each < _REFRESH_PERIOD_SECONDS]
        # A sandbox forgets its tokens whenever it is started again, and counts no sign-ins.
        is_sandbox = is_loopback(urlsplit(self._token_url).hostname or "")
        if len(self._refreshes) >= _REFRESHES and not is_sandbox:
            self._write_cache(_NO_TOKEN)
            raise TryLaterError(
                f"signed in {_REFRESHES} times within 10 minutes and the tokens do not last",
                hint="Does another program or host use the same refresh token? Wait 10 minutes, then run again.",
            )
        self._refreshes.append(now)
        form = {"grant_type": "refresh_token", **asdict(self._sign_in.credentials)}
        attempt = 0
        while True:
            attempt += 1
            asked_at = self._clock()
            try:
                status, body = self._transport(self._token_url, form)
                return read_token_answer(status, body, self._sign_in, asked_at=asked_at)
            except (UnavailableError, GarbledError):
                if attempt == _MOST_TRIES:
                    raise
                self._sleep(backoff_seconds(attempt))

    @contextlib.contextmanager
    def _cache_lock(self) -> Iterator[None]:
        path = self._sign_in.cache_path
        if path is None:
            yield
            return
        try:
            make_folders(path.parent)
            descriptor = open_ours(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT)
        except OSError:
            self._note("the token cache cannot be locked; this run signs in by itself")
            yield
            return
        waited_seconds = 0.0
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if waited_seconds >= _LOCK_PATIENCE_SECONDS:
                        raise TryLaterError(
                            "another run has been signing in for two minutes", hint="Run again when it has ended."
                        ) from None
                    self._sleep(_LOCK_POLL_SECONDS)
                    waited_seconds += _LOCK_POLL_SECONDS
            yield
        finally:
            os.close(descriptor)

    def _cached(self) -> tuple[Token | None, list[float]]:
        """Return what the cache file has of this sign-in: a token, and when the runs that share it signed in."""
        path, token, refreshes = self._sign_in.cache_path, None, list[float]()
        with contextlib.suppress(OSError, ConfigurationError, ValueError, KeyError, TypeError, RecursionError):
            kept = read_small(path, _CACHE_BYTES, is_secret=True) if path else b"{}"
            entry = json.loads(kept.decode("utf-8", errors="replace"))
            if entry["key"] == self._cache_key:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    refreshes = [float(moment) for moment in entry["refreshes"]]
                access_token, expires_at = str(entry["access_token"]), float(entry["expires_at"])
                api_url = check_api_url(entry["api_domain"], self._sign_in)
                if is_secret(access_token) and 0 < expires_at - self._clock() <= _LIFETIME_SECONDS:
                    token = Token(access_token, api_url, expires_at)
        return token, refreshes

    def _write_cache(self, token: Token) -> None:
        path = self._sign_in.cache_path
        if path is None:
            return
        entry = {
            "key": self._cache_key,
            "access_token": token.access_token,
            "api_domain": token.api_url,
            "expires_at": token.expires_at,
            "refreshes": self._refreshes,
        }
        try:
            replace_private_file(path, json.dumps(entry).encode())
        except OSError:
            self._note("the token cache cannot be written; the next run signs in again")


def read_token_answer(status: int, body: bytes, sign_in: SignIn, *, asked_at: float) -> Token:
    """Return the token of an answer to a request that began ``asked_at``; raises as `TokenSource.token`."""
    if 300 <= status < 400:
        raise ProtocolError(
            f"the token endpoint redirects (status {status}); redirects are not followed",
            hint="Check --accounts-url and --proxy: a portal may be answering.",
        )
    answer: object = None
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(body.decode("utf-8"))
    if not isinstance(answer, dict):
        if status < 500 and status != 429:
            raise GarbledError(
                f"the token endpoint did not answer with JSON (status {status})",
                hint="A proxy or login page may be answering: check --accounts-url and --proxy.",
            )
        answer = {}
    words = [str(answer.get(key, "")).strip().lower() for key in ("error", "message", "error_description")]
    if "access denied" in words[:2] or any("too many requests" in text for text in words):
        raise TryLaterError(
            "the token endpoint refuses more tokens: 10 in 10 minutes are the limit",
            hint="Wait 10 minutes, then run again; share one token cache between runs.",
        )
    if status == 429 or status >= 500:
        raise UnavailableError(
            f"the token endpoint is not available (status {status})", hint="Nothing was lost; run again later."
        )
    if status == 407:
        raise ConfigurationError("the proxy wants a sign-in of its own", hint="Put user and password in --proxy.")
    if "error" in answer:
        # Any other text may be what was sent, secrets and all.
        name = next((word for word in _ERRORS if word == answer["error"]), "with an error that is not known here")
        raise NotPermittedError(f"the sign-in is refused: {name}", hint=_ERROR_HINTS.get(name, _AUTHORISE_HINT))
    if status != 200 or "access_token" not in answer:
        raise GarbledError(
            f"what answers is not the token endpoint (status {status}, no token)",
            hint="Check --accounts-url, --data-center and --proxy.",
        )
    api_url = check_api_url(answer.get("api_domain"), sign_in)
    if not isinstance(token := answer["access_token"], str) or not is_secret(token):
        raise ProtocolError(
            "the token endpoint answered a token that cannot be one",
            hint="Nothing was sent. Check --accounts-url and --proxy.",
        )
    return Token(token, api_url, asked_at + _usable_seconds(answer))


def check_api_url(answered: object, sign_in: SignIn) -> str:
    r"""Return the API base to use: the operator's, else the answered one if it is exactly an allowed host.

    The answer is compared as text with ``https://<allowed host>``, never parsed, because URL parsers disagree
    (``https://good\@evil/`` is another host for urlsplit than for requests). Raises ConfigurationError for
    anything else; nothing may be sent there.
    """
    if sign_in.api_url is not None:
        return sign_in.api_url
    if isinstance(answered, str):
        for host in sign_in.api_hosts:
            if answered.lower() in (f"https://{host}", f"https://{host}/"):
                return f"https://{host}"
    raise ConfigurationError(
        "the token endpoint names an API host that is not one of Zoho's; nothing was sent to it",
        hint="Check --data-center and --accounts-url; a host of your own must be named with --api-url.",
    )


def _usable_seconds(answer: Mapping[str, object]) -> float:
    # Old answers carry expires_in_sec; expires_in is in milliseconds then (zohocrm-python-sdk, oauth_token.py).
    lifetime = answer.get("expires_in_sec", answer.get("expires_in"))
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime != lifetime:
        lifetime = _LIFETIME_SECONDS
    if lifetime <= 0:
        raise ProtocolError(
            "the token endpoint answered a token that has expired already",
            hint="Run again later; if it repeats, authorise again with `cdr-importer auth login`.",
        )
    lifetime_seconds = min(float(min(lifetime, 10**9)), _LIFETIME_SECONDS)
    return lifetime_seconds - min(_MARGIN_SECONDS, lifetime_seconds / 2)
