"""The header that signs a request in."""

import requests
from requests.auth import AuthBase


class ZohoToken(AuthBase):
    """Sets the Authorization header; as an auth object no .netrc entry can replace it (requests 2.34)."""

    def __init__(self, access_token: str) -> None:
        self._access_token = access_token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header; requests calls this for each request."""
        r.headers["Authorization"] = f"Zoho-oauthtoken {self._access_token}"
        return r
