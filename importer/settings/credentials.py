"""The secrets of the sign-in: from the environment, systemd, a private TOML file, or the keyring that it names."""

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import tomli

from importer.errors import CannotCreateError, ConfigurationError
from importer.private_files import make_folders, os_errors_as, read_small, replace_private_file, why
from importer.settings.options import APPLICATION, variable_of

SECRETS = ("client_id", "client_secret", "refresh_token")
CREDENTIALS_NAME = "credentials.toml"
SYSTEMD_VARIABLE = "CREDENTIALS_DIRECTORY"
"""The folder of a unit's ``LoadCredential=`` files: systemd.exec(5)."""

_FILE_BYTES = 16 * 1024
_TOML_POSITION = r"\(at (line [0-9]+, column [0-9]+|end of document)\)"
_KEYRING_KEY = "keyring"
_NO_KEYRING = (
    "Run `auth login` without --keyring, as cron and services must, which have no session to unlock one. The "
    "package comes with `pip install 'cdr-importer[keyring]'`."
)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What signs in to Zoho: the client's id and secret, and the refresh token. Never shown."""

    client_id: str
    client_secret: str
    refresh_token: str


def credentials_path() -> Path:
    """Return where `load_credentials` looks and ``auth login`` writes, in the user's config folder."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / CREDENTIALS_NAME


def is_secret(text: str) -> bool:
    """Return whether a text can be one of the secrets: visible ASCII without blanks or quotes around it."""
    return re.fullmatch(r"[!#-&(-~][!-~]{0,4095}", text) is not None


def load_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return the secrets, all three from one place so that the parts of two sign-ins are never mixed.

    The place is the environment when any of the three variables is set, else the file that systemd passes, else
    `credentials_path`. Raises ConfigurationError (78).
    """
    own = credentials_path()
    passed = Path(environment.get(SYSTEMD_VARIABLE, "")) / CREDENTIALS_NAME
    by_variable = {name: environment[variable_of(name)] for name in SECRETS if environment.get(variable_of(name))}
    if secrets := by_variable:
        where = own
    elif environment.get(SYSTEMD_VARIABLE) and (secrets := _read(passed, is_ours=False)):
        where = passed
    else:
        where, secrets = own, _read(own)
    if missing := [name for name in SECRETS if name not in secrets]:
        also = " (some of the three are in the environment, so the file is not read)" if by_variable else ""
        hint = (
            f"Set {', '.join(map(variable_of, missing))}, or run `cdr-importer auth login`, which writes all "
            f"three to {where}. A trial needs none of them: `cdr-importer import --sandbox`. Where a unit of "
            "systemd has them, begin the command with README's line `systemd-run`."
        )
        if environment.get(SYSTEMD_VARIABLE) and not secrets:
            hint = f"systemd passed no {passed}: look at the unit's LoadCredential=. {hint}"
        raise ConfigurationError(f"missing for the sign-in: {', '.join(missing)}{also}", hint=hint)
    for name, secret in secrets.items():
        if not is_secret(secret):
            raise ConfigurationError(
                f"{f'environment variable {variable_of(name)}' if by_variable else f'{where}: {name}'} holds a "
                "blank, a line end or another character that no such secret has",
                hint="Copy it again, without quotes, blanks or line ends around it.",
            )
    return Credentials(**secrets)


def save_credentials(credentials: Credentials, *, in_keyring: bool = False) -> Path:
    """Write the secrets, whole or not at all, and return the file; raises CannotCreateError."""
    where = credentials_path()
    secrets = asdict(credentials)
    lines = [f'{name} = "{secret}"' for name, secret in secrets.items()]
    if in_keyring:
        with system_keyring() as keyring:
            for name, secret in secrets.items():
                keyring.set_password(APPLICATION, name, secret)
        lines = [f"{_KEYRING_KEY} = true"]
    text = "\n".join((f"# The sign-in of {APPLICATION}: keep it to yourself.", *lines, ""))
    hint = "See to its folder's rights and space."
    with os_errors_as(CannotCreateError, f"{where} cannot be written", where, hint):
        make_folders(where.parent)
        replace_private_file(where, text.encode())
    return where


def _read(path: Path, *, is_ours: bool = True) -> dict[str, str]:
    """Return the secrets that a file holds or, with ``keyring = true``, points to; none where there is no file.

    ``is_ours`` false: owner and mode of the file are not checked (systemd's credentials folder). Raises
    ConfigurationError.
    """
    try:
        content = read_small(path, _FILE_BYTES, is_secret=is_ours)
        found = tomli.loads(content.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {why(error, path)}",
            hint="The credentials file must be a regular file of your own, no symbolic link.",
        ) from error
    except (ValueError, RecursionError) as error:
        # The parser's own words may quote the file.
        position = re.search(_TOML_POSITION, str(error))
        raise ConfigurationError(
            f"{path} is not TOML{f': see {position[1]}' if position else ''}",
            hint='Write three lines like client_id = "...", or run `cdr-importer auth login`.',
        ) from None
    if found.get(_KEYRING_KEY) is True and len(found) == 1:
        with system_keyring() as keyring:
            return {name: secret for name in SECRETS if (secret := keyring.get_password(APPLICATION, name))}
    secrets = {key.replace("-", "_"): value for key, value in found.items()}
    if not set(SECRETS).issuperset(secrets) or not all(isinstance(value, str) for value in secrets.values()):
        raise ConfigurationError(
            f"{path} holds something else than the texts {', '.join(SECRETS)}",
            hint="Leave only these three keys, each with its value in quotes.",
        )
    return {name: secret for name, secret in secrets.items() if secret}


@contextmanager
def system_keyring() -> Iterator[Any]:
    """Give the system's keyring; raises ConfigurationError where there is none, and where it fails inside."""
    fault = "has no backend on this machine"
    try:
        library = importlib.import_module("keyring")
        if library.get_keyring().priority > 0:
            yield library
            return
    except ImportError:
        fault = "needs the package keyring, which is not installed"
    except Exception as error:  # locked, or without the session that it belongs to
        fault = f"cannot be used ({type(error).__name__})"
    raise ConfigurationError(f"the system keyring {fault}", hint=_NO_KEYRING)
