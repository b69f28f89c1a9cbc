"""Text to E.164: what an export writes in a number cell, or a stable reason why it is no customer's number.

libphonenumber alone guesses: it reads letters as keypad digits, ``301234567.0`` as one digit more and ``x12`` as
nothing. Here the text is judged first, and only digits reach it.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

import numpy as np
import pandas as pd
import phonenumbers
from phonenumbers import CountryCodeSource, NumberParseException, PhoneNumber, ValidationResult
from phonenumbers.shortnumberinfo import is_valid_short_number

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing_number": "Column {column} is empty; export the number of the party that was called.",
        "withheld_number": (
            "Column {column} holds {value}, which stands for a number that is not shown; "
            "nothing can be notified for it."
        ),
        "masked_number": (
            "Column {column} holds {value}, in which digits are hidden; "
            "export the whole numbers (privacy settings of the telephone system)."
        ),
        "service_code": (
            "Column {column} holds {value}, a code for the telephone system or the network without a whole number "
            "behind it; have the system export the number that was called, and say with --country and "
            "--outside-prefix how it is dialled."
        ),
        "letters_in_number": (
            "Column {column} holds {value}, which has letters in it; "
            "export the number instead of a name, or correct the format's column."
        ),
        "unusable_characters": (
            "Column {column} holds {value}, which has characters that no number has; "
            "write the number in international form, like +442071234567."
        ),
        "several_numbers": (
            "Column {column} holds {value}, which is more than one number; keep the one that was called, "
            "and say with --outside-prefix which digits in front are dialled for a line."
        ),
        "lost_decimal": (
            "Column {column} holds {value}, which a spreadsheet has turned into a decimal or negative number; "
            "export again and import the file without opening it in a spreadsheet."
        ),
        "scientific_notation": (
            "Column {column} holds {value}: a spreadsheet has cut its last digits off; "
            "export again and import the file without opening it in a spreadsheet."
        ),
        "short_number": (
            "Column {column} holds {value}, which is an extension, an emergency number or a short code; "
            "if it is a customer's number, write it in international form, like +442071234567."
        ),
        "keypad_word": (
            "Column {column} holds {value}, which is a word like ANONYMOUS typed on a keypad; "
            "if it is a customer's number, write it in international form with its country code."
        ),
        "no_country": (
            "Column {column} holds {value}, a number without country code; "
            "say with --country which country's national numbers the export holds."
        ),
        "no_area_code": (
            "Column {column} holds {value}, which lacks its area code; "
            "have the telephone system export numbers with area code."
        ),
        "no_trunk_prefix": (
            "Column {column} holds {value}, which lacks the 0 (in some countries another prefix) that is dialled "
            "before an area code: it may be a local number, or begin with digits dialled for a line; have the "
            "telephone system export numbers as dialled or with + and country code, or give --outside-prefix."
        ),
        "impossible_number": (
            "Column {column} holds {value}, which cannot be a number in any numbering plan; "
            "check the digits, the country code, --country, --outside-prefix and the format's plain_digits."
        ),
        "invalid_number": (
            "Column {column} holds {value}, which is no assigned number of the --country; check the digits and "
            "--outside-prefix, or write it in international form, like +442071234567."
        ),
        "too_many_digits": (
            "Column {column} holds {value}, which has more digits than its numbering plan allows; "
            "check the digits, --country and --outside-prefix."
        ),
    }
)
"""Hint sentence of each reason, with ``{column}`` and ``{value}`` to fill in."""


class PlainDigits(StrEnum):
    """What digits without ``+`` or international prefix are in an export; stated by its format, never guessed."""

    NATIONAL = "national"
    INTERNATIONAL = "international"


def is_region(country: str) -> bool:
    """Say whether ``country`` is an ISO 3166 region with a numbering plan: ``GB``, neither ``UK`` nor ``gb``."""
    return country in phonenumbers.SUPPORTED_REGIONS


@dataclass(frozen=True, slots=True)
class NumberRules:
    """How a column of numbers is to be read.

    ``country`` is the region of national numbers, None to take international ones only. ``outside_prefix`` are
    the digits for an outside line that the system leaves in front: the longest that a number without ``+`` starts
    with is taken off it, once. Raises ValueError for an unknown region and a prefix not of digits.
    """

    country: str | None
    plain_digits: PlainDigits = PlainDigits.NATIONAL
    outside_prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.country is not None and not is_region(self.country):
            raise ValueError(f"{self.country!r} is not an ISO 3166 region")
        if not all(re.fullmatch("[0-9]+", prefix) for prefix in self.outside_prefix):
            raise ValueError(f"outside prefix {self.outside_prefix!r} is not digits")


@dataclass(frozen=True, slots=True)
class NumberReading:
    r"""What a text says.

    ``e164`` matches ``^\+[1-9][0-9]{6,14}$`` or is "" when the text is unusable. ``valid``: the number is
    whole, in a range that libphonenumber knows or, since plans change faster than its tables, in another. False
    with an ``e164``: it may lack digits; usable for calls whose state is ``invalid``. ``reason`` is a key of
    `REASONS`, "" when ``valid``.
    """

    e164: str
    reason: str
    valid: bool


class NumberBook:
    """Reads number cells under one set of rules and remembers what it read.

    The memory is bounded: two generations of at most ``capacity`` texts each; when the younger is full the older
    is forgotten. What is forgotten is read again, so that the memory never changes a result.
    """

    def __init__(self, rules: NumberRules, *, capacity: int = 200_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity} is not positive")
        self._rules = rules
        self._capacity = capacity
        self._young: dict[str, NumberReading] = {}
        self._old: dict[str, NumberReading] = {}

    def read(self, text: str) -> NumberReading:
        """Return what one text says."""
        reading = self._young.get(text)
        if reading is None:
            reading = self._old.get(text) or _reading(text, self._rules)
            if len(self._young) >= self._capacity:
                self._old, self._young = self._young, {}
            self._young[text] = reading
        return reading

    def read_column(self, texts: pd.Series) -> pd.DataFrame:
        """Return columns ``e164``, ``reason`` (str) and ``valid`` (bool) on the index of ``texts``.

        Each distinct text is read once; a missing value reads as "".
        """
        places, distinct = pd.factorize(texts)
        readings = [self.read(text) for text in distinct.tolist()]
        readings.append(_UNUSABLE["missing_number"])  # pandas factorises a missing value as place -1
        return pd.DataFrame(
            {
                "e164": pd.array([reading.e164 for reading in readings], dtype="str").take(places),
                "reason": pd.array([reading.reason for reading in readings], dtype="str").take(places),
                "valid": np.asarray([reading.valid for reading in readings], dtype=np.bool_)[places],
            },
            index=texts.index,
        )


_UNUSABLE: Final[Mapping[str, NumberReading]] = MappingProxyType(
    {reason: NumberReading("", reason, False) for reason in REASONS}
)


_LONGEST_TEXT: Final = 500
_BARE_NUMBER: Final = re.compile(r"\+?[0-9]{1,40}")


def _reading(text: str, rules: NumberRules) -> NumberReading:
    if _BARE_NUMBER.fullmatch(text):  # most cells: spares the judgement of the text
        return _dialled(text, rules)
    if len(text.strip()) > _LONGEST_TEXT:
        return _UNUSABLE["unusable_characters"]
    content = _content(_ascii_spelling(text))
    reason = _word_reason(content)
    return _UNUSABLE[reason] if reason else _dialled(content, rules)


# --- What is dialled beside the number ---------------------------------------------------------------------

_GAP: Final = r"[ ()./-]*"
_PAUSE: Final = r"[ ()./,;pw-]*"
_CODES: Final = (r"[*#]31[*#]", r"\*67#?", r"\*82")
_CODES_BY_CALLING_CODE: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
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
)
"""What is dialled before a number to show or withhold one's own, or (North America) to keep waiting calls away or
choose the carrier. ``#31#`` and ``*31#``: 3GPP TS 22.030; ``*67``, ``*82``, ``*70``, ``1167`` and so on: NANPA's
vertical service codes; ``101XXXX``: NANPA's carrier identification codes; the rest are the networks' own pages."""


def _code_pattern(codes: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(codes)}){_PAUSE}(?=[+0-9])", re.IGNORECASE)


_CODE: Final = _code_pattern(_CODES)
_CODE_BY_CALLING_CODE: Final = MappingProxyType(
    {code: _code_pattern((*_CODES, *own)) for code, own in _CODES_BY_CALLING_CODE.items()}
)


def _dialled(content: str, rules: NumberRules) -> NumberReading:
    """Read a number behind the digits for an outside line, if it starts with them.

    A number that is one only with these digits keeps them: 9125550123 where 9 is dialled for a line.
    """
    rest = "" if content.startswith("+") else _behind_outside_prefix(content, rules)
    reading = _called(rest or content, rules)
    is_long = len(_digits(rest)) > _LONGEST_LOCAL_NUMBER
    if rest and (reading.reason == "impossible_number" or (reading.reason == "no_trunk_prefix" and is_long)):
        with_prefix = _called(content, rules)
        return with_prefix if with_prefix.valid else reading
    return reading


def _behind_outside_prefix(content: str, rules: NumberRules) -> str:
    """Return what follows the longest outside prefix that the text starts with, "" where it starts with none."""
    for prefix in sorted(rules.outside_prefix, key=len, reverse=True):
        found = re.match(rf"[( ]*{_GAP.join(prefix)}{_PAUSE}(?=[+*#0-9])", content, re.IGNORECASE)
        if found:
            return content[found.end() :]
    return ""


def _called(content: str, rules: NumberRules) -> NumberReading:
    """Read a number behind a code for the network; digits that are a number with the code are no code.

    1414960123 is Glasgow, not 4960123 behind 141.
    """
    calling_code = phonenumbers.country_code_for_region(rules.country) if rules.country else 0
    code = _CODE_BY_CALLING_CODE.get(calling_code, _CODE).match(content)
    if code is None:
        return _number(content, rules)
    behind, whole = _number(content[code.end() :], rules), _number(content, rules)
    if behind.e164 and not whole.valid:
        return behind
    is_code = content[code.end()] == "+" or whole.reason == "too_many_digits"
    return _UNUSABLE["service_code"] if is_code else whole


def _number(content: str, rules: NumberRules) -> NumberReading:
    """Read a number without what is dialled once the call is answered: an extension, digits behind a pause.

    ``030 1234567-12`` has none: those are digits of the number.
    """
    if _BARE_NUMBER.fullmatch(content):
        return _planned(content, rules)
    reason = _spreadsheet_reason(content)
    further = _FURTHER_DIALLING.fullmatch(content)
    if further and not reason:
        shortest = _shortest_number(rules)
        if any(len(digits) >= shortest for digits in re.findall("[0-9]+", further["further"])):
            reason = "several_numbers"
        elif len(_digits(further["number"])) >= shortest:
            content = further["number"]
    reason = reason or _shape_reason(content)
    return _UNUSABLE[reason] if reason else _planned(content, rules)


# --- Spelling --------------------------------------------------------------------------------------------

_FORCED_TEXT: Final = re.compile(
    r"""=?"([^"]*)"|'(.*?)'?|[\u201c\u201e]([^\u201c-\u201e]*)[\u201c\u201d]""", re.DOTALL
)
_NAME_AND_ADDRESS: Final = re.compile(r"[^<>]*<([^<>]+)>(?:;[^<>]*)?")
_SCHEME: Final = re.compile(r"(tel|callto|sips?):(.*)", re.IGNORECASE | re.DOTALL)
# RFC 3966: these two change which number is meant.
_HARMLESS_PARAMETER: Final = re.compile(r";(?!ext=|phone-context=\+)[^;]*", re.IGNORECASE)
_EXTRA_DASHES: Final = "\N{MINUS SIGN}\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}"
_UNREADABLE: Final = "\N{REPLACEMENT CHARACTER}"


