"""Which certificates are trusted, whatever the environment of the process names."""

import ssl
import threading
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from importer.errors import ConfigurationError
from importer.private_files import open_small


class Trust:
    """What we trust: the CA list that ships with requests, and the operator's file; may be shared by threads.

    The environment (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, SSLKEYLOGFILE) does not count. The list takes 40 ms, and
    is loaded when TLS is first wanted: a run that has nothing to send, or sends to loopback, goes without.
    Raises ConfigurationError when the file cannot be read or holds no certificate.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._guard = threading.Lock()
        self._is_whole = False
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_bundle is not None:
            try:
                open_small(ca_bundle).close()  # a pipe would be waited for
                self._context.load_verify_locations(ca_bundle)
            except OSError:
                raise ConfigurationError(
                    "--ca-bundle cannot be read as certificates", hint="Name a readable file in PEM form."
                ) from None

    def context(self) -> ssl.SSLContext:
        """Return it whole, for a connection under TLS."""
        with self._guard:
            if not self._is_whole:
                self._context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
                self._is_whole = True
        return self._context


class TrustingAdapter(HTTPAdapter):
    """Opens connections under TLS with a `Trust`, those to a proxy too."""

    trust: Trust

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the connections to a proxy, which may stand under TLS itself."""
        context = self.trust.context() if proxy.lower().startswith("https:") else None
        return super().proxy_manager_for(proxy, proxy_ssl_context=context, **kwargs)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Return what a connection of this request needs: host and port, and under TLS the trust."""
        host_parameters, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        if host_parameters["scheme"] != "https":
            return host_parameters, {}
        return host_parameters, {"ssl_context": self.trust.context(), "cert_reqs": "CERT_REQUIRED"}
