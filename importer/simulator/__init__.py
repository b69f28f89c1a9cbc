"""An honest stand-in for the Zoho PhoneBridge API and its token endpoint, on a loopback address only.

What comes in is HTTP; what goes out is what `reference/zoho-api.md` section 8 says the service answers, or a
scripted deviation from it. Standard library only and nothing of the importer's own: client and simulator
cannot share a mistake.
"""

from importer.simulator.behaviour import (
    FOREVER,
    ORDINARY,
    SANDBOX_CREDENTIALS,
    SANDBOX_USERS,
    Arrival,
    Behaviour,
    Fault,
    SandboxCredentials,
    SandboxUser,
)
from importer.simulator.server import Simulator

__all__ = [
    "FOREVER",
    "ORDINARY",
    "SANDBOX_CREDENTIALS",
    "SANDBOX_USERS",
    "Arrival",
    "Behaviour",
    "Fault",
    "SandboxCredentials",
    "SandboxUser",
    "Simulator",
]