def _ascii_spelling(text: str) -> str:
    """Return the text with ordinary digits, spaces and dashes and without invisible characters."""
    if text.isascii() and text.isprintable():
        return text.strip()
    # NFKC would turn a footnote mark or a circled number into one more digit.
    marked = "".join(_UNREADABLE if _is_ornamental_digit(char) else char for char in text)
    return "".join(map(_ascii_char, unicodedata.normalize("NFKC", marked))).strip()


def _is_ornamental_digit(char: str) -> bool:
    return unicodedata.numeric(char, None) is not None and unicodedata.decimal(char, None) is None


def _ascii_char(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char in _EXTRA_DASHES:
        return "-"
    if category == "Zs" or char == "\t":
        return " "
    if char in "\n\r\v\f\x85" or category in {"Zl", "Zp"}:
        return "\n"
    return "" if category in {"Cf", "Cc"} else char


def _content(text: str) -> str:
    """Return what the cell holds inside forced text, quotes, a name-and-address form or a URI."""
    unwrapped = None
    while text != unwrapped:
        unwrapped = text
        match = _FORCED_TEXT.fullmatch(text)
        if match and any(match.groups()):
            text = next(group for group in match.groups() if group).strip()
        elif match := _NAME_AND_ADDRESS.fullmatch(text):
            text = match[1].strip()
    return _user_part(text)


def _user_part(text: str) -> str:
    """Return the user of ``sip:user@host`` and ``user@host``, the number of ``tel:``, without URI parameters."""
    match = _SCHEME.fullmatch(text)
    if match is None and "@" not in text:
        return text
    address = match[2] if match else text
    user = address.partition("@")[0] if "@" in address else address.partition("?")[0]
    number, colon, _ = user.partition(":")
    if colon and match is not None and match[1].lower().startswith("sip"):
        user = number  # a password, or the port of a host
    return _HARMLESS_PARAMETER.sub("", unquote(user)).strip()


# --- Words -----------------------------------------------------------------------------------------------

_MISSING: Final = frozenset(
    {"null", "(null)", "\\n", "none", "nil", "nan", "na", "n/a", "#n/a", "n.a.", "undefined", "empty"}
)
_NOUN_WORDS: Final = """
    number numbers caller callers callerid id cid call name user party phone telephone
    nummer rufnummer telefonnummer anrufer teilnehmer
    numéro appelant appel número numero llamante chamante chiamante
    numer číslo szám numara nummeret номер абонент
"""
# Asterisk writes s for the start extension; -1 and -2 stand for no number in some exports.
_WITHHELD_WORDS: Final = """
    anonymous anon withheld private restricted unknown unavailable blocked hidden secret unlisted unidentified
    suppressed no not without available s -1 -2
    anonym unbekannt unbekannte unbekannter unterdrückt unterdrückte unterdrueckt privat verborgen geheim gesperrt
    nicht verfügbar verfuegbar keine ohne
    anonyme inconnu inconnue masqué masque privé prive caché secret secrète indisponible non sans
    anónimo anonimo desconocido desconocida privado privada oculto oculta restringido restringida confidencial
    disponible sin desconhecido indisponível sem
    sconosciuto sconosciuta privato privata nascosto riservato disponibile senza
    anoniem onbekend onbekende afgeschermd geen niet beschikbaar
    okänd okänt skyddat hemligt dolt ukjent ukendt skjult hemmelig hemmeligt anonymt tuntematon salainen
    nieznany zastrzeżony prywatny anonimowy ukryty neznámé neznámý skryté skrytý
    ismeretlen rejtett privát bilinmeyen gizli özel necunoscut ascuns
    неизвестный неизвестно неизвестен скрытый скрыт анонимный аноним невідомий прихований
    άγνωστος απόρρητο חסוי مجهول خاص
    非通知 非通知設定 表示圏外 公衆電話 匿名 未知 未知号码 隐藏 隱藏 私人号码 不明 발신번호표시제한
"""
_NOUNS: Final = frozenset(_NOUN_WORDS.split())
_WITHHELD: Final = frozenset(_WITHHELD_WORDS.split())
_REDACTED: Final = frozenset({"redacted", "masked", "obfuscated"})


def _word_reason(content: str) -> str:
    """Return the reason of a text that is a word for no number, "" for any other."""
    folded = content.casefold()
    if folded in _MISSING or not (any(map(str.isalnum, content)) or _MASK.search(content)):
        return "" if _UNREADABLE in content else "missing_number"
    words = [word for word in re.split(r"[\s_.,:/<>()\[\]\"']+", folded) if word]
    telling = [word for word in words if word not in _NOUNS]
    if telling and all(word in _WITHHELD for word in telling):
        return "withheld_number"
    return "masked_number" if telling and all(word in _REDACTED for word in telling) else ""


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
_SHORTEST_NUMBER: Final = 7


def _spreadsheet_reason(content: str) -> str:
    if _SCIENTIFIC.fullmatch(content):
        return "scientific_notation"
    return "lost_decimal" if _DECIMAL.fullmatch(content) else ""


def _shape_reason(content: str) -> str:
    """Return the reason of a text that is not plainly one number, "" for one that is."""
    if _SERVICE_CODE.fullmatch(content):
        return "service_code"
    if _MASK.search(content):
        return "masked_number"
    if _NUMBER_CHARACTERS.fullmatch(content):
        return "several_numbers" if _holds_several(content) else ""
    return "letters_in_number" if any(map(str.isalpha, content)) else "unusable_characters"


def _holds_several(content: str) -> bool:
    """Say whether a plus or a slash starts a second number; a slash after an area code does not."""
    if "+" in content.lstrip("+( "):
        return True
    *parts, last = [_digits(part) for part in content.split("/")]
    if any(parts) and len(last) <= _LONGEST_ENDING_AFTER_SLASH:
        return True
    return sum(len(part) >= _SHORTEST_NUMBER for part in (*parts, last)) > 1


def _digits(content: str) -> str:
    return re.sub("[^0-9]", "", content)


# --- Numbering plans -------------------------------------------------------------------------------------

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
# Longest international prefix and E.164 number, with room for an outside line: anything longer is an id.
_MOST_DIGITS: Final = 28
_LONGEST_SHORT_CODE: Final = len("+49116117890")
# Carriers send these as caller ID, with or without plus, for a word typed on a keypad.
_KEYPAD_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "266696687": "ANONYMOUS",
        "7378742833": "RESTRICTED",
        "8656696": "UNKNOWN",
        "7748283": "PRIVATE",
        "2562533": "BLOCKED",
        "86282452253": "UNAVAILABLE",
    }
)
_MEXICO: Final = 52
_FORMER_INTERNATIONAL: Final = re.compile("(?:1|01|044|045)([0-9]{10})")
_FORMER_NATIONAL: Final = re.compile("(?:01|044|045|52(?:1|01|044|045))([0-9]{10})")
_REASON_OF_LENGTH: Final[Mapping[int, str]] = MappingProxyType(
    {ValidationResult.TOO_LONG: "too_many_digits", ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "no_area_code"}
)


