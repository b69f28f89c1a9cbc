"""What goes into a delivery, what it calls while it goes on, and what comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from importer.auth import TokenSource
from importer.client import Client, Judgement
from importer.errors import ExitCode
from importer.events import Event
from importer.ledger import Claimed
from importer.pacing import Backoff, RollingLimiter
from importer.records import Receipt


@dataclass(frozen=True, slots=True)
class Service:
    """The API as delivery uses it; clocks and sleep are passed in.

    ``clock`` is monotonic and shared with ``limiter``; ``wall_clock`` is epoch seconds; ``deadline`` is the moment
    of ``clock`` after which no request begins; ``interrupted`` returns the exit code of a signal that came in;
    ``is_cut`` whether the requests in flight are to end at once; ``cut_sign_in`` ends a sign-in in flight;
    ``account`` names the account, to which a ledger is bound.
    """

    clients: Callable[[], Client]
    tokens: TokenSource
    limiter: RollingLimiter
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    sleep: Callable[[float], None]
    deadline: float | None
    interrupted: Callable[[], ExitCode | None]
    is_cut: Callable[[], bool]
    cut_sign_in: Callable[[], None]
    account: str
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class DeliveryListener:
    """What a delivery calls while it goes on.

    ``claimed`` gets each batch before anything of it is sent, from one sending thread at a time; ``token`` is
    called from a sending thread once there is a token to send with; ``receipt`` gets each receipt once, in the
    main thread; ``unrecorded`` what an answer proved that the ledger could not take, and ``event`` each request
    and each wait, from the thread that sends.
    """

    claimed: Callable[[Sequence[Claimed]], None]
    token: Callable[[], None]
    receipt: Callable[[Receipt], None]
    unrecorded: Callable[[Receipt], None]
    event: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before all was sent."""

    exit_code: ExitCode
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One call with the receipt that this run ends with for it, and the judgement behind it."""

    receipt: Receipt
    judgement: Judgement
    stop: Stop | None = None
    given_up: bool = False


def stop_of(judgement: Judgement, otherwise: ExitCode) -> Stop:
    """Return the stop that a judgement makes, with its own exit code if it has one."""
    return Stop(judgement.exit_code or otherwise, judgement.reason, judgement.hint)
