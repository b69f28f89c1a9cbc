"""The secrets of the sign-in: from the environment, systemd's credentials folder, or a private file."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from importer.errors import ConfigurationError
from importer.settings.naming import APPLICATION, SECRETS, variable_of
from importer.settings.secret_store import read_secrets, write_secrets

CREDENTIALS_NAME = "credentials.toml"
SYSTEMD_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what a unit's ``LoadCredential=`` names: systemd.exec(5)."""

_SECRET = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What signs in to Zoho: the client's id and secret, and the refresh token. Never shown."""

    client_id: str
    client_secret: str
    refresh_token: str


def credentials_path() -> Path:
    """Return where `load_credentials` looks and ``auth login`` writes, in the user's config folder."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / CREDENTIALS_NAME


def load_credentials(environment: Mapping[str, str], path: Path | None = None) -> Credentials:
    """Return the secrets, all three from one place so that the parts of two sign-ins are never mixed.

    The place is the environment when any of the three variables is set, else the file that systemd passes, else
    ``path``, by default `credentials_path`.

    Raises:
        ConfigurationError: some are missing, the file is not a regular file of ours of mode 0600, or a secret
            holds blanks or control characters (78).
    """
    by_variable = {name: environment[variable_of(name)] for name in SECRETS if environment.get(variable_of(name))}
    where, secrets = ("", by_variable) if by_variable else _from_files(environment, path or credentials_path())
    missing = [name for name in SECRETS if name not in secrets]
    if missing:
        raise _missing(missing, where or str(path or credentials_path()), is_mixed=bool(by_variable))
    for name, secret in secrets.items():
        if not _SECRET.fullmatch(secret):
            raise ConfigurationError(
                f"{f'{where}: {name}' if where else f'environment variable {variable_of(name)}'} holds a blank, "
                "a line end or another character that no such secret has",
                hint="Copy it again, without quotes, blanks or line ends around it.",
            )
    return Credentials(**secrets)


def save_credentials(credentials: Credentials, path: Path | None = None, *, in_keyring: bool = False) -> Path:
    """Write the secrets where `load_credentials` finds them, and return the file.

    Raises:
        CannotCreateError: the file cannot be written. ConfigurationError: no keyring to write to.
    """
    where = path or credentials_path()
    write_secrets(where, asdict(credentials), in_keyring=in_keyring)
    return where


def is_secret(text: str) -> bool:
    """Say whether a text can be one of the secrets: visible ASCII without blanks."""
    return _SECRET.fullmatch(text) is not None


def _from_files(environment: Mapping[str, str], path: Path) -> tuple[str, dict[str, str]]:
    folder = environment.get(SYSTEMD_VARIABLE)
    if folder:
        passed = Path(folder) / CREDENTIALS_NAME
        secrets = read_secrets(passed, is_ours=False)
        if secrets:
            return str(passed), secrets
    return str(path), read_secrets(path)


def _missing(missing: list[str], where: str, *, is_mixed: bool) -> ConfigurationError:
    variables = ", ".join(map(variable_of, missing))
    also = " (some of the three are in the environment, so the file is not read)" if is_mixed else ""
    return ConfigurationError(
        f"missing for the sign-in: {', '.join(missing)}{also}",
        hint=f"Set {variables}, or run `cdr-importer auth login`, which writes all three to {where}.",
    )
