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
            "Column {column} holds {value}, which is or starts with a code for the telephone system; "
            "have the system export the number that was called."
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
            "Column {column} holds {value}, which is more than one number; keep the one that was called."
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
        "has_extension": (
            "Column {column} holds {value}, a number followed by an extension or further dialling; "
            "keep the number only."
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
        "impossible_number": (
            "Column {column} holds {value}, which cannot be a number in any numbering plan; "
            "check the digits, the country code, --country and the format's plain_digits and outside_prefix."
        ),
        "invalid_number": (
            "Column {column} holds {value}, which is no assigned number of the --country; "
            "check the digits, or write it in international form, like +442071234567."
        ),
        "too_many_digits": (
            "Column {column} holds {value}, which has more digits than its numbering plan allows; "
            "check the digits, --country and the format's outside_prefix."
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
    the digits for an outside line that the system leaves in front: taken off exactly once, from a number
    without ``+`` that starts with them. Raises ValueError for an unknown region and a prefix not of digits.
    """

    country: str | None
    plain_digits: PlainDigits = PlainDigits.NATIONAL
    outside_prefix: str = ""

    def __post_init__(self) -> None:
        if self.country is not None and not is_region(self.country):
            raise ValueError(f"{self.country!r} is not an ISO 3166 region")
        if not re.fullmatch("[0-9]*", self.outside_prefix):
            raise ValueError(f"outside prefix {self.outside_prefix!r} is not digits")


@dataclass(frozen=True, slots=True)
class NumberReading:
    r"""What a text says.

    ``e164`` matches ``^\+[1-9][0-9]{6,14}$`` or is "" when the text is unusable. ``valid`` False with an
    ``e164`` means that the number is possible only: usable for calls whose state is ``invalid``. ``reason`` is a
    key of `REASONS`, "" when ``valid``.
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
    reason = _word_reason(content) or _shape_reason(content)
    return _UNUSABLE[reason] if reason else _dialled(content, rules)


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
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+[.,][0-9]{1,2}|.*[0-9][.,]0|-[0-9]+", re.DOTALL)
_SERVICE_CODE: Final = re.compile(r"[*#]{1,2}[0-9]+(?:[*#][0-9]+)*#?")
_EXTENSION: Final = re.compile(
    r"[+0-9()/.\- ]*[0-9][) ]*[(\[]?"
    r"(?:;ext=|[,;]+ *|#+|x|p|w|ext(?:n|ension|ensión)?|durchwahl|dw|poste|interno|int|ramal|anexo)"
    r"[ .:=]*[0-9]{1,9}#?[)\]]?",
    re.IGNORECASE,
)
_MASK: Final = re.compile(
    r"[*•●\u2217\u00d7✱■█▪?]|[#_.]{2}|-{3}|(?<![^\W\d_x])x{2,}(?![^\W\d_])|[0-9]x\Z", re.IGNORECASE
)
_NUMBER_CHARACTERS: Final = re.compile(r"[+0-9()/.\- ]*")
# 030 1234567/8 names two lines of one subscriber.
_LONGEST_ENDING_AFTER_SLASH: Final = 2
_SHORTEST_NUMBER: Final = 7


def _shape_reason(content: str) -> str:
    """Return the reason of a text that is not plainly one number, "" for one that is."""
    if _SCIENTIFIC.fullmatch(content):
        return "scientific_notation"
    if _DECIMAL.fullmatch(content):
        return "lost_decimal"
    if _SERVICE_CODE.fullmatch(content):
        return "service_code"
    if _EXTENSION.fullmatch(content):
        return "has_extension"
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
_REASON_OF_LENGTH: Final[Mapping[int, str]] = MappingProxyType(
    {ValidationResult.TOO_LONG: "too_many_digits", ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "no_area_code"}
)


def _dialled(content: str, rules: NumberRules) -> NumberReading:
    """Judge a text of digits and separators."""
    digits = _digits(content)
    if digits in _KEYPAD_WORDS:
        return _UNUSABLE["keypad_word"]
    if len(digits) > _MOST_DIGITS:
        return _UNUSABLE["too_many_digits"]
    if "+" in content:
        # No country code starts with 0: some gateways put a plus before the international prefix.
        return _after_prefix(digits, rules) if digits.startswith("0") else _international(digits)
    if rules.outside_prefix:
        digits = digits.removeprefix(rules.outside_prefix)
        if digits in _KEYPAD_WORDS:
            return _UNUSABLE["keypad_word"]
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
    """Judge digits as dialled inside the country, the country's own international prefix included."""
    if country is None:
        return _UNUSABLE["no_country"]
    number = _parsed(digits, country)
    if isinstance(number, str):
        return _UNUSABLE[number]
    return _judged(number, is_international=_has_prefix(number))


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
    """Hold a number against its numbering plan: an international one must be possible, a national one valid."""
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
