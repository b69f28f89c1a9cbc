"""Rules of single values, whichever source they come from; each raises ValueError with the rule alone.

Messages must not repeat the value: it may be a telephone number or hold a password.
"""

import codecs
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from importer.settings.data_centers import DATA_CENTERS
from importer.settings.moments import MOMENT_HINT, is_moment
from schemas.vocabulary import State
from schemas.zones import is_zone, zone_advice

_PERCENT_SAMPLE_CALLS = 20

_SITE = re.compile(r"[A-Za-z0-9._-]{0,64}")
_RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour)")
_DURATION = re.compile(r"([0-9]{1,7})(?:\.0)?([smhd]?)")
_DURATION_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_COUNT = re.compile(r"[0-9]{1,9}")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
BASE_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?/?")
_DELIMITER_WORDS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


OUTSIDE_PREFIX_RULE = "write the digits that are dialled for a line, several with commas between, such as 9 or 9,0"


@dataclass(frozen=True, slots=True)
class ErrorLimit:
    """When to stop for refusals: after ``count`` of them, or at ``percent`` of the calls sent; one is None."""

    count: int | None
    percent: float | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``20`` or ``5%``.

        Raises:
            ValueError: another form, 0, or more than 100 %.
        """
        if _COUNT.fullmatch(text) and int(text) > 0:
            return cls(int(text), None)
        match = _PERCENT.fullmatch(text)
        if match and 0 < float(match[1]) <= 100:
            return cls(None, float(match[1]))
        raise ValueError("write a number of refusals from 1, or a share such as 5%")

    def exceeded(self, errors: int, sent: int) -> bool:
        """Say whether ``errors`` refusals among ``sent`` calls are the end; a share counts from 20 calls sent."""
        if self.count is not None:
            return errors >= self.count
        return self.percent is not None and sent >= _PERCENT_SAMPLE_CALLS and errors * 100 >= self.percent * sent


def known_zone(name: str) -> str:
    """Take a zone of the IANA database."""
    if not is_zone(name):
        raise ValueError(f"not a time zone of the IANA database; {zone_advice(name)}")
    return name


def known_region(country: str) -> str:
    """Take an ISO 3166 region that has a numbering plan."""
    # Loads pandas: only when the option is given.
    from schemas.numbers import is_region

    if not is_region(country):
        raise ValueError("not an ISO 3166 region with a numbering plan; write two capitals like GB")
    return country


def not_blank(text: str) -> str:
    """Take one line that is not blank."""
    if not text.strip() or any(character in text for character in "\0\r\n"):
        raise ValueError("must be one line that is not blank")
    return text


def site_name(text: str) -> str:
    """Take a namespace of call ids; empty for none."""
    if not _SITE.fullmatch(text):
        raise ValueError("letters, digits, '-', '_' and '.' only, 64 at most")
    return text


def moment_text(text: str) -> str:
    """Take what `parse_moment` understands, as it is written."""
    if not is_moment(text):
        raise ValueError(f"not a moment. {MOMENT_HINT}")
    return text


def states_of(value: object) -> frozenset[State]:
    """Read ``busy,noanswer``, or a list of these words, as states."""
    if isinstance(value, frozenset) and all(isinstance(state, State) for state in value):
        return value
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("write a list of states with commas between")
    known = {state.value for state in State}
    states = [word.strip() for word in words]
    if not states or not known.issuperset(states):
        raise ValueError(f"each must be one of {', '.join(State)}")
    return frozenset(State(word) for word in states)


def outside_prefixes(value: object) -> tuple[str, ...]:
    """Read ``9``, ``9,0``, a list of these or the number 9 as prefixes; an empty text or list as none."""
    words = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if isinstance(value, bool) or not isinstance(words, list | tuple):
        raise ValueError(OUTSIDE_PREFIX_RULE)
    prefixes = tuple(str(word).strip() for word in words)
    if prefixes == ("",):
        return ()
    if not all(re.fullmatch(r"[0-9]{1,12}", prefix) for prefix in prefixes):
        raise ValueError(OUTSIDE_PREFIX_RULE)
    return prefixes


def name_pattern(pattern: str) -> str:
    """Take a regular expression that RE2 runs; empty for none."""
    # Loads Arrow: only when the option is given.
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern=f"^(?:{pattern})$")
    except pa.ArrowInvalid as error:
        raise ValueError(r"not a regular expression (RE2); write it like 2[0-9]{3} or 101|102") from error
    return pattern


def rate_text(text: str) -> str:
    """Take ``N/second``, ``N/minute`` or ``N/hour``, as it is written."""
    if not _RATE.fullmatch(text):
        raise ValueError("write N/second, N/minute or N/hour with N at least 1")
    return text


def error_limit(value: object) -> ErrorLimit:
    """Read ``20``, ``5%`` or the number 20."""
    if isinstance(value, ErrorLimit):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a number of refusals from 1, or a share such as 5%")
    return ErrorLimit.parse(str(value).strip())


def duration_seconds(value: object) -> float:
    """Read ``90``, ``90s``, ``15m``, ``2h``, ``3d`` or the number 90 as seconds."""
    text = "" if isinstance(value, bool) else str(value).strip()
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError("write seconds, or a duration such as 90m or 2h, from 1s")
    return float(int(match[1]) * _DURATION_SECONDS[match[2]])


def not_bool(value: object) -> object:
    """Take anything but true and false."""
    # pydantic takes TOML's `true` for the number 1.
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def encoding_name(name: str) -> str:
    """Take a text encoding that Python knows and can read piece by piece."""
    try:
        "".encode(name)
        if codecs.lookup(name).name == "punycode":  # of host names: it has no piece
            raise LookupError
    except (LookupError, ValueError) as error:
        raise ValueError("not a text encoding that Python knows; write it like utf-8 or cp1252") from error
    return name


def delimiter_character(text: str) -> str:
    """Take one character, or a word for one that is hard to type."""
    character = _DELIMITER_WORDS.get(text.lower(), text)
    if len(character) != 1 or character.isalnum() or character in '"\r\n\0':
        raise ValueError("must be one character, no letter, digit, quote or line end; or the word tab")
    return character


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself: localhost, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def base_url(url: str) -> str:
    """Take ``https://host[:port]`` and return it without a slash at the end; http on loopback only."""
    match = BASE_URL.fullmatch(url)
    if match is None or (match[3] is not None and not 0 < int(match[3][1:]) < 65536):
        raise ValueError("must be scheme, host and port only, like https://host or https://host:port")
    if match[1] == "http" and not is_loopback(match[2]):
        raise ValueError("must be https; plain http is for loopback addresses only")
    return url.rstrip("/")


