"""Tokens: every answer of the token endpoint, the cache file, and which API hosts are believed."""

import fcntl
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import cases, table
from importer.auth import GarbledError, SignIn, Token, TokenSource, check_api_url
from importer.errors import (
    ConfigurationError,
    ImporterError,
    NotPermittedError,
    ProtocolError,
    TryLaterError,
    UnavailableError,
)
from importer.settings.credentials import Credentials
from importer.settings.values import base_url
from runs import OwnTime

CASES = cases("auth")

NOW = 1_795_428_000.0
SECRETS = ("the-secret", "the-refresh-token")
SIGN_IN = SignIn(
    "https://accounts.zoho.com",
    Credentials("1000.CLIENT", *SECRETS),
    api_hosts=frozenset({"www.zohoapis.com", "www.zohoapis.eu"}),
)


class Reply(NamedTuple):
    """One answer of the token endpoint."""

    status: int
    body: bytes


def json_reply(status: int = 200, /, **fields: object) -> Reply:
    """Build an answer in JSON."""
    return Reply(status, json.dumps(fields).encode())


def good(token: str = "1000.aa.bb", /, **fields: object) -> Reply:
    """Build the documented answer."""
    answer: dict[str, object] = {
        "access_token": token,
        "api_domain": "https://www.zohoapis.com",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
    return json_reply(**(answer | fields))


TOO_MANY = "You have made too many requests continuously. Please try again after some time."
ACCESS_DENIED = {"error": "Access Denied", "error_description": TOO_MANY, "status": "failure"}


class Endpoint:
    """A transport that plays answers and failures in turn, the last one for ever."""

    def __init__(self, *script: Reply | Exception) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.when_asked: Callable[[], None] = lambda: None

    def __call__(self, url: str, form: Mapping[str, str]) -> Reply:
        """Answer one request."""
        self.asked.append((url, form))
        self.when_asked()
        turn = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(turn, Exception):
            raise turn
        return turn


@pytest.fixture
def clock() -> OwnTime:
    """Give a clock."""
    return OwnTime(NOW)


def source(endpoint: Endpoint, clock: OwnTime, sign_in: SignIn = SIGN_IN) -> TokenSource:
    """Build a token source over a scripted endpoint."""
    return TokenSource(sign_in, transport=endpoint, clock=clock, sleep=clock.sleep)


def test_token_is_asked_once(clock: OwnTime) -> None:
    """While the token is good, it comes from memory; once it has expired, another is asked for."""
    endpoint = Endpoint(good("1000.one"), good("1000.two"))
    tokens = source(endpoint, clock)
    found = []
    for moment in (0, 3299, 3301):
        clock.now = NOW + moment
        found.append(tokens.token().access_token)
    assert (found, len(endpoint.asked)) == (["1000.one", "1000.one", "1000.two"], 2)


def test_repr_hides_secrets() -> None:
    """Neither a sign-in nor a token shows its secrets when printed."""
    shown = f"{SIGN_IN!r} {Token('the-secret', 'https://www.zohoapis.com', NOW)!r}"
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.fault(47)
@table(
    ("usable_seconds", "lifetimes"),
    [(3300.0, (3600, None, "3600", "soon", True, [1], 1e12, 10**400)), (1500.0, (1800,)), (30.0, (60,))],
)
def test_token_lifetime(usable_seconds: float, lifetimes: tuple[object, ...]) -> None:
    """From before the request; if missing, no number or huge an hour; expires_in_sec outranks expires_in."""
    answers = [good(expires_in=lifetime) for lifetime in lifetimes]
    answers.append(good(expires_in=lifetimes[0] * 1000, expires_in_sec=lifetimes[0]))  # type: ignore[operator]
    for answer in answers:
        endpoint, clock = Endpoint(answer), OwnTime(NOW)
        endpoint.when_asked = lambda clock=clock: clock.sleep(7)
        assert source(endpoint, clock).token().expires_at == NOW + usable_seconds, answer


@pytest.mark.fault(42, 43, 45, 47, 149)
@table(
    ("error", "requests", "replies"),
    [
        (NotPermittedError, 1, (json_reply(400, error="invalid_grant"), json_reply(401, error="invalid_client"))),
        (NotPermittedError, 1, (json_reply(200, error="general_error"), json_reply(200, error={"x": 1}))),
        (TryLaterError, 1, (json_reply(429, **ACCESS_DENIED), json_reply(200, message="Access Denied"))),
        (ProtocolError, 3, (Reply(200, b""), Reply(200, b'{"access_token":"1000.'), Reply(200, b"[]"))),
        (ProtocolError, 3, (Reply(200, b"{}"), Reply(200, "{}".encode("utf-16")), Reply(200, b"[" * 60000))),
        (ProtocolError, 3, (Reply(404, b"<html>"), good()._replace(status=201), GarbledError("cut"))),
        (ProtocolError, 1, (Reply(301, b""), good()._replace(status=302), good("1000.aa\r\nX-Evil: 1"))),
        (ProtocolError, 1, (good(""), good("x" * 4097), good("töken"), good(access_token=12))),
        (ProtocolError, 1, (good(access_token=None), good(expires_in=0), good(expires_in=-5))),
        (UnavailableError, 3, (Reply(429, b""), Reply(503, b"<html>"), json_reply(500, error="invalid_code"))),
        (UnavailableError, 3, (UnavailableError("refused"),)),
        (ConfigurationError, 1, (ConfigurationError("certificate"), Reply(407, b"{}"))),
        (ConfigurationError, 1, (good(api_domain="https://evil.example"), good(api_domain=None))),
    ],
)
def test_token_failure(error: type[ImporterError], requests: int, replies: tuple[Reply | Exception, ...]) -> None:
    """Each bad answer ends as its exit code after the right number of requests."""
    for reply in replies:
        endpoint = Endpoint(reply)
        with pytest.raises(error):
            source(endpoint, OwnTime(NOW)).token()
        assert len(endpoint.asked) == requests, reply


@pytest.mark.fault(136)
@pytest.mark.parametrize("wrap", [str, str.upper, lambda text: f"invalid_client {text}", lambda text: {"x": text}])
def test_refusal_repeats_no_secret(wrap: Callable[[str], object], clock: OwnTime) -> None:
    """An error that holds what was sent to the token endpoint is not repeated."""
    for secret in astuple(SIGN_IN.credentials):
        endpoint = Endpoint(json_reply(error=wrap(secret), error_description=secret, message=secret))
        with pytest.raises(NotPermittedError, match="not known here") as caught:
            source(endpoint, clock).token()
        assert secret.lower() not in f"{caught.value.message}{caught.value.hint}".lower()


def test_token_after_trouble() -> None:
    """Passing trouble is tried again, with waits between, until a token comes."""
    for trouble in (UnavailableError("reset"), GarbledError("cut"), Reply(502, b"")):
        clock = OwnTime(NOW)
        assert source(Endpoint(trouble, trouble, good()), clock).token().access_token == "1000.aa.bb"
        assert len(clock.waits) == 2


def test_renew_by_many_threads(clock: OwnTime) -> None:
    """Eight threads that meet the same refused token cause one request, and so does nobody after them."""
    endpoint = Endpoint(good("1000.one"), good("1000.two"))
    tokens = source(endpoint, clock)
    first, start = tokens.token(), threading.Barrier(8)

    def renew(_: int) -> str:
        start.wait(10)
        return tokens.token(first).access_token

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(renew, range(8))) == ["1000.two"] * 8
    assert (tokens.token(first).access_token, len(endpoint.asked)) == ("1000.two", 2)