def _planned(content: str, rules: NumberRules) -> NumberReading:
    """Judge a text of digits and separators."""
    digits = _digits(content)
    if digits in _KEYPAD_WORDS:
        return _UNUSABLE["keypad_word"]
    if len(digits) > _MOST_DIGITS:
        return _UNUSABLE["too_many_digits"]
    if "+" in content:
        # No country code starts with 0: some gateways put a plus before the international prefix.
        return _after_prefix(digits, rules) if digits.startswith("0") else _international(digits)
    if len(digits) < _shortest_number(rules):
        return _UNUSABLE["short_number"]
    if rules.plain_digits is PlainDigits.NATIONAL:
        return _national(digits, rules.country)
    return _after_prefix(digits, rules) if digits.startswith("0") else _international(digits)


def _shortest_number(rules: NumberRules) -> int:
    """Return how many digits a number without plus must have, fewer than 7 only where landlines have fewer."""
    if rules.country is None or rules.plain_digits is PlainDigits.INTERNATIONAL:
        return _SHORTEST_NUMBER
    plan = phonenumbers.PhoneMetadata.metadata_for_region(rules.country)
    landline = plan.fixed_line if plan else None
    return min(_SHORTEST_NUMBER, max(landline.possible_length)) if landline else _SHORTEST_NUMBER


