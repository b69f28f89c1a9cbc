"""The states of a call by short names."""

from schemas.vocabulary import CallState

ACCEPTED = CallState.ACCEPTED
CLOSED = CallState.CLOSED
PENDING = CallState.PENDING
REFUSED = CallState.REFUSED
SENDING = CallState.SENDING
UNCERTAIN = CallState.UNCERTAIN