@pytest.fixture
def shared(tmp_path: Path) -> SignIn:
    """Give a sign-in with a cache file in a folder that is not there yet."""
    return replace(SIGN_IN, cache_path=tmp_path / "state" / "token.json")


def cache_of(sign_in: SignIn) -> Path:
    """Return the path of the cache file."""
    assert sign_in.cache_path is not None
    return sign_in.cache_path


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("set_back_seconds", [0, 3600])
def test_refreshes_are_counted(is_cached: bool, set_back_seconds: int, shared: SignIn, clock: OwnTime) -> None:
    """Two tokens in ten minutes are all, in this run and over runs, also by a clock that was set back since."""
    script = Endpoint(*(good(f"1000.{number}") for number in range(3)))
    tokens = source(script, clock, shared if is_cached else SIGN_IN)
    second = tokens.token(tokens.token())
    clock.now -= set_back_seconds
    for _ in range(2):
        with pytest.raises(TryLaterError, match="2 times within 10 minutes"):
            tokens.token(second)
        if is_cached:
            tokens = source(script, clock, shared)
        clock.now += 300
    clock.now += 1
    assert tokens.token(second).access_token == "1000.2"


def test_sandbox_restarts_freely(shared: SignIn, clock: OwnTime) -> None:
    """Sign-ins on this machine are not limited: a sandbox started again has forgotten its tokens."""
    script = Endpoint(*(good(f"1000.{number}") for number in range(5)))
    local = replace(shared, accounts_url="http://127.0.0.1:8080", api_url="http://127.0.0.1:8080")
    for number in range(4):
        run = source(script, clock, local)
        run.token(run.token())
        assert len(script.asked) == number + 2