def _international(digits: str) -> NumberReading:
    """Judge digits that start with a country code."""
    number = _parsed("+" + digits, None)
    return _UNUSABLE[number] if isinstance(number, str) else _judged(number, is_international=True)


def _after_prefix(digits: str, rules: NumberRules) -> NumberReading:
    """Judge digits that start with 0 where a country code is due: only an international prefix explains that."""
    number = _parsed(digits, rules.country) if rules.country else "impossible_number"
    if isinstance(number, PhoneNumber) and _has_prefix(number):
        return _judged(number, is_international=True)
    if not digits.startswith("00"):
        return _UNUSABLE["impossible_number"]
    if rules.plain_digits is PlainDigits.INTERNATIONAL:
        return _international(digits[2:])
    return _UNUSABLE["impossible_number" if rules.country else "no_country"]


def _national(digits: str, country: str | None) -> NumberReading:
    """Judge digits as dialled inside the country, the country's own international prefix included.

    A number in no range that libphonenumber knows is taken where its form proves that it is whole.
    """
    if country is None:
        return _UNUSABLE["no_country"]
    number = _parsed(digits, country)
    if isinstance(number, str):
        return _UNUSABLE[number]
    reading = _judged(number, is_international=False)
    if not reading.e164:
        return reading
    if _lacks_trunk_prefix(number, digits, country, is_assigned=reading.valid):
        return _with_own_code(digits, number) or _UNUSABLE["no_trunk_prefix"]
    if reading.valid or _is_whole(number, digits, country):
        return NumberReading(reading.e164, "", True)
    # 00491570156 in Germany: Leer behind a 0 for the line, rather than seven digits behind Germany's own code.
    return _UNUSABLE["invalid_number"] if _national(digits[1:], country).valid else reading


