"""From flags, environment and TOML file to Settings; every error names the source of the value."""

import difflib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import tomli

from importer.errors import ConfigurationError, UsageError
from importer.private_files import open_small, os_errors_as
from importer.settings import options
from importer.settings.credentials import SECRETS
from importer.settings.values import location

_SHOWN_CHARACTERS = 60
"""How much of a bad value a message shows."""
# Their values may be a telephone number or hold a password.
_UNSHOWN = frozenset({"default-agent-number", "ping-url", "proxy", "accounts-url", "api-url"})


@dataclass(frozen=True, slots=True)
class _Given:
    """One value, its source in the operator's words, and whether that is the command line."""

    value: object
    origin: str
    is_flag: bool = False

    def read(self, option: str) -> object:
        """Return the value of the option; raises an error that names origin, value and rule."""
        # `--ledger $LEDGER --site paris` with an empty variable would make a new ledger: all calls again.
        if self.is_flag and str(self.value).startswith("--") and str(self.value)[2:] in options.OPTIONS:
            raise self.error("its value is missing, another option stands in its place")
        try:
            return options.OPTIONS[option].read(self.value)
        except ValueError as error:
            raise self.error(str(error), is_shown=option not in _UNSHOWN) from None

    def error(self, rule: str, *, is_shown: bool = True) -> ConfigurationError | UsageError:
        try:
            value = f" {str(self.value)[:_SHOWN_CHARACTERS]!r}" if is_shown else ""
        except (ValueError, RecursionError):  # a number or a table of a TOML file too large for Python to write
            value = ""
        kind = UsageError if self.is_flag else ConfigurationError
        return kind(f"{self.origin}: the value{value} cannot be used", hint=f"Rule: {rule.rstrip('.')}.")


def config_path() -> Path:
    """Return the TOML file that is read when none is named, in the user's config folder."""
    return platformdirs.user_config_path(options.APPLICATION, appauthor=False) / f"{options.APPLICATION}.toml"


def config_words(config: Path | None) -> str:
    """Return ` --config PATH` as a shell takes it, "" for the file that is read when none is named."""
    return "" if config in (None, config_path()) else f" --config {shlex.quote(str(config))}"


def load_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], *, with_file: bool = True
) -> options.Settings:
    """Return the options of a run: flags, then environment variables, then the TOML file, then defaults.

    ``flags`` are by click's parameter name, None where an option was not given; ``config`` among them names the
    TOML file. An environment variable that is empty counts as not given. Raises UsageError where a flag's value
    cannot be used (2); ConfigurationError for all else that is unknown or cannot be used (78).
    """
    variables = {options.variable_of(option): option for option in ("config", *options.OPTIONS)}
    known = {*variables, *map(options.variable_of, SECRETS)}
    for name in environment:
        if name.startswith(options.ENVIRONMENT_PREFIX) and name not in known:
            raise ConfigurationError(
                f"the environment variable {name} is not known", hint=nearest(name, known) or "Unset it."
            )
    given: dict[str, _Given] = {}
    for variable, option in variables.items():
        if environment.get(variable):
            given[option] = _Given(environment[variable], f"environment variable {variable}")
    for name, value in flags.items():
        if value is not None:
            option = name.replace("_", "-")
            given[option] = _Given(value, f"--{option}", is_flag=True)
    named = given.pop("config", None)
    config = _config_in_use(named) if with_file else None
    by_file = _from_file(config) if config else {}
    policies = _policies(config, by_file)
    given = by_file | given
    read: dict[str, Any] = {option.replace("-", "_"): one.read(option) for option, one in given.items()}
    settings = options.Settings(**read, policies=policies, config=config)
    if settings.proxy is not None and urlsplit(settings.proxy).password:
        if (proxy := given["proxy"]).is_flag:
            fault = "holds a password, which every user of this machine can read from the command line"
            hint = f"Set {options.variable_of('proxy')}, or write `proxy = ...` into a config file of mode 0600."
            raise UsageError(f"{proxy.origin} {fault}", hint=hint)
        mode = stat.S_IMODE(config.stat().st_mode) if config and proxy is by_file.get("proxy") else 0
        if mode & 0o077:
            raise ConfigurationError(
                f"{config} holds the password of a proxy and can be read by others: its mode is {mode:04o}",
                hint=f"Run `chmod 600 {config}`; if others use this machine, change the password.",
            )
    return settings