@pytest.mark.fault(50)
@table(
    "damage",
    [
        *(lambda _, text=text: text for text in ("{", "[]", "null", '{"key":1}', "[" * 9000, "\x00\xff")),
        *(lambda text, length=length: text[:length] for length in (0, 1, 16, 20, 60, 120)),
    ],
)
def test_cache_corrupt(damage: Callable[[str], str], shared: SignIn, clock: OwnTime) -> None:
    """A damaged or half-written cache file is ignored and written anew."""
    cache_of(shared).unlink(missing_ok=True)
    source(Endpoint(good("1000.old")), clock, shared).token()
    cache_of(shared).write_text(damage(cache_of(shared).read_text()), encoding="latin-1")
    assert source(Endpoint(good()), clock, shared).token().access_token == "1000.aa.bb"
    assert json.loads(cache_of(shared).read_text())["access_token"] == "1000.aa.bb"


OTHER_HOST = {"api_hosts": frozenset({"www.zohoapis.eu"})}


@pytest.mark.parametrize(
    ("change", "seconds", "mode"),
    [
        ({"credentials": replace(SIGN_IN.credentials, client_id="1000.OTHER")}, 0, 0o600),
        ({"accounts_url": "https://accounts.zoho.eu"}, 0, 0o600),
        ({"credentials": replace(SIGN_IN.credentials, refresh_token="another")}, 0, 0o600),
        (OTHER_HOST, 0, 0o600),
        ({}, 3301, 0o600),
        ({}, -90000, 0o600),
        ({}, 0, 0o644),
    ],
)
def test_other_cache(change: dict[str, object], seconds: float, mode: int, shared: SignIn, clock: OwnTime) -> None:
    """A cached token saves a request, but not one of another sign-in or time, or open to others."""
    source(Endpoint(good("1000.old")), clock, shared).token()
    assert source(Endpoint(UnavailableError("never asked")), clock, shared).token().access_token == "1000.old"
    cache_of(shared).chmod(mode)
    clock.now += seconds
    domain = {"api_domain": "https://www.zohoapis.eu"} if change is OTHER_HOST else {}
    endpoint = Endpoint(good("1000.new", **domain))
    assert source(endpoint, clock, replace(shared, **change)).token().access_token == "1000.new"  # type: ignore[arg-type]


