"""How calls go out: in order, once, so many tries, and what ends a run before its calls do."""

import errno
import os

import pytest

from conftest import closed_port
from faults.night import Night
from importer.deliver import UNANSWERED_IN_A_ROW
from importer.errors import CannotCreateError
from importer.ledger import open_reader
from importer.settings import Limit
from misbehaviour import FOREVER, ORDINARY, Fault
from steps import Step, at

ODD = Fault(status=200, body=b'{"status":"strange","code":"ODD"}')
NOT_APPLIED = Fault(status=425)


def attempts(night: Night) -> list[tuple[str, str]]:
    """Deliver and return outcome and requests of each call."""
    return [(row["outcome"], row["attempts"]) for row in night.run().rows]


# order, limits, workers --------------------------------------------------------------------------------------


def test_all_are_sent_in_order(night: Night) -> None:
    """With one worker the calls go out and are listed oldest first; an empty ledger costs no sign-in."""
    night.take_in(0)
    assert (night.run().why, night.api.token_requests) == ((0, "done"), 0)
    night.take_in(7)
    ended, ids = night.run(batch_size=3), [f"call{number:03}" for number in range(7)]
    assert (ended.why, [row["call_id"] for row in ended.rows], night.states()) == (
        (0, "done"),
        ids,
        {"accepted": 7},
    )
    assert night.posts() == ids


def test_workers_send_each_call_once(night: Night) -> None:
    """Four workers over small batches send every call exactly once."""
    night.take_in(40)
    ended = night.run(batch_size=3, workers=4)
    assert (ended.why, len(ended.rows), night.states()) == ((0, "done"), 40, {"accepted": 40})
    assert len(set(night.posts())) == len(night.posts()) == 40


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_limit_counts_calls_over_batches(night: Night, limit: int, workers: int) -> None:
    """A limit holds whatever the size of a batch and the number of workers."""
    night.take_in(5)
    night.run(batch_size=2, limit=limit, workers=workers)
    assert len(night.api.arrivals) == limit


@pytest.mark.fault(40)
def test_workers_share_one_refresh(night: Night) -> None:
    """A token that expires under four workers is renewed once."""
    night.take_in(12)
    night.api.script(ORDINARY.repeated(4), Fault.expired_token())
    ended = night.run(workers=4)
    assert (ended.why, night.states(), night.api.token_requests) == ((0, "done"), {"accepted": 12}, 2)


@pytest.mark.fault(42)
def test_sign_in_revoked_in_mid_run(night: Night) -> None:
    """When the token expires and cannot be renewed, what was sent stays recorded and the rest pending."""
    night.take_in(4)
    night.api.script(ORDINARY, Fault.expired_token())
    night.api.script_tokens(ORDINARY, Fault(status=200, body=b'{"error":"invalid_grant"}'))
    assert (night.run().code, night.states()) == (77, {"accepted": 1, "pending": 3})


# tries and waits ---------------------------------------------------------------------------------------------


def test_what_was_not_applied_is_tried_again(night: Night) -> None:
    """A request proved not applied is repeated after a second and after two at most, and counted."""
    night.take_in(1)
    night.api.script(NOT_APPLIED.repeated(2))
    assert (attempts(night), len(night.api.arrivals)) == ([("accepted", "3")], 3)
    first, second = (
        after.moment - before.moment
        for before, after in zip(night.api.arrivals, night.api.arrivals[1:], strict=False)
    )
    assert 0 < first <= 1.5
    assert 0 < second <= 2.5


def test_tries_run_out(night: Night) -> None:
    """After four tries the call stays pending and the next one has its turn."""
    night.take_in(2)
    night.api.script(NOT_APPLIED.repeated(4))
    assert attempts(night) == [("pending", "4"), ("accepted", "1")]


