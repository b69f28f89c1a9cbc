"""One misbehaving server: any behaviour of a connection, and any fault of the API."""

from misbehaviour.api import CALLS, TOKENS, USERS, Arrival, Simulator
from misbehaviour.faults import FOREVER, ORDINARY, USUAL, Fault

__all__ = ["CALLS", "FOREVER", "ORDINARY", "TOKENS", "USERS", "USUAL", "Arrival", "Fault", "Simulator"]