@pytest.mark.fault(145)
def test_cache_symlink(shared: SignIn, clock: OwnTime, tmp_path: Path) -> None:
    """A link planted as the cache file is neither read nor written through."""
    source(Endpoint(good("1000.old")), clock, shared).token()
    target = tmp_path / "target"
    cache_of(shared).rename(target)
    before = target.read_bytes()
    cache_of(shared).symlink_to(target)
    assert source(Endpoint(good("1000.new")), clock, shared).token().access_token == "1000.new"
    assert target.read_bytes() == before


@pytest.mark.parametrize("is_file", [True, False])
def test_cache_that_is_in_the_way(shared: SignIn, clock: OwnTime, is_file: bool) -> None:
    """What a killed run left half written keeps nobody from caching, a cache that cannot be from signing in."""
    if is_file:
        cache_of(shared).parent.write_text("a file where the folder should be")
    else:
        cache_of(shared).parent.mkdir()
        cache_of(shared).with_name("token.json.new").write_text("half")
    assert source(Endpoint(good()), clock, shared).token().access_token == "1000.aa.bb"
    assert is_file or json.loads(cache_of(shared).read_text())["access_token"] == "1000.aa.bb"


def test_renew_finds_token_of_another_process(shared: SignIn, clock: OwnTime) -> None:
    """A token that another process renewed meanwhile is taken from the cache, without asking."""
    endpoint = Endpoint(good("1000.one"))
    tokens = source(endpoint, clock, shared)
    stale = tokens.token()
    source(Endpoint(good("1000.two")), clock, shared).token(stale)
    assert tokens.token(stale).access_token == "1000.two"
    assert len(endpoint.asked) == 1


def test_lock_is_waited_for(shared: SignIn, clock: OwnTime) -> None:
    """While another process signs in, we wait, and then take its token."""
    source(Endpoint(good("1000.other")), clock, shared).token()
    content = cache_of(shared).read_text()
    cache_of(shared).unlink()
    with cache_of(shared).with_name("token.json.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def sleep(seconds: float) -> None:
            cache_of(shared).touch(0o600)
            cache_of(shared).write_text(content)
            fcntl.flock(lock, fcntl.LOCK_UN)

        endpoint = Endpoint(good("1000.own"))
        tokens = TokenSource(shared, transport=endpoint, clock=clock, sleep=sleep)
        assert (tokens.token().access_token, endpoint.asked) == ("1000.other", [])


def test_lock_held_too_long(shared: SignIn, clock: OwnTime) -> None:
    """A lock that is held for two minutes ends as try later."""
    cache_of(shared).parent.mkdir()
    with cache_of(shared).with_name("token.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryLaterError):
            source(Endpoint(good()), clock, shared).token()


GOOD_URL = "https://www.zohoapis.com"


@pytest.mark.fault(140)
def test_api_url() -> None:
    """An API host on the list is used; any other text is refused, without showing it."""
    assert check_api_url("https://www.zohoapis.eu/", SIGN_IN) == "https://www.zohoapis.eu"
    assert check_api_url("HTTPS://WWW.ZohoApis.com", SIGN_IN) == GOOD_URL
    for answered in CASES["other_answers"]:
        with pytest.raises(ConfigurationError) as caught:
            check_api_url(answered, SIGN_IN)
        assert "--api-url" in caught.value.hint
        assert answered in ("", "/") or answered not in caught.value.message, answered


@pytest.mark.fault(31, 140)
def test_base_url() -> None:
    """The operator may name a scheme, a host and a port; http for loopback addresses only. All else is refused."""
    loopback = ("http://127.0.0.1:8080", "http://127.8.9.1", "http://localhost:8080", "http://[::1]:8080")
    for url in (GOOD_URL, "https://api.example:8443", *loopback):
        assert base_url(url + "/") == url
    for url in CASES["other_bases"]:
        with pytest.raises(ValueError, match="must be"):
            base_url(url)