def test_refused_retries_open_the_breaker(night: Night) -> None:
    """Calls given up after all their tries count as unanswered, and the bucket of retries bounds the requests."""
    night.take_in(20)
    night.api.script(NOT_APPLIED.repeated(FOREVER))
    assert (night.run().why, night.states()) == ((69, "unreachable"), {"pending": 20})
    assert len(night.api.arrivals) == UNANSWERED_IN_A_ROW * 4


@pytest.mark.fault(75)
def test_throttle_without_a_wait_is_given_up_at_last(night: Night) -> None:
    """429 that names no wait is waited out for 30, 60 and 120 seconds and up to a tenth more, then it is 75."""
    night.take_in(2)
    night.api.script(Fault(status=429).repeated(FOREVER))
    began = night.time.now
    assert (night.run().why, len(night.api.arrivals), night.states()) == ((75, "throttled"), 4, {"pending": 2})
    assert 30 + 60 + 120 <= night.time.now - began <= 1.1 * (30 + 60 + 120) + 1


def test_throttle_holds_all_workers(night: Night) -> None:
    """After a throttle nobody sends before the wait is over, and the call goes out then."""
    night.take_in(6)
    night.api.script(Fault.throttle("A", wait_seconds=20))
    began = night.time.now
    assert (night.run(workers=3).why, night.states()) == ((0, "done"), {"accepted": 6})
    assert night.time.now >= began + 20


def test_wait_is_kept_before_it_is_waited_for(night: Night) -> None:
    """A run killed while it waits leaves the moment to the next one."""
    night.take_in(1)
    night.api.script(Fault.throttle("A", wait_seconds=60))
    night.run()
    with open_reader(night.ledger) as ledger:
        assert ledger.held_until() == "2026-03-02 15:01:00"


# what ends a run ---------------------------------------------------------------------------------------------


def test_too_many_uncertain_of_several_kinds(night: Night) -> None:
    """Three uncertain calls end a run, whatever made them so and whatever was accepted between."""
    night.take_in(9)
    night.api.script(ODD, ORDINARY, Fault.lost_answer(), ORDINARY, Fault(status=409))
    assert night.run().why == (4, "max_uncertain")
    assert night.states() == {"pending": 4, "accepted": 2, "uncertain": 3}


@pytest.mark.parametrize(
    ("limit", "why", "refused"),
    [("2", (3, "max_errors"), 2), ("1", (3, "max_errors"), 1), ("50%", (3, "refused"), 4)],
)
def test_error_limit(night: Night, limit: str, why: tuple[int, str], refused: int) -> None:
    """The run stops at the number of refusals allowed, and a share is not exceeded by every third call."""
    night.take_in(12)
    for number in range(4):
        night.api.script(Fault.refusal(f"CODE_{number}"), ORDINARY.repeated(2))
    ended = night.run(max_errors=Limit.parse(limit))
    assert (ended.why, night.states()["refused"]) == (why, refused)
    assert ("pending" in night.states()) is (why[1] == "max_errors")


@pytest.mark.fault(51)
@pytest.mark.parametrize("workers", [1, 3])
def test_nobody_there(night: Night, workers: int) -> None:
    """Where nobody listens, the run ends after a few calls in a row with 69, and all is pending."""
    night.take_in(20)
    ended = night.run(workers=workers, api_url=f"http://127.0.0.1:{closed_port()}")
    assert (ended.why, night.states()) == ((69, "unreachable"), {"pending": 20})
    tried = sum(row["reason"] == "refused" for row in ended.rows)
    assert UNANSWERED_IN_A_ROW <= tried <= UNANSWERED_IN_A_ROW + workers


def test_results_that_cannot_take_a_batch(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose rows cannot be made safe is not sent; what was in flight is recorded, the failure raised."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    night.take_in(6)
    with pytest.raises(CannotCreateError):
        night.run(batch_size=2, workers=2, step=at(Step.NOTED, 1, lambda: monkeypatch.setattr(os, "fsync", full)))
    assert (night.states(), len(night.api.arrivals)) == ({"accepted": 2, "pending": 4}, 2)