def ping_url(url: str) -> str:
    """Take the address of a check at a dead man's switch; http on loopback only."""
    rule = "must be https://host/path without user, password and fragment; plain http for loopback addresses only"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    extra = parts.fragment or "@" in parts.netloc or re.search(r"\s", url)
    if not is_safe or not parts.hostname or port == 0 or extra:
        raise ValueError(rule)
    return url


def proxy_url(url: str) -> str:
    """Take the URL of an HTTP proxy."""
    rule = "must be http://[user:password@]host:port or the same with https"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or extra or re.search(r"\s", url):
        raise ValueError(rule)
    return url


def has_password(url: str) -> bool:
    """Say whether a proxy's URL holds a password."""
    return bool(urlsplit(url).password)


def usable_path(path: Path) -> Path:
    """Return the path with ``~`` replaced."""
    if path == Path() or "\0" in str(path):
        raise ValueError("must be a path")
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be a path of UTF-8 text: it is kept with the run") from None
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("starts with ~, but the home folder is not known") from error


def lower_word(value: object) -> object:
    """Return a text in small letters, without blanks around it."""
    return value.strip().lower() if isinstance(value, str) else value


def known_center(name: str) -> str:
    """Take the word of a data centre."""
    if name not in DATA_CENTERS:
        raise ValueError(f"must be one of {' '.join(DATA_CENTERS)}")
    return name
