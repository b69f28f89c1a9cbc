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

EXPIRING = """[ca]
default_ca = own
[own]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:{name}
"""


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
    """Make a certificate for a name that was good for one day of 2020; only `openssl ca` takes past dates."""
    key = make_certificate(folder, name).key
    made, request = Certificate(folder / "expired.pem", key), folder / "request.pem"
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(EXPIRING.format(folder=folder, name=name))
    _openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
    what = ("-selfsign", "-keyfile", str(key), "-in", str(request), "-out", str(made.path), "-notext")
    when = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
    _openssl("ca", "-batch", "-config", str(folder / "ca.cnf"), *what, *when)
    return made


def _openssl(*arguments: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    subprocess.run([openssl, *arguments], check=True, capture_output=True)
