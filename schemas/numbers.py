"""Text to E.164: what an export writes in a number cell, or a stable reason why it is no customer's number.

libphonenumber alone guesses: it reads letters as keypad digits, ``301234567.0`` as one digit more and ``x12`` as
nothing. Here the text is judged first, and only digits reach it.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Final
from urllib.parse import unquote

import pandas as pd
import phonenumbers

from schemas import data, plans
from schemas.plans import NumberReading, NumberRules

REASONS: Final[Mapping[str, str]] = data("hints")["numbers"]


class NumberBook:
    """Reads number cells under one set of rules; ``read`` returns the reading of one text.

    The readings of the latest ``capacity`` texts are kept, which changes no result.
    """

    def __init__(self, rules: NumberRules, *, capacity: int = 300_000) -> None:
        self.rules = rules
        self.read = lru_cache(capacity)(partial(_reading, rules=rules))

    def read_column(self, texts: pd.Series) -> pd.DataFrame:
        """Return columns ``e164`` and ``reason`` on the index of ``texts``.

        Each distinct text is read once; a missing value reads as "".
        """
        places, distinct = pd.factorize(texts)
        readings = [*map(self.read, distinct.tolist())]
        readings.append(plans.unusable("missing_number"))  # pandas factorises a missing value as place -1
        return pd.DataFrame(
            {
                "e164": pd.array([reading.e164 for reading in readings], dtype="str").take(places),
                "reason": pd.array([reading.reason for reading in readings], dtype="str").take(places),
            },
            index=texts.index,
        )


_LONGEST_TEXT: Final = 500
_BARE_NUMBER: Final = re.compile(r"\+?[0-9]{1,40}")


def _reading(text: str, rules: NumberRules) -> NumberReading:
    if _BARE_NUMBER.fullmatch(text):  # most cells: spares the judgement of the text
        return _dialled(text, rules)
    if len(text.strip()) > _LONGEST_TEXT:
        return plans.unusable("unusable_characters")
    content = _content(_ascii_spelling(text))
    is_blank = not (any(map(str.isalnum, content)) or _MASK.search(content) or _UNREADABLE in content)
    if is_blank or content.casefold() in _WORDS["missing"]:
        return plans.unusable("missing_number")
    words = [word for word in re.split(r"[\s_.,:/<>()\[\]\"']+", content.casefold()) if word]
    others = {word for word in words if word not in _WORDS["nouns"]}
    if others and others <= _WORDS["withheld"]:
        return plans.unusable("withheld_number")
    return plans.unusable("masked_number") if others and others <= _WORDS["redacted"] else _dialled(content, rules)


# --- What is dialled beside the number ---------------------------------------------------------------------

_GAP: Final = r"[ ()./-]*"
_PAUSE: Final = r"[ ()./,;pw-]*"
_CODES: Final = (r"[*#]31[*#]", r"\*67#?", r"\*82")
_CODES_BY_CALLING_CODE: Final[Mapping[int, tuple[str, ...]]] = {
    1: (r"\*70", "1167", "1182", "1170", "101[0-9]{4}"),
    33: ("3651",),
    34: ("067",),
    44: ("1470", "141"),
    61: ("183[12]",),
    64: ("019[67]",),
    81: ("18[46]",),
    353: ("14[12]",),
    852: ("1357", "133"),
}
"""What is dialled before a number to show or withhold one's own, or (North America) to keep waiting calls away or
choose the carrier. ``#31#`` and ``*31#``: 3GPP TS 22.030; ``*67``, ``*82``, ``*70``, ``1167`` and so on: NANPA's
vertical service codes; ``101XXXX``: NANPA's carrier identification codes; the rest are the networks' own: BT
(1470, 141), France Télécom 1997 (3651), Telecom New Zealand (0197), OFCA in Hong Kong on calling number display
(133, 1357)."""


@cache
def _code_of(country: str | None) -> re.Pattern[str]:
    calling_code = phonenumbers.country_code_for_region(country) if country else 0
    codes = "|".join((*_CODES, *_CODES_BY_CALLING_CODE.get(calling_code, ())))
    return re.compile(rf"(?:{codes}){_PAUSE}(?=[+0-9])", re.IGNORECASE)


def _dialled(content: str, rules: NumberRules) -> NumberReading:
    """Read a number behind the digits for an outside line, if it starts with them.

    A number that is one only with these digits keeps them: 9125550123 where 9 is dialled for a line.
    """
    rest = ""
    if not content.startswith("+"):
        for prefix in sorted(rules.outside_prefix, key=len, reverse=True):
            found = re.match(rf"[( ]*{_GAP.join(prefix)}{_PAUSE}(?=[+*#0-9])", content, re.IGNORECASE)
            if found:
                rest = content[found.end() :]
                break
    reading = _called(rest or content, rules)
    is_long = bool(rest) and len(plans.digits_in(rest)) > plans.LONGEST_LOCAL_NUMBER
    if rest and (reading.reason == "impossible_number" or (reading.reason == "no_trunk_prefix" and is_long)):
        with_prefix = _called(content, rules)
        return reading if with_prefix.reason else with_prefix
    return reading


def _called(content: str, rules: NumberRules) -> NumberReading:
    """Read a number behind a code for the network; digits that are a number with the code are no code.

    1414960123 is Glasgow, not 4960123 behind 141.
    """
    code = _code_of(rules.country).match(content)
    if code is None:
        return _number(content, rules)
    behind, whole = _number(content[code.end() :], rules), _number(content, rules)
    if behind.e164 and whole.reason:
        return behind
    is_code = content[code.end()] == "+" or whole.reason == "too_many_digits"
    return plans.unusable("service_code") if is_code else whole


def _number(content: str, rules: NumberRules) -> NumberReading:
    """Read a number without what is dialled once the call is answered: an extension, digits behind a pause.

    ``030 1234567-12`` has none: those are digits of the number.
    """
    if _BARE_NUMBER.fullmatch(content):
        return plans.planned(content, rules)
    if _SCIENTIFIC.fullmatch(content):
        return plans.unusable("scientific_notation")
    if _DECIMAL.fullmatch(content):
        return plans.unusable("lost_decimal")
    if further := _FURTHER_DIALLING.fullmatch(content):
        shortest = plans.shortest_number(rules)
        if any(len(digits) >= shortest for digits in re.findall("[0-9]+", further["further"])):
            return plans.unusable("several_numbers")
        content = further["number"] if len(plans.digits_in(further["number"])) >= shortest else content
    if _SERVICE_CODE.fullmatch(content):
        return plans.unusable("service_code")
    if _MASK.search(content):
        return plans.unusable("masked_number")
    if not _NUMBER_CHARACTERS.fullmatch(content):
        return plans.unusable("letters_in_number" if any(map(str.isalpha, content)) else "unusable_characters")
    # A plus or a slash starts a second number; a slash after an area code does not.
    *parts, last = [plans.digits_in(part) for part in content.split("/")]
    is_ending = any(parts) and len(last) <= _LONGEST_ENDING_AFTER_SLASH
    is_several = is_ending or sum(len(part) >= plans.SHORTEST_NUMBER for part in (*parts, last)) > 1
    if is_several or "+" in content.lstrip("+( "):
        return plans.unusable("several_numbers")
    return plans.planned(content, rules)


# --- Spelling --------------------------------------------------------------------------------------------

_FORCED_TEXT: Final = re.compile(
    r"""=?"([^"]*)"|'(.*?)'?|[\u201c\u201e]([^\u201c-\u201e]*)[\u201c\u201d]""", re.DOTALL
)
_NAME_AND_ADDRESS: Final = re.compile(r"[^<>]*<([^<>]+)>(?:;[^<>]*)?")
_SCHEME: Final = re.compile(r"(tel|callto|whatsapp|sips?):(.*)", re.IGNORECASE | re.DOTALL)
# RFC 3966: these two change which number is meant.
_HARMLESS_PARAMETER: Final = re.compile(r";(?!ext=|phone-context=\+)[^;]*", re.IGNORECASE)
# The user of a SIP URI without the rest: `npdi;rn=+1...` of a ported number (RFC 4694), `tgrp=...` (RFC 4904).
_NUMBER_AND_PARAMETERS: Final = re.compile(r"\+?[0-9()/.\- ]+(?:;[a-z][a-z-]*(?:=[^;]*)?)+", re.IGNORECASE)
_EXTRA_DASHES: Final = "\N{MINUS SIGN}\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}"
_UNREADABLE: Final = "\N{REPLACEMENT CHARACTER}"


