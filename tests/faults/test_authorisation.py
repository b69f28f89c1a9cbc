"""Section C of the list: the sign-in, played to whole runs."""

from collections.abc import Callable

import pytest

from conftest import closed_port
from faults.night import Night
from importer.auth import SignIn
from importer.client import TokenTransport
from importer.records import Timeouts
from misbehaviour import FOREVER, ORDINARY, Fault
from misbehaviour.connections import Server, answering, http_answer
from steps import Step, at

Serve = Callable[..., Server]
IMPATIENT = Timeouts(connect_seconds=5, gap_seconds=0.05, deadline_seconds=10)


# tokens that end ---------------------------------------------------------------------------------------------


@pytest.mark.fault(40)
@pytest.mark.parametrize("status", [401, 400])
def test_token_expires_in_mid_run(night: Night, status: int) -> None:
    """The call that meets an expired token is sent again after one refresh; every call is accepted once."""
    night.take_in(6)
    night.api.script(ORDINARY.repeated(3), Fault.expired_token(status))
    ended = night.run()
    answers = [(arrival.fields["id"], arrival.status) for arrival in night.api.arrivals]
    assert (ended.why, night.states(), night.api.token_requests) == ((0, "done"), {"accepted": 6}, 2)
    assert answers[3:5] == [("call003", status), ("call003", 200)]
    assert len(answers) == 7
    assert night.taken_once()


@pytest.mark.fault(41)
def test_new_token_is_refused_too(night: Night) -> None:
    """A fresh token that is refused as well: 77, the rest pending, nothing uncertain."""
    night.take_in(4)
    night.api.script(ORDINARY, Fault.refusal("INVALID_TOKEN", 401).repeated(FOREVER))
    ended = night.run()
    assert (ended.why, night.states()) == ((77, "token_refused"), {"accepted": 1, "pending": 3})
    assert (night.posts(), night.api.token_requests) == (["call000", "call001", "call001"], 2)


@pytest.mark.fault(49)
def test_another_host_with_the_same_refresh_token(night: Night) -> None:
    """A token that a sign-in elsewhere has killed costs one refresh; every call is accepted once."""
    night.take_in(6)
    night.api.service.most_active = 1
    account, url = night.api.credentials, night.api.base_url
    sign_in = SignIn(url, account.client_id, account.client_secret, account.refresh_token)
    form = {
        "grant_type": "refresh_token",
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }
    elsewhere = TokenTransport(sign_in)
    ended = night.run(step=at(Step.SETTLED, 3, lambda: elsewhere(f"{url}/oauth/v2/token", form)))
    assert (ended.why, night.states()) == ((0, "done"), {"accepted": 6})
    assert (night.api.token_requests, len(night.api.arrivals)) == (3, 7)
    assert night.taken_once()


@pytest.mark.fault(48)
def test_permission_is_lost_in_mid_run(night: Night) -> None:
    """403 in the middle of a run: 77 at once, the rest pending."""
    night.take_in(5)
    night.api.script(ORDINARY.repeated(2), Fault.refusal("NO_PERMISSION", 403).repeated(FOREVER))
    ended = night.run()
    assert (ended.why, night.states()) == ((77, "not_permitted"), {"accepted": 2, "pending": 3})
    assert len(night.posts()) == 3


# sign-ins that fail ------------------------------------------------------------------------------------------


@pytest.mark.fault(42)
@pytest.mark.parametrize("error", ["invalid_code", "invalid_client"])
def test_sign_in_is_refused(night: Night, error: str) -> None:
    """A refusal, which comes with status 200, is asked for once: 77, nothing sent, and what to do is said."""
    night.take_in(3)
    night.api.script_tokens(Fault.json(200, {"error": error}).repeated(FOREVER))
    ended = night.run()
    assert (ended.code, night.states(), night.api.arrivals) == (77, {"pending": 3}, ())
    assert night.api.token_requests == 1
    assert "data-center" in ended.notes[-1]


