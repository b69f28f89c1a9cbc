"""The secrets of the sign-in, from the environment or a credentials file that nobody else can read."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from importer.errors import ConfigurationError
from importer.settings.naming import APPLICATION, SECRETS, variable_of

_CREDENTIALS_NAME = "credentials.toml"
_CREDENTIALS_BYTES = 16 * 1024
_SECRET = re.compile(r"[\x21-\x7e]{1,4096}")
_TOML_POSITION = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What signs in to Zoho: the client's id and secret, and the refresh token. Never shown."""

    client_id: str
    client_secret: str
    refresh_token: str


def credentials_path() -> Path:
    """Return where `load_credentials` looks and ``auth`` writes: ``credentials.toml`` in the config folder."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / _CREDENTIALS_NAME


def load_credentials(environment: Mapping[str, str], path: Path | None = None) -> Credentials:
    """Return the secrets, all three from the environment or all three from the credentials file.

    ``path`` is the credentials file, by default `credentials_path`; it is not looked at when any of the three
    variables is set, so that the parts of two sign-ins are never mixed.

    Raises:
        ConfigurationError: some are missing, the file is not a regular file of ours of mode 0600, or a secret
            holds blanks or control characters (78).
    """
    where = credentials_path() if path is None else path
    in_environment = {
        name: environment[variable_of(name)] for name in SECRETS if environment.get(variable_of(name))
    }
    secrets = in_environment or _secrets_of(where)
    missing = [name for name in SECRETS if name not in secrets]
    if missing:
        variables = ", ".join(map(variable_of, missing))
        also = " (some of the three are in the environment, so the file is not read)" if in_environment else ""
        raise ConfigurationError(
            f"missing for the sign-in: {', '.join(missing)}{also}",
            hint=f"Set {variables}, or run `cdr-importer auth`, which writes all three to {where}.",
        )
    for name, secret in secrets.items():
        if not _SECRET.fullmatch(secret):
            origin = f"environment variable {variable_of(name)}" if in_environment else f"{where}: {name}"
            raise ConfigurationError(
                f"{origin} holds a blank, a line end or another character that no such secret has",
                hint="Copy it again, without quotes, blanks or line ends around it.",
            )
    return Credentials(**secrets)


def _secrets_of(path: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(_read_private(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The parser's own words may quote the file.
        position = _TOML_POSITION.search(str(error))
        raise ConfigurationError(
            f"{path} is not TOML{f': see {position[1]}' if position else ''}",
            hint='Write three lines like client_id = "...", or run `cdr-importer auth`.',
        ) from None
    secrets = {key.replace("-", "_"): value for key, value in content.items()}
    if not set(SECRETS).issuperset(secrets) or not all(isinstance(value, str) for value in secrets.values()):
        raise ConfigurationError(
            f"{path} holds something else than the texts {', '.join(SECRETS)}",
            hint="Leave only these three keys, each with its value in quotes.",
        )
    return {name: secret for name, secret in secrets.items() if secret}


def _read_private(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}",
            hint="The credentials file must be a regular file of your own, no symbolic link.",
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise ConfigurationError(
                f"{path} is not a regular file that belongs to the user running this",
                hint="Run `cdr-importer auth` as that user.",
            )
        if facts.st_mode & 0o077:
            raise ConfigurationError(
                f"{path} can be read by others: its mode is {stat.S_IMODE(facts.st_mode):04o}",
                hint=f"Run `chmod 600 {path}`; if others use this machine, authorise again.",
            )
        return file.read(_CREDENTIALS_BYTES)