def _has_prefix(number: PhoneNumber) -> bool:
    return number.country_code_source == CountryCodeSource.FROM_NUMBER_WITH_IDD


def _parsed(text: str, country: str | None) -> PhoneNumber | str:
    """Return libphonenumber's reading, or the reason why it has none."""
    try:
        return phonenumbers.parse(text, country, keep_raw_input=True)
    except NumberParseException as error:
        is_long = error.error_type == NumberParseException.TOO_LONG
        return "too_many_digits" if is_long else "impossible_number"


def _judged(number: PhoneNumber, *, is_international: bool) -> NumberReading:
    """Hold a number against its numbering plan: an international one must be possible, a national one assigned."""
    number = _renumbered(number)
    length = phonenumbers.is_possible_number_with_reason(number)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if length != ValidationResult.IS_POSSIBLE or not _E164.fullmatch(e164):
        return _UNUSABLE[_REASON_OF_LENGTH.get(length, "impossible_number")]
    if e164[1:] in _KEYPAD_WORDS:
        return _UNUSABLE["keypad_word"]
    is_long = len(e164) > _LONGEST_SHORT_CODE
    if is_international and is_long and e164 == number.raw_input and not number.italian_leading_zero:
        return NumberReading(e164, "", True)
    if phonenumbers.is_valid_number(number):
        return NumberReading(e164, "", True)
    if is_valid_short_number(number):
        return _UNUSABLE["short_number"]
    if number.italian_leading_zero or not _reads_as_itself(e164):
        # +48 (0) 512 345 678: possible by its length, but no Polish number starts with 0.
        return _UNUSABLE["impossible_number"]
    if is_international:
        return NumberReading(e164, "", True)
    return NumberReading(e164, "invalid_number", False)


