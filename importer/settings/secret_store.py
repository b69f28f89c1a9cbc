"""Where the secrets rest: a private TOML file of ours, or the system's keyring that such a file points to."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from importer.errors import CannotCreateError, ConfigurationError
from importer.private_files import make_folders, read_secret, read_small, replace_private_file
from importer.settings.naming import APPLICATION, SECRETS

_FILE_BYTES = 16 * 1024
_TOML_POSITION = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")
_KEYRING_KEY = "keyring"


def read_secrets(path: Path, *, is_ours: bool = True) -> dict[str, str]:
    """Return the secrets that a file holds or, with ``keyring = true``, points to; none where there is no file.

    ``is_ours`` false leaves owner and mode to whoever made the file (systemd's credentials folder).

    Raises:
        ConfigurationError: not a private regular file of ours, not TOML, or other keys; or no keyring.
    """
    content = _toml(path, is_ours=is_ours)
    if content.get(_KEYRING_KEY) is True and len(content) == 1:
        return {name: secret for name in SECRETS if (secret := _keyring(path).get_password(APPLICATION, name))}
    secrets = {key.replace("-", "_"): value for key, value in content.items()}
    if not set(SECRETS).issuperset(secrets) or not all(isinstance(value, str) for value in secrets.values()):
        raise ConfigurationError(
            f"{path} holds something else than the texts {', '.join(SECRETS)}",
            hint="Leave only these three keys, each with its value in quotes.",
        )
    return {name: secret for name, secret in secrets.items() if secret}


def write_secrets(path: Path, secrets: Mapping[str, str], *, in_keyring: bool = False) -> None:
    """Write the file whole or not at all, mode 0600; with ``in_keyring`` it only points to the keyring.

    Raises:
        CannotCreateError: the file cannot be written. ConfigurationError: no keyring to write to.
    """
    lines = [f'{name} = "{secret}"' for name, secret in secrets.items()]
    if in_keyring:
        keyring = _keyring(path)
        try:
            for name, secret in secrets.items():
                keyring.set_password(APPLICATION, name, secret)
        except Exception as error:
            raise _no_keyring(f"refused the secrets ({type(error).__name__})") from None
        lines = [f"{_KEYRING_KEY} = true"]
    try:
        make_folders(path.parent)
        text = "\n".join((f"# The sign-in of {APPLICATION}: keep it to yourself.", *lines, ""))
        replace_private_file(path, text.encode())
    except OSError as error:
        raise CannotCreateError(f"{path} cannot be written: {error.strerror}", hint="Free the path.") from error


def _keyring(path: Path) -> Any:
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise _no_keyring(f"is wanted by {path}, but the package keyring is not installed") from None
    if getattr(keyring.get_keyring(), "priority", 0) <= 0:
        raise _no_keyring("has no backend on this machine")
    return keyring


def _no_keyring(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the system keyring {what}",
        hint="Install it with `pip install 'cdr-importer[keyring]'`, or run `auth login` without --keyring.",
    )


def _toml(path: Path, *, is_ours: bool) -> dict[str, Any]:
    try:
        return tomli.loads(_private_bytes(path, is_ours=is_ours).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # The parser's own words may quote the file.
        position = _TOML_POSITION.search(str(error))
        raise ConfigurationError(
            f"{path} is not TOML{f': see {position[1]}' if position else ''}",
            hint='Write three lines like client_id = "...", or run `cdr-importer auth login`.',
        ) from None


def _private_bytes(path: Path, *, is_ours: bool) -> bytes:
    try:
        return read_secret(path, _FILE_BYTES) if is_ours else read_small(path, _FILE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}",
            hint="The credentials file must be a regular file of your own, no symbolic link.",
        ) from error
