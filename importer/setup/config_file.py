"""The config file that `init` writes: every option that does not change from run to run, each with its meaning."""

import json
from collections.abc import Mapping
from pathlib import Path

from importer.errors import CannotCreateError
from importer.private_files import make_folders, make_private_file

ASKED: Mapping[str, tuple[str, str]] = {
    "data-center": ("Zoho's data centre of the account: us eu in au jp ca cn sa uk ae.", "us"),
    "timezone": ("Whose clock the telephone system writes: an IANA zone.", "Europe/London"),
    "country": ("Region of national numbers; without it only numbers with + are understood.", "GB"),
    "extensions": ("Which names are our telephones, where the exports cannot prove it.", "2[0-9]{3}"),
    "trunks": ("Which names are lines to the outside, where the exports cannot prove it.", "40001|40002"),
    "outside-prefix": ("What is dialled for a line and stands in front of numbers in the exports.", "9"),
    "agents": ("Who is which extension: CSV extension,number,zohouser,email,name.", "agents.csv"),
    "site": ("A name for this telephone system when several feed one account; never change it.", "head-office"),
    "rate": ("Never more requests than this in any rolling period.", "60/minute"),
    "ledger": ("The record of every call and its fate: on a local disk, in your backups.", "ledger.sqlite"),
    "accounts-url": ("Another base for the sign-in.", "https://accounts.example"),
    "api-url": ("Another base for the API.", "https://api.example"),
    "proxy": ("The proxy to use; the environment's are ignored.", "http://proxy.example:3128"),
    "ca-bundle": ("Further trusted certificates, PEM.", "/etc/ssl/own.pem"),
}
"""Option -> what it is for, and an example for the commented line where it is not given."""


def config_text(given: Mapping[str, str]) -> str:
    """Return the config file: given options as they are, the others as examples in comments."""
    lines = [
        "# Options of cdr-importer that do not change from run to run. A flag or an environment variable",
        "# outranks what stands here. Secrets do not belong here: `cdr-importer auth login` keeps them apart.",
    ]
    for option, (meaning, example) in ASKED.items():
        value = given.get(option)
        line = f"{option} = {json.dumps(value or example, ensure_ascii=False)}"
        lines += ["", f"# {meaning}", line if value else f"# {line}"]
    return "\n".join((*lines, ""))


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, mode 0600, its folder 0700.

    Raises CannotCreateError when something is there already or the path cannot be written.
    """
    try:
        make_folders(path.parent)
        make_private_file(path, text.encode())
    except FileExistsError:
        raise CannotCreateError(
            f"{path} is there already", hint="Edit it, or move it away and run this again."
        ) from None
    except OSError as error:
        raise CannotCreateError(f"{path} cannot be written: {error.strerror}", hint="Free the path.") from error
