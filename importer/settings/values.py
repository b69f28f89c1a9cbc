"""Rules of single values from any source; each reader raises ValueError with the rule alone.

Messages must not repeat the value: it may be a telephone number or hold a password. `--help` imports this module:
the reader that needs pandas or pyarrow imports it, and patterns are compiled when they are used.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from importer.errors import ConfigurationError, UsageError
from importer.private_files import LONGEST_NAME_BYTES
from schemas.vocabulary import E164, State

_PERCENT_SAMPLE_CALLS = 20
_UNIT_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_DURATION_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BASE_URL = r"(https?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?/?"
_DELIMITER_WORDS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_SWITCHES = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}
_REGIONS_MEANT = {"UK": "GB", "USA": "US"}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any rolling ``period_seconds``."""

    limit: int
    period_seconds: float

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read ``N/second``, ``N/minute`` or ``N/hour``; raises ValueError for another form or 0."""
        match = re.fullmatch(r"([1-9][0-9]{0,8})/(second|minute|hour)", text(value))
        if match is None:
            raise ValueError("write it like 50/minute: a number from 1, then /second, /minute or /hour")
        return cls(int(match[1]), _UNIT_SECONDS[match[2]])

    def seconds_for(self, requests: int, *, is_burst: bool) -> float:
        """Return how long so many requests take."""
        return max(0, requests - (self.limit if is_burst else 1)) / self.limit * self.period_seconds

    def __str__(self) -> str:
        units = {seconds: unit for unit, seconds in _UNIT_SECONDS.items()}
        return f"{self.limit}/{units[self.period_seconds]}"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many, or so many percent: ``count`` or ``percent``; the other is None."""

    count: int | None
    percent: float | None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read ``20``, ``5%`` or the number 20; raises ValueError for another form, 0, or more than 100 %."""
        given = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if re.fullmatch(r"[0-9]{1,9}", given) and int(given) > 0:
            return cls(int(given), None)
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", given)
        if match and 0 < float(match[1]) <= 100:
            return cls(None, float(match[1]))
        raise ValueError("write a whole number from 1, or a share such as 5%")

    def exceeded(self, errors: int, sent: int) -> bool:
        """Return whether ``errors`` of ``sent`` calls are too many; a share counts from 20 calls on."""
        if self.count is not None:
            return errors >= self.count
        return self.percent is not None and sent >= _PERCENT_SAMPLE_CALLS and errors * 100 >= self.percent * sent

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.count is None else str(self.count)


DATA_CENTERS: Mapping[str, tuple[str, frozenset[str]]] = {
    name: (f"https://{accounts_host}", frozenset(api_hosts))
    for name, accounts_host, *api_hosts in (
        # Source of the first eight: zoho/zohocrm-python-sdk-8.0, zohocrmsdk/src/com/zoho/crm/api/dc/*.py, and
        # https://www.bigin.com/developer/docs/apis/multi-dc.html
        ("us", "accounts.zoho.com", "www.zohoapis.com"),
        # The sample answer of https://www.zoho.com/accounts/protocol/oauth/multi-dc/client-authorization.html
        # has api.zoho.eu as its api_domain.
        ("eu", "accounts.zoho.eu", "www.zohoapis.eu", "api.zoho.eu"),
        ("in", "accounts.zoho.in", "www.zohoapis.in"),
        ("au", "accounts.zoho.com.au", "www.zohoapis.com.au"),
        ("jp", "accounts.zoho.jp", "www.zohoapis.jp"),
        ("ca", "accounts.zohocloud.ca", "www.zohoapis.ca"),
        ("cn", "accounts.zoho.com.cn", "www.zohoapis.com.cn"),
        ("sa", "accounts.zoho.sa", "www.zohoapis.sa"),
        # Sign-in: https://zoho.com/accounts/protocol/oauth/multi-dc.html; the API host is from clients' code.
        ("uk", "accounts.zoho.uk", "www.zohoapis.uk"),
        # API: https://www.zoho.com/workdrive/developer/docs/api/v1/getting-started-multi-dc-support.html;
        # the sign-in host is from clients' code.
        ("ae", "accounts.zoho.ae", "www.zohoapis.ae"),
    )
}
"""Word of ``--data-center`` -> base URL of the sign-in, and the API host names a token answer may give."""


def text(value: object) -> str:
    """Take a text."""
    if not isinstance(value, str):
        raise ValueError("must be text; in a TOML file it stands in quotes")
    return value


def switch(value: object) -> bool:
    """Read true or false, also as ``yes``, ``on`` or ``1`` and their opposites."""
    word = str(value).lower() if isinstance(value, int | str) else ""
    if word not in _SWITCHES:
        raise ValueError("write true or false")
    return _SWITCHES[word]


def whole(least: int, most: int | None = None) -> Callable[[object], int]:
    """Return a reader of whole numbers within bounds."""

    def read(value: object) -> int:
        given = str(value).strip() if isinstance(value, int | str) else ""
        if not re.fullmatch("-?[0-9]{1,18}", given):  # of True nothing is left that is a digit
            raise ValueError("must be a whole number")
        number = int(given)
        if number < least:
            raise ValueError(f"must be at least {least}")
        if most is not None and number > most:
            raise ValueError(f"must be at most {most}")
        return number

    return read


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader that takes these words only."""
    *others, last = (repr(str(word)) for word in words)

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be {', '.join(others)} or {last}")
        return str(value)

    return read