def _from_file(path: Path) -> dict[str, _Given]:
    hint = "Mend the path or the permissions, or leave it out."
    try:
        with os_errors_as(ConfigurationError, f"{path} cannot be read", path, hint), open_small(path) as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                # It names the hosts that get secrets and numbers.
                raise ConfigurationError(f"{path} can be changed by everybody", hint=f"Run `chmod o-w {path}`.")
            text = file.read().decode("utf-8-sig")
        found = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        where, fault, hint = "", "it is not saved as UTF-8", "Save it as UTF-8 in an editor for plain text."
        if not isinstance(error, UnicodeDecodeError):
            fault, hint = f"it is no TOML ({error})", "Write lines `key = value`."
        if isinstance(error, tomli.TOMLDecodeError):
            where, fault = f", line {error.lineno}", f"{error.msg} (column {error.colno})"
            faulty = text.splitlines()[error.lineno - 1 :][:1]
            if "overwrite" in error.msg:
                fault, hint = "the key stands twice", "Keep one of its lines."
            elif any(re.search("[\u2018-\u201f\u00ab\u00bb]", line) for line in faulty):
                hint = 'Write straight quotes around the value, as in country = "US".'
            elif any("\\" in line for line in faulty):
                hint = "Put a value with a backslash into single quotes, as in extensions = '2\\d{3}'."
            elif any(re.match(r"[\w\s-]+=\s*[A-Za-z/~*+]", line) for line in faulty):
                hint = 'Put the value in quotes, as in country = "US".'
        raise ConfigurationError(f"{path}{where} cannot be read: {fault}", hint=hint) from error
    given: dict[str, _Given] = {}
    for key, value in found.items():
        option = key.replace("_", "-")
        if key.replace("-", "_").lower() in SECRETS:
            apart = f"set {options.variable_of(key)} or run `cdr-importer auth login`, which keeps it apart."
            raise ConfigurationError(
                f"{path}: {key} is a secret and does not belong into this file", hint=f"Take it out; {apart}"
            )
        if option not in options.OPTIONS and option != "policies":
            near = nearest(option, [*options.OPTIONS, "policies"])
            advice = near or "Take it out; the keys are the options' long names."
            raise ConfigurationError(f"{path}: the key {key!r} is not known", hint=advice)
        if option in given:
            raise ConfigurationError(f"{path}: the key {key!r} stands there twice", hint="Leave one of the two.")
        given[option] = _Given(value, f"{path}: {key}")
    return given


def _policies(path: Path | None, by_file: dict[str, _Given]) -> dict[str, options.PolicyChoices]:
    """Take the policies out of a file's values; only the ones in a format's table outrank the format itself."""
    tables = by_file.pop("policies", _Given({}, ""))
    if not isinstance(tables.value, dict):
        raise tables.error("must be tables like [policies.asterisk-csv]")
    choices: dict[str, dict[str, Any]] = {}
    for name, table in tables.value.items():
        place = f"{path}: policies.{name}"
        if not isinstance(table, dict):
            rule = "must be a table of one format like [policies.asterisk-csv]; what is for all stands above it"
            raise _Given(table, place).error(rule)
        chosen = choices[name] = {}
        for key, value in table.items():
            option, policy = key.replace("_", "-"), key.replace("-", "_")
            if policy not in options.POLICIES:
                known = [each.replace("_", "-") for each in options.POLICIES]
                advice = nearest(option, known) or f"The policies are {', '.join(known)}."
                if option in options.OPTIONS:  # a line added at the end of the file belongs to its last table
                    advice = "Its line stands below that of the table: move it above the first line with a `[`."
                raise ConfigurationError(f"{place}: the key {key!r} is no policy", hint=advice)
            chosen[policy] = _Given(value, f"{place}.{option}").read(option)
    general = [option for option in by_file if option.replace("-", "_") in options.POLICIES]
    if general:
        choices[options.EVERY_FORMAT] = {
            option.replace("-", "_"): by_file.pop(option).read(option) for option in general
        }
    return {name: options.PolicyChoices(**chosen) for name, chosen in choices.items()}


def _config_in_use(named: _Given | None) -> Path | None:
    """Return the TOML file to read, None when there is none."""
    if named is None:
        path = config_path()
        with suppress(FileNotFoundError, NotADirectoryError):  # one that cannot be looked at is not passed over
            path.lstat()
            return path
        return None
    try:
        path = location(named.value)
    except ValueError as error:
        raise named.error(str(error)) from None
    if path.is_dir() or not path.exists():
        raise named.error("must be a TOML file that is there")
    return path


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the question whether the known name that is most like this one was meant, "" without one."""
    matches = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {matches[0]}?" if matches else ""