def _ascii_spelling(text: str) -> str:
    """Return the text with ordinary digits, spaces and dashes and without invisible characters."""
    if text.isascii() and text.isprintable():
        return text.strip()
    # NFKC would turn a footnote mark or a circled number into one more digit.
    marked = "".join(
        _UNREADABLE
        if unicodedata.numeric(char, None) is not None and unicodedata.decimal(char, None) is None
        else char
        for char in text
    )
    spelt = []
    for char in unicodedata.normalize("NFKC", marked):
        category = unicodedata.category(char)
        if category == "Nd":
            spelt.append(str(unicodedata.decimal(char)))
        elif category == "Pd" or char in _EXTRA_DASHES:
            spelt.append("-")
        elif category == "Zs" or char == "\t":
            spelt.append(" ")
        elif char in "\n\r\v\f\x85" or category in {"Zl", "Zp"}:
            spelt.append("\n")
        elif category not in {"Cf", "Cc"}:
            spelt.append(char)
    return "".join(spelt).strip()


def _content(text: str) -> str:
    """Return what the cell holds inside forced text, quotes, a name-and-address form or a URI.

    That is the user of ``sip:user@host`` and ``user@host``, the number of ``tel:``, and of Twilio's ``whatsapp:``.
    """
    unwrapped = None
    while text != unwrapped:
        unwrapped = text
        match = _FORCED_TEXT.fullmatch(text)
        if match and any(match.groups()):
            text = next(group for group in match.groups() if group).strip()
        elif match := _NAME_AND_ADDRESS.fullmatch(text):
            text = match[1].strip()
    match = _SCHEME.fullmatch(text)
    if match is None and "@" not in text and not _NUMBER_AND_PARAMETERS.fullmatch(text):
        return text
    address = match[2] if match else text
    user = address.partition("@")[0] if "@" in address else address.partition("?")[0]
    number, colon, _ = user.partition(":")
    if colon and match is not None and match[1].lower().startswith("sip"):
        user = number  # a password, or the port of a host
    return _HARMLESS_PARAMETER.sub("", unquote(user)).strip()


