"""From a grant code, which Zoho's API console shows for some minutes, to a refresh token, which lasts."""

import json
from collections.abc import Callable

from importer.auth import TOKEN_PATH, SignIn, Transport, check_base_url, read_token_answer
from importer.errors import NotPermittedError, ProtocolError
from importer.settings import is_secret

SCOPE = "PhoneBridge.call.log,PhoneBridge.zohoone.search"
"""Both scopes of PhoneBridge (auth-request.html); which of them lists the users is not documented."""


def console_url(accounts_url: str) -> str:
    """Return the API console of the data centre whose sign-in host this is.

    Only https://api-console.zoho.com stands in Zoho's pages; the others are named like their sign-in hosts.
    """
    return accounts_url.replace("//accounts.", "//api-console.", 1)


def exchange_code(code: str, sign_in: SignIn, transport: Transport, clock: Callable[[], float]) -> str:
    """Return the refresh token that a grant code stands for; the code is used up, whatever the answer.

    Source: https://www.zoho.com/accounts/protocol/oauth/self-client/authorization-code-flow.html

    Raises:
        NotPermittedError: the code or the client is refused (77). Else as `importer.auth.TokenSource.token`.
    """
    form = {
        "grant_type": "authorization_code",
        "client_id": sign_in.client_id,
        "client_secret": sign_in.client_secret,
        "code": code,
    }
    asked_at = clock()
    reply = transport(check_base_url(sign_in.accounts_url, "--accounts-url") + TOKEN_PATH, form)
    try:
        read_token_answer(reply, sign_in, asked_at=asked_at)
    except NotPermittedError as error:
        if "invalid_code" in error.message:
            raise NotPermittedError(
                "the code is refused: used before, older than the minutes chosen, or of another data centre",
                hint="Make a new code in the console and paste it at once; see also --data-center.",
            ) from None
        raise
    token = json.loads(reply.body.decode("utf-8")).get("refresh_token")
    if token is None:
        raise NotPermittedError(
            "the answer holds no refresh token",
            hint="Make the code with a Self Client, as described above; other clients need offline access.",
        )
    if not isinstance(token, str) or not is_secret(token):
        raise ProtocolError("the answer holds a refresh token that cannot be one", hint="Check --accounts-url.")
    return token