def matching(form: str, rule: str, value: object) -> str:
    """Take a text of which a regular expression matches the whole."""
    if not re.fullmatch(form, text(value)):
        raise ValueError(rule)
    return text(value)


def zone(value: object) -> str:
    """Take a zone of the IANA database."""
    from schemas.zones import is_zone, zone_advice

    if not is_zone(text(value)):
        raise ValueError(f"no time zone has this name; {zone_advice(text(value))}")
    return text(value)


def region(value: object) -> str:
    """Take an ISO 3166 region that has a numbering plan."""
    # Loads phonenumbers: only when the option is given.
    from schemas.plans import is_region

    if not is_region(text(value)):
        meant = _REGIONS_MEANT.get(text(value).upper(), text(value).upper())
        advice = f"write {meant}" if is_region(meant) else "write two capitals like GB"
        raise ValueError(f"no country with telephone numbers has this code (ISO 3166); {advice}")
    return text(value)


def states(value: object) -> frozenset[State]:
    """Read ``busy,noanswer``, or a list of these words, as states."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("write a list of states with commas between")
    try:
        return frozenset(State(word.strip()) for word in words or [""])
    except ValueError:
        raise ValueError(f"each must be one of {', '.join(State)}") from None


def outside_prefixes(value: object) -> tuple[str, ...]:
    """Read ``9``, ``9,0``, a list of these or the number 9 as prefixes; an empty text or list as none."""
    given = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(each, str | int) and not isinstance(each, bool) for each in given):
        prefixes = tuple(word.strip() for each in given for word in str(each).split(","))
        if prefixes == ("",):
            return ()
        if all(re.fullmatch(r"[0-9]{1,12}", prefix) for prefix in prefixes):
            return prefixes
    raise ValueError("write the digits that are dialled for a line, several with commas between, such as 9 or 9,0")


def pattern(value: object) -> str:
    """Take a regular expression that RE2 runs; empty for none."""
    # Loads Arrow: only when the option is given.
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern=f"^(?:{text(value)})$")
    except pa.ArrowInvalid as error:
        raise ValueError(r"not a regular expression (RE2); write it like 2[0-9]{3} or 101|102") from error
    return text(value)


def duration(value: object, *, is_long: bool = False) -> float:
    """Read ``90``, ``90s``, ``15m``, ``2h``, ``3d`` or the number 90 as seconds.

    One that ``is_long`` needs its unit: 26 alone would be seconds where hours or days are meant.
    """
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    match = re.fullmatch(r"([0-9]{1,7})(?:\.0)?([smhd]?)", str(value).strip() if is_number else "")
    if match is None or int(match[1]) == 0:
        raise ValueError("write seconds, or a duration such as 90m or 2h, from 1s")
    if is_long and not match[2]:
        raise ValueError(f"write {value}d for days, {value}h for hours, {value}s if seconds are meant")
    return float(int(match[1]) * _DURATION_SECONDS[match[2]])


def retention(value: object) -> float:
    """Read a duration of a day or more: 3m are minutes, and results would be gone that somebody has not read."""
    seconds = duration(value, is_long=True)
    if seconds < _DURATION_SECONDS["d"]:
        raise ValueError("must be a day at least: m are minutes, so write 90d for three months")
    return seconds


def encoding(value: object) -> str:
    """Take a text encoding that Python knows and can read piece by piece."""
    try:
        "".encode(text(value))
        if codecs.lookup(text(value)).name == "punycode":  # of host names: it has no piece
            raise LookupError
    except (LookupError, ValueError) as error:
        raise ValueError("not a text encoding that Python knows; write it like utf-8 or cp1252") from error
    return text(value)


def delimiter(value: object) -> str:
    """Take one character, or a word for one that is hard to type."""
    character = _DELIMITER_WORDS.get(text(value).lower(), text(value))
    if len(character) != 1 or character.isalnum() or character in '"\r\n\0':
        raise ValueError("must be one character, no letter, digit, quote or line end; or the word tab")
    return character


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself: localhost, 127.0.0.0/8 or ::1."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def base_url(value: object) -> str:
    """Take ``https://host[:port]`` and return it without a slash at the end; http on loopback only."""
    url = text(value)
    match = re.fullmatch(_BASE_URL, url)
    if match is None or (match[3] is not None and not 0 < int(match[3][1:]) < 65536):
        raise ValueError("must be scheme, host and port only, like https://host or https://host:port")
    if match[1] == "http" and not is_loopback(match[2]):
        raise ValueError("must be https; plain http is for loopback addresses only")
    return url.rstrip("/")