def _reads_as_itself(e164: str) -> bool:
    """Say whether nothing more is taken off a number for a trunk prefix (Belarus: 8 and 80)."""
    number = _parsed(e164, None)
    return isinstance(number, PhoneNumber) and e164 == phonenumbers.format_number(
        number, phonenumbers.PhoneNumberFormat.E164
    )


def _renumbered(number: PhoneNumber) -> PhoneNumber:
    """Return a Mexican number without what was dialled before its ten digits until August 2019.

    That was 1 behind the country code, or 01, 044 and 045 (IFT, Plan Técnico Fundamental de Numeración 2018).
    libphonenumber handles what other countries put in between: Argentina's 15, Brazil's carrier codes.
    """
    if number.country_code != _MEXICO:
        return number
    is_dialled_inside = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
    former = _FORMER_NATIONAL if is_dialled_inside else _FORMER_INTERNATIONAL
    found = former.fullmatch(phonenumbers.national_significant_number(number))
    if found is None:
        return number
    return PhoneNumber(_MEXICO, int(found[1]), country_code_source=number.country_code_source)


# --- Is a national number whole? -------------------------------------------------------------------------

_LONGEST_LOCAL_NUMBER: Final = 8
"""Within one area numbers have no more digits, in no country: what is longer has its area code."""
_LENGTHS_OF_A_CLOSED_PLAN: Final = 2


