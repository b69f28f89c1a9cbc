"""The token endpoint's book: which access tokens are good, and how many were issued lately."""

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

GRANT_CODE_SECONDS = 180.0
LIMIT_PERIOD_SECONDS = 600.0
TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class SandboxCredentials:
    """What the token endpoint accepts."""

    client_id: str
    client_secret: str
    refresh_token: str


SANDBOX_CREDENTIALS = SandboxCredentials(
    "1000.SANDBOXCLIENTNOTREAL", "sandbox-secret-not-real", "1000.sandbox.refresh-token-not-real"
)


class TokenBook:
    """Issues access tokens and checks them; the caller lets one thread at a time in.

    ``clock`` counts seconds. ``most_per_period`` tokens are issued within ten minutes, and the oldest of
    ``most_active`` ends when another is issued, as Zoho documents.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.credentials = SANDBOX_CREDENTIALS
        self.most_per_period = 10
        self.most_active = 15
        self._clock = clock
        self._expiries: dict[str, float] = {}
        self._issued: deque[float] = deque()
        self._grant_codes: dict[str, float] = {}

    def is_good(self, token: str) -> bool:
        """Return whether ``token`` was issued and has not ended."""
        return self._expiries.get(token, 0.0) > self._clock()

    def issue_grant_code(self) -> str:
        """Return a grant code for one use within three minutes (zoho-api.md 2.1)."""
        code = _random_token()
        self._grant_codes[code] = self._clock() + GRANT_CODE_SECONDS
        return code

    def answer(self, fields: Mapping[str, str]) -> tuple[int, dict[str, object]]:
        """Return status and content for a token request; refusals have status 200 as on Zoho (zoho-api.md 2.4)."""
        known, grant_type, more = self.credentials, fields.get("grant_type"), dict[str, object]()
        if (fields.get("client_id"), fields.get("client_secret")) != (known.client_id, known.client_secret):
            return 200, {"error": "invalid_client"}
        if grant_type == "refresh_token":
            is_granted = fields.get("refresh_token") == known.refresh_token
        elif grant_type == "authorization_code":
            is_granted = self._grant_codes.pop(fields.get("code", ""), 0.0) > self._clock()
            more["refresh_token"] = known.refresh_token
        else:
            return 200, {"error": "general_error"}
        if not is_granted:
            return 200, {"error": "invalid_code"}
        while self._issued and self._issued[0] <= self._clock() - LIMIT_PERIOD_SECONDS:
            self._issued.popleft()
        if len(self._issued) >= self.most_per_period:
            description = "You have made too many requests continuously. Please try again after some time."
            return 400, {"error_description": description, "error": "Access Denied", "status": "failure"}
        return 200, {"access_token": self._issue(), **more, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}

    def _issue(self) -> str:
        now, token = self._clock(), _random_token()
        self._issued.append(now)
        self._expiries = {known: expiry for known, expiry in self._expiries.items() if expiry > now}
        while len(self._expiries) >= self.most_active:
            del self._expiries[next(iter(self._expiries))]
        self._expiries[token] = now + TOKEN_SECONDS
        return token


def _random_token() -> str:
    return f"1000.{secrets.token_hex(16)}.{secrets.token_hex(16)}"