def url(rule: str, is_fit: Callable[[SplitResult], bool], value: object) -> str:
    """Take a URL of http or https with a host and without a fragment, if its parts fit."""
    try:
        parts = urlsplit(text(value))
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and is_fit(parts)
    except ValueError:
        is_valid = False
    if not is_valid or parts.fragment or re.search(r"\s", text(value)):
        raise ValueError(rule)
    return text(value)


def location(value: object) -> Path:
    """Take a path, with ``~`` replaced."""
    path = value if isinstance(value, Path) else Path(text(value))
    if path == Path() or "\0" in str(path):
        raise ValueError("must be a path other than the working folder")
    try:
        is_long = any(len(name.encode("utf-8")) > LONGEST_NAME_BYTES for name in path.parts)
    except UnicodeEncodeError:
        raise ValueError("must be a path of UTF-8 text: it is kept with the run") from None
    if is_long:
        raise ValueError(f"no name in a path may be longer than {LONGEST_NAME_BYTES} bytes")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("starts with ~, but the home folder is not known") from error


def data_center(value: object) -> str:
    """Take the word of a data centre, in small or capital letters."""
    name = text(value).strip().lower()
    if name not in DATA_CENTERS:
        raise ValueError(f"must be one of {' '.join(DATA_CENTERS)}")
    return name


_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:?[0-5][0-9])?"
_AGO = r"([0-9]{1,4})([hdw])"
_AGO_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DAYS_BACK = {"today": 0, "yesterday": 1}
_MOMENT_HINT = "Write 2026-03-01, 2026-03-01 14:30, 2026-03-01T14:30Z, 12h, 2d, 3w, today or yesterday."
long_duration = partial(duration, is_long=True)
ping_url = partial(
    url,
    "must be https://host/path without user, password and fragment; plain http for loopback addresses only",
    lambda parts: "@" not in parts.netloc and (parts.scheme == "https" or is_loopback(parts.hostname or "")),
)
proxy_url = partial(
    url,
    "must be http://[user:password@]host:port or the same with https",
    lambda parts: not (parts.path.strip("/") or parts.query),
)
line = partial(matching, r"(?=.*\S)[^\0\r\n]*", "must be one line that is not blank")
site = partial(matching, r"[A-Za-z0-9._-]{0,64}", "letters, digits, '-', '_' and '.' only, 64 at most")
moment = partial(matching, f"{_DAY}([ T]{_CLOCK})?|{_AGO}|{'|'.join(_DAYS_BACK)}", f"not a moment. {_MOMENT_HINT}")
agent_number = partial(matching, E164, "write it internationally, with + and country code and without blanks")
scheduler = partial(
    matching,
    r"(tcp|tls|ws|wss)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}",
    "write it as tcp://HOST:PORT, or tls://HOST:PORT where the cluster has certificates",
)


def parse_moment(text: str, *, now: datetime, timezone: str | None) -> int:
    """Return the moment an option names, in seconds since the epoch.

    Understood are dates, date-times (in ``timezone`` unless they carry ``Z`` or an offset), ``12h``, ``2d``,
    ``3w`` before ``now`` (days of 24 h), ``today`` and ``yesterday``. A day stands for its first instant, also
    where the zone's clock shows its midnight twice or skips it. ``now`` is aware. Raises UsageError, and
    ConfigurationError where the zone is missing.
    """
    from zoneinfo import ZoneInfo

    try:
        if match := re.fullmatch(_AGO, text):
            return int((now - int(match[1]) * _AGO_UNITS[match[2]]).timestamp())
        is_word = text in _DAYS_BACK
        is_day = is_word or re.fullmatch(_DAY, text)
        given = now if is_word else datetime.fromisoformat(text)
        if given.tzinfo is not None and not is_word:
            return int(given.timestamp())
        if timezone is None:
            example = "Say it with --timezone, for example --timezone Europe/London."
            fault = f"--since or --until: nobody has said whose clock shows {text!r}"
            raise ConfigurationError(fault, hint=example, reason="timezone")
        zone = ZoneInfo(timezone)
        if not is_day:
            readings = [given.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
            instants = {each for each in readings if each.astimezone(zone).replace(tzinfo=None, fold=0) == given}
            if len(instants) == 1:
                return int(instants.pop().timestamp())
            fault = "occurs twice" if instants else "does not exist"
            earlier, later = (each.astimezone(zone).isoformat() for each in sorted(readings))
            raise UsageError(
                f"the local time {given} {fault} in {zone}: its clock was changed then",
                hint=f"Write {earlier}, or {later}, which is later.",
            )
        day = now.astimezone(zone).date() - timedelta(_DAYS_BACK[text]) if is_word else given.date()
        return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        fault = f"--since or --until: {text!r} is no date and time of the calendar"
        raise UsageError(fault, hint=_MOMENT_HINT) from None
