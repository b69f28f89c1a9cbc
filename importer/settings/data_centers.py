"""Zoho's data centres: where to sign in, and which API hosts an answer may name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class DataCenter:
    """One of Zoho's data centres: base URL of the sign-in, and the API host names a token answer may give."""

    name: str
    accounts_url: str
    api_hosts: frozenset[str]


def _center(name: str, accounts_host: str, *api_hosts: str) -> tuple[str, DataCenter]:
    return name, DataCenter(name, f"https://{accounts_host}", frozenset(api_hosts))


# Source of the first eight: zoho/zohocrm-python-sdk-8.0, zohocrmsdk/src/com/zoho/crm/api/dc/*.py, and
# https://www.bigin.com/developer/docs/apis/multi-dc.html
DATA_CENTERS: Mapping[str, DataCenter] = MappingProxyType(
    dict(
        (
            _center("us", "accounts.zoho.com", "www.zohoapis.com"),
            # The sample answer of https://www.zoho.com/accounts/protocol/oauth/multi-dc/client-authorization.html
            # has api.zoho.eu as its api_domain.
            _center("eu", "accounts.zoho.eu", "www.zohoapis.eu", "api.zoho.eu"),
            _center("in", "accounts.zoho.in", "www.zohoapis.in"),
            _center("au", "accounts.zoho.com.au", "www.zohoapis.com.au"),
            _center("jp", "accounts.zoho.jp", "www.zohoapis.jp"),
            _center("ca", "accounts.zohocloud.ca", "www.zohoapis.ca"),
            _center("cn", "accounts.zoho.com.cn", "www.zohoapis.com.cn"),
            _center("sa", "accounts.zoho.sa", "www.zohoapis.sa"),
            # Sign-in: https://zoho.com/accounts/protocol/oauth/multi-dc.html; the API host is from clients' code.
            _center("uk", "accounts.zoho.uk", "www.zohoapis.uk"),
            # API: https://www.zoho.com/workdrive/developer/docs/api/v1/getting-started-multi-dc-support.html;
            # the sign-in host is from clients' code.
            _center("ae", "accounts.zoho.ae", "www.zohoapis.ae"),
        )
    )
)
"""Data centres by the word that ``--data-center`` takes."""