def _lacks_trunk_prefix(number: PhoneNumber, digits: str, country: str, *, is_assigned: bool) -> bool:
    """Say whether national digits lack the trunk prefix in a country where local numbers may be as long.

    Germany: 912025550111 is no number of area 09120, since that is reached with 0 only; the 9 may be what is
    dialled for a line. Where the lengths are fixed (France, North America) the prefix may be missing, and where
    an assigned number is written without one (China's mobiles).
    """
    is_default = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
    if not is_default or _is_closed(number) or _has_trunk_prefix(number, digits, country):
        return False
    written = _digits(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL))
    is_written_without = is_assigned and written == phonenumbers.national_significant_number(number)
    return not is_written_without and phonenumbers.ndd_prefix_for_region(country, True) is not None


def _has_trunk_prefix(number: PhoneNumber, digits: str, country: str) -> bool:
    prefix = phonenumbers.ndd_prefix_for_region(country, True)
    national = phonenumbers.national_significant_number(number)
    return prefix is not None and digits.startswith(prefix) and digits != national


def _with_own_code(digits: str, number: PhoneNumber) -> NumberReading | None:
    """Return the reading with a plus put before the country code (4917655501234), None where that is no number."""
    own = _parsed("+" + digits, None)
    if isinstance(own, str) or own.country_code != number.country_code or not phonenumbers.is_valid_number(own):
        return None
    is_long = len(phonenumbers.national_significant_number(own)) > _LONGEST_LOCAL_NUMBER
    return _judged(own, is_international=True) if is_long else None


def _is_whole(number: PhoneNumber, digits: str, country: str) -> bool:
    """Say whether the form of a possible number proves that it lacks no digits and has none too many.

    With an international or trunk prefix it must be longer than a local number, or of a length that its plan
    fixes. Without one the plan must have that length alone, and nothing that is dialled behind its first digit.
    """
    length = len(phonenumbers.national_significant_number(number))
    plan = _plan(number)
    longest = [max(kind.possible_length) for kind in (plan.fixed_line, plan.mobile) if kind] if plan else []
    is_full = _is_closed(number) and length in longest
    is_default = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
    if not is_default or _has_trunk_prefix(number, digits, country):
        return is_full or length > _LONGEST_LOCAL_NUMBER
    if not is_full or length < max(longest) or plan is None or plan.national_prefix_transform_rule:
        return False
    return not _national(digits[1:], country).valid


def _is_closed(number: PhoneNumber) -> bool:
    """Say whether the landlines of a number's plan have one length, or two."""
    plan = _plan(number)
    return (
        plan is not None
        and plan.fixed_line is not None
        and (len(plan.fixed_line.possible_length) <= _LENGTHS_OF_A_CLOSED_PLAN)
    )


def _plan(number: PhoneNumber) -> phonenumbers.PhoneMetadata | None:
    """Return the plan that a number's country code stands for, None for codes of no country (800, 870)."""
    region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    return phonenumbers.PhoneMetadata.metadata_for_region(region)
