"""What ends a run early: refusals, uncertain calls, silence, the same answer again and again."""

from collections import deque

from importer.client import Proof
from importer.deliver.plan import Delivered, DeliveryPlan, Stop, stop_of
from importer.errors import ExitCode
from schemas.vocabulary import CallState

UNANSWERED_IN_A_ROW = 5
"""So many calls in a row of which nothing came open the breaker; each uncertain one costs a person's time."""


class Breaker:
    """Counts the calls of a run as they end; not for several threads at once."""

    def __init__(self, plan: DeliveryPlan) -> None:
        self._plan = plan
        self._sent = self._refused = self._uncertain = self._fruitless = 0
        self._latest: deque[tuple[str, str]] = deque(maxlen=16)

    def add(self, delivered: Delivered) -> Stop | None:
        """Count one call; return why the run stops, if it does."""
        receipt, judgement = delivered.receipt, delivered.judgement
        self._sent += 1
        self._refused += receipt.state is CallState.REFUSED
        self._uncertain += receipt.state is CallState.UNCERTAIN
        fruitless = delivered.given_up or receipt.http_status is None
        self._fruitless = self._fruitless + 1 if fruitless else 0
        # A failing service is the same whether it or its gateway says so: the code in the body does not count.
        failing = judgement.proof is Proof.UNKNOWN and (receipt.http_status or 0) >= 500
        self._latest.append((receipt.reason, "" if failing else receipt.code))
        if delivered.stop is not None:
            return delivered.stop
        if judgement.stop_after and self._in_a_row() >= judgement.stop_after:
            return stop_of(judgement, ExitCode.PROTOCOL)
        return self._too_many()

    def _in_a_row(self) -> int:
        same = 0
        for each in reversed(self._latest):
            if each != self._latest[-1]:
                break
            same += 1
        return same

    def _too_many(self) -> Stop | None:
        if self._fruitless >= UNANSWERED_IN_A_ROW:
            return Stop(
                ExitCode.UNAVAILABLE,
                "unreachable",
                f"{self._fruitless} calls in a row could not be sent or got no answer; run again.",
            )
        if self._uncertain >= self._plan.max_uncertain:
            return Stop(
                ExitCode.UNCERTAIN, "max_uncertain", f"The answers of {self._uncertain} calls were lost; stopped."
            )
        if self._plan.errors.exceeded(self._refused, self._sent):
            return Stop(ExitCode.PARTIAL, "max_errors", f"The API refused {self._refused} calls; stopped.")
        return None