# --- Words -----------------------------------------------------------------------------------------------

_WORDS: Final = {name: frozenset(words.split()) for name, words in data("words")["numbers"].items()}

# --- Shape -----------------------------------------------------------------------------------------------

_SCIENTIFIC: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*)?e[+-]?[0-9]+", re.IGNORECASE)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+\.[0-9]{1,2}|-?[0-9]+,[0-9]{1,2}|.*[0-9][.,]0|-[0-9]+", re.DOTALL)
_SERVICE_CODE: Final = re.compile(r"(?:[0-9]{1,4}(?=[*#]31[*#]|\*67|\*82))?[*#]{1,2}[0-9][0-9*#+()/.\- ]*")
_FURTHER_DIALLING: Final = re.compile(
    r"(?P<number>[+0-9()/.\- ]*[0-9][) ]*)"
    r"(?P<further>(?:[(\[]?"
    r"(?:;ext=|[,;]+ *|#+|x|[pw]+|ext(?:n|ension|ensión)?|durchwahl|dw|poste|interno|int|ramal|anexo)"
    r"[ .:=]*[0-9]{1,40}[)\]]?)*)#?",
    re.IGNORECASE,
)
_MASK: Final = re.compile(
    r"[*•●\u2217\u00d7✱■█▪?]|[#_.]{2}|-{3}|(?<![^\W\d_x])x{2,}(?![^\W\d_])|[0-9]x\Z", re.IGNORECASE
)
_NUMBER_CHARACTERS: Final = re.compile(r"[+0-9()/.\- ]*")
# 030 1234567/8 names two lines of one subscriber.
_LONGEST_ENDING_AFTER_SLASH: Final = 2
