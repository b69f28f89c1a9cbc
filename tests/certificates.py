"""Certificates made when they are needed, with the openssl command."""

import shutil
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CURVE = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
SHORT_KEY = ("rsa:1024",)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key."""

    path: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Build the server's side, which shows any certificate, however weak."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self.path, self.key)
        return context


def make_certificate(folder: Path, name: str, *, key: Sequence[str] = CURVE) -> Certificate:
    """Make a certificate for a name, good for two days."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    files = ("-keyout", str(made.key), "-out", str(made.path))
    _openssl("req", "-x509", "-newkey", *key, "-nodes", "-days", "2", *names, *files)
    return made


def make_expired_certificate(folder: Path, name: str) -> Certificate:
    """Make a certificate for a name that ended yesterday: one that is good, signed anew for a day before now."""
    good = make_certificate(folder, name)
    made = Certificate(folder / "expired.pem", good.key)
    _openssl("x509", "-in", str(good.path), "-signkey", str(good.key), "-days", "-1", "-out", str(made.path))
    return made


def _openssl(*arguments: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    subprocess.run([openssl, *arguments], check=True, capture_output=True)
