"""Call to form to POST to judgement: the only package with the words of the API.

`connection` sends one request, reads its answer within bounds and can cut it, `classify` says what an answer
proves, `api` has the requests: notifying a call, asking for a token, and those of setting up.
"""

from importer.client.api import AccountClient, Client, TokenTransport, User
from importer.client.classify import Judgement, Proof, Reaction, judge_failure
from importer.client.connection import Answer, Line, SendFailure, Trust

__all__ = [
    "AccountClient",
    "Answer",
    "Client",
    "Judgement",
    "Line",
    "Proof",
    "Reaction",
    "SendFailure",
    "TokenTransport",
    "Trust",
    "User",
    "judge_failure",
]