@pytest.mark.fault(43)
@pytest.mark.parametrize("status", [400, 200])
def test_too_many_tokens(night: Night, status: int) -> None:
    """The limit on tokens is met with one request, never a loop: 75, and to wait ten minutes."""
    night.take_in(3)
    denied = {
        "error_description": "You have made too many requests",
        "error": "Access Denied",
        "status": "failure",
    }
    night.api.script_tokens(Fault.json(status, denied).repeated(FOREVER))
    ended = night.run()
    assert (ended.code, night.states(), night.api.arrivals) == (75, {"pending": 3}, ())
    assert night.api.token_requests == 1
    assert "Wait 10 minutes" in ended.notes[-1]


@pytest.mark.fault(44)
@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(reset_after_reading=True), Fault(status=503), None])
def test_token_endpoint_is_down(night: Night, fault: Fault | None) -> None:
    """A token endpoint that hangs, resets, fails or is not there is tried three times: 69, everything pending."""
    night.take_in(3)
    accounts = {} if fault else {"accounts_url": f"http://127.0.0.1:{closed_port()}"}
    night.api.script_tokens(*([fault.repeated(FOREVER)] if fault else []))
    ended = night.run(limits=IMPATIENT, **accounts)
    assert (ended.code, night.states(), night.api.arrivals) == (69, {"pending": 3}, ())
    assert night.api.token_requests == (3 if fault else 0)
    assert len(night.time.waits) >= 2


@pytest.mark.fault(44)
def test_token_endpoint_goes_down_in_mid_run(night: Night) -> None:
    """What was sent stays sent, the call without a token stays pending, and the next run goes on."""
    night.take_in(5)
    night.api.script(ORDINARY.repeated(2), Fault.expired_token())
    night.api.script_tokens(ORDINARY, Fault(status=503).repeated(3))
    ended = night.run()
    assert (ended.code, night.states()) == (69, {"accepted": 2, "pending": 3})
    assert night.api.token_requests == 4
    assert (night.run().why, night.states()) == ((0, "done"), {"accepted": 5})
    assert night.taken_once()


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ((Fault.login_page(), Fault.cut_answer(), Fault(status=200)), 3),
        ((Fault(changes={"access_token": "x" * 1_000_000}).repeated(FOREVER),), 3),
    ],
    ids=["page-cut-empty", "megabyte"],
)
def test_token_that_cannot_be_one(night: Night, answers: tuple[Fault, ...], requests: int) -> None:
    """What is no token is never sent as one: 76, and no request at the API."""
    night.take_in(2)
    night.api.script_tokens(*answers)
    ended = night.run()
    assert (ended.code, night.states(), night.api.arrivals) == (76, {"pending": 2}, ())
    assert night.api.token_requests == requests


@pytest.mark.fault(46)
def test_another_api_host_is_named(night: Night, serve: Serve) -> None:
    """An API host that is none of Zoho's gets neither token nor call, not even a connection: 78."""
    night.take_in(2)
    other = serve(answering(http_answer()))
    night.api.script_tokens(Fault(changes={"api_domain": other.base_url}))
    ended = night.run(api_url=None)
    assert (ended.code, night.states(), other.connections) == (78, {"pending": 2}, 0)
    assert "API host" in ended.notes[-1]


@pytest.mark.fault(93)
def test_second_signal_cuts_the_sign_in(night: Night) -> None:
    """A second signal does not wait for the token endpoint: everything is pending, and no other try is made."""
    night.take_in(2)
    night.api.script_tokens(Fault(delay_seconds=2))
    ended = night.run(is_cut=lambda: night.api.token_requests > 0)
    asked = night.api.token_arrivals
    assert (ended.why, night.states(), night.api.arrivals) == ((143, "signal"), {"pending": 2}, ())
    assert [arrival.status for arrival in asked] == [None]
