"""The token endpoint's book: which access tokens are good, and how many were given out lately."""

import secrets
from collections import deque
from collections.abc import Callable, Mapping

from importer.simulator.answers import Answer, json_answer, token_error, too_many_tokens
from importer.simulator.behaviour import Behaviour

LIMIT_PERIOD_SECONDS = 600.0


class TokenBook:
    """Gives out and knows access tokens; the caller sees to it that one thread at a time is inside.

    Every ``now`` is seconds of one clock; ``random_hex`` makes that many random bytes in hex.
    """

    def __init__(self, random_hex: Callable[[int], str] = secrets.token_hex) -> None:
        self._random_hex = random_hex
        self._expiries: dict[str, float] = {}
        self._issued: deque[float] = deque()
        self._grant_codes: dict[str, float] = {}

    def is_good(self, token: str, now: float) -> bool:
        """Say whether ``token`` was given out and has neither expired nor been pushed out."""
        return self._expiries.get(token, now) > now

    def expire_all(self) -> None:
        """Make every access token given out so far invalid."""
        self._expiries.clear()

    def issue_grant_code(self, expiry: float) -> str:
        """Return a grant code that can be turned into tokens once, before ``expiry``."""
        code = f"1000.{self._random_hex(16)}.{self._random_hex(16)}"
        self._grant_codes[code] = expiry
        return code

    def answer(self, fields: Mapping[str, str], behaviour: Behaviour, base_url: str, now: float) -> Answer:
        """Answer a token request; errors come with status 200 as on Zoho (zoho-api.md 2.4)."""
        expected = behaviour.credentials
        client = (fields.get("client_id"), fields.get("client_secret"))
        if client != (expected.client_id, expected.client_secret):
            return token_error("invalid_client")
        grant_type = fields.get("grant_type")
        if grant_type == "refresh_token":
            if fields.get("refresh_token") != expected.refresh_token:
                return token_error("invalid_code")
            return self._token_answer({}, behaviour, base_url, now)
        if grant_type == "authorization_code":
            if self._grant_codes.pop(fields.get("code", ""), now) <= now:
                return token_error("invalid_code")
            return self._token_answer({"refresh_token": expected.refresh_token}, behaviour, base_url, now)
        return token_error("general_error")

    def _token_answer(self, more: Mapping[str, object], behaviour: Behaviour, base_url: str, now: float) -> Answer:
        while self._issued and self._issued[0] <= now - LIMIT_PERIOD_SECONDS:
            self._issued.popleft()
        if len(self._issued) >= behaviour.token_limit_per_10_minutes:
            return too_many_tokens(behaviour.token_throttle_status)
        content: dict[str, object] = {"access_token": self._issue(behaviour, now), **more}
        content["api_domain"] = base_url if behaviour.api_domain is None else behaviour.api_domain
        content |= {"token_type": "Bearer"}
        if behaviour.legacy_token_answer:
            content["expires_in_sec"] = behaviour.token_seconds
        content["expires_in"] = behaviour.token_seconds * (1000 if behaviour.legacy_token_answer else 1)
        return json_answer(200, content)

    def _issue(self, behaviour: Behaviour, now: float) -> str:
        token = f"1000.{self._random_hex(16)}.{self._random_hex(16)}"
        self._issued.append(now)
        self._expiries = {known: expiry for known, expiry in self._expiries.items() if expiry > now}
        while len(self._expiries) >= behaviour.active_token_limit:
            del self._expiries[next(iter(self._expiries))]
        self._expiries[token] = now + behaviour.token_seconds
        return token
