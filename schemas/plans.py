"""Digits against numbering plans: which number of which country they are, and whether it is whole.

libphonenumber says of a number whether its length is possible and its range assigned. Number plans change faster
than its tables: a number in no range that it knows counts too where its form proves that it is whole.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import phonenumbers
from phonenumbers import CountryCodeSource, NumberParseException, PhoneNumber, ValidationResult
from phonenumbers.shortnumberinfo import is_valid_short_number


def is_region(country: str) -> bool:
    """Return whether ``country`` is an ISO 3166 region with a numbering plan: ``GB``, not ``UK`` or ``gb``."""
    return country in phonenumbers.SUPPORTED_REGIONS


def main_region(country: str) -> str:
    """Return the first of the regions that share the region's country code: ``US`` for ``CA``."""
    return _MAIN_REGION[str(phonenumbers.country_code_for_region(country))]


def region_of(e164: str) -> str:
    """Return the first of the regions that share a number's country code, "" where it has none (800, 870)."""
    code = next((e164[1:end] for end in (2, 3, 4) if e164[1:end] in _MAIN_REGION), "")
    return _MAIN_REGION.get(code, "")


@dataclass(frozen=True, slots=True)
class NumberRules:
    """How a column of numbers is to be read.

    ``plain_digits``, stated by the format and never guessed, is what digits without ``+`` or international prefix
    are: ``national`` or ``international``. ``country`` is the region of national numbers, None to take
    international ones only. ``outside_prefix`` are the digits for an outside line that the system leaves in front:
    the longest that a number without ``+`` starts with is taken off it, once.
    """

    country: str | None
    plain_digits: str = "national"
    outside_prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberReading:
    r"""The number that a text holds, or the reason why it holds none.

    ``reason`` is a key of `REASONS`. It is "" for a number that is whole, in a range that libphonenumber knows or,
    since plans change faster than its tables, in another. ``e164`` matches ``^\+[1-9][0-9]{6,14}$`` or is "" when
    the text is unusable. A number with a reason may lack digits: only calls whose state is ``invalid`` take it.
    """

    e164: str
    reason: str = ""


def unusable(reason: str) -> NumberReading:
    """Return the reading of a text without a usable number."""
    return NumberReading("", reason)


def digits_in(content: str) -> str:
    """Return the digits of a text without their separators."""
    return re.sub("[^0-9]", "", content)


SHORTEST_NUMBER: Final = 7
"""Fewer digits are a short code, an extension or a number without its area code."""

_MAIN_REGION: Final = {str(code): regions[0] for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()}
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
# Longest international prefix and E.164 number, with room for an outside line: anything longer is an id.
_MOST_DIGITS: Final = 28
_LONGEST_SHORT_CODE: Final = len("+49116117890")
# Carriers send these as caller ID, with or without plus, for a word typed on a keypad.
_KEYPAD_WORDS: Final[Mapping[str, str]] = {
    "266696687": "ANONYMOUS",
    "7378742833": "RESTRICTED",
    "8656696": "UNKNOWN",
    "7748283": "PRIVATE",
    "2562533": "BLOCKED",
    "86282452253": "UNAVAILABLE",
}
_MEXICO: Final = 52
_FORMER_INTERNATIONAL: Final = re.compile("(?:1|01|044|045)([0-9]{10})")
_FORMER_NATIONAL: Final = re.compile("(?:01|044|045|52(?:1|01|044|045))([0-9]{10})")
_REASON_OF_LENGTH: Final[Mapping[int, str]] = {
    ValidationResult.TOO_LONG: "too_many_digits",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "no_area_code",
}


def planned(content: str, rules: NumberRules) -> NumberReading:
    """Return the reading of digits and separators by the numbering plans."""
    digits = content if content.isdecimal() else digits_in(content)
    if digits in _KEYPAD_WORDS:
        return unusable("keypad_word")
    if len(digits) > _MOST_DIGITS:
        return unusable("too_many_digits")
    is_plain = "+" not in content
    if is_plain and len(digits) < SHORTEST_NUMBER and len(digits) < shortest_number(rules):
        return unusable("short_number")
    if is_plain and rules.plain_digits == "national":
        if rules.country is None:
            return unusable("no_country")
        return settled_national(digits, rules.country) or asked_national(digits, rules.country)
    if digits.startswith("0"):
        # No country code does: some gateways put a plus before the international prefix, which alone explains it.
        number = _parsed(digits, rules.country) if rules.country else ""
        if (
            isinstance(number, PhoneNumber)
            and number.country_code_source == CountryCodeSource.FROM_NUMBER_WITH_IDD
        ):
            return _judged(number, is_international=True)
        if not digits.startswith("00"):
            return unusable("impossible_number")
        if rules.plain_digits == "national":
            return unusable("impossible_number" if rules.country else "no_country")
        digits, is_plain = digits[2:], False
    return settled_international(digits) or asked_international(digits, is_plain=is_plain)


@cache
def shortest_number(rules: NumberRules) -> int:
    """Return how many digits a number without plus must have, fewer than 7 only where landlines have fewer."""
    if rules.country is None or rules.plain_digits == "international":
        return SHORTEST_NUMBER
    plan = phonenumbers.PhoneMetadata.metadata_for_region(rules.country)
    landline = plan.fixed_line if plan else None
    return min(SHORTEST_NUMBER, max(landline.possible_length)) if landline else SHORTEST_NUMBER


def asked_international(digits: str, *, is_plain: bool = False) -> NumberReading:
    """Judge digits that start with a country code by libphonenumber's functions.

    Plain are those without plus or prefix: 5325550142 may be a Turkish mobile that lacks its country code rather
    than a number of Cuba, so one in no known range must be longer than a local number.
    """
    number = _parsed("+" + digits, None)
    if isinstance(number, str):
        return unusable(number)
    reading = _judged(number, is_international=not is_plain)
    is_long = len(phonenumbers.national_significant_number(number)) > LONGEST_LOCAL_NUMBER
    return NumberReading(reading.e164) if reading.e164 and is_long else reading


def asked_national(digits: str, country: str) -> NumberReading:
    """Judge digits as dialled inside the country, its own international prefix included, by libphonenumber.

    A number in no range that libphonenumber knows is taken where its form proves that it is whole.
    """
    number = _parsed(digits, country)
    if isinstance(number, str):
        return unusable(number)
    reading = _judged(number, is_international=False)
    if not reading.e164:
        return reading
    national, prefix = phonenumbers.national_significant_number(number), trunk_prefix(country)
    is_bare = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY and (
        prefix is None or not digits.startswith(prefix) or digits == national
    )
    region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region)  # none for codes of no country (800, 870)
    # Local numbers may be as long. Germany: 912025550111 is no number of area 09120, since that is reached with 0
    # only; the 9 may be what is dialled for a line. Where the lengths are fixed (France, North America) the prefix
    # may be missing, and where an assigned number is written without one (China's mobiles).
    lacks_prefix = is_bare and prefix is not None and not _is_closed(plan)
    if lacks_prefix and not reading.reason:
        written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        lacks_prefix = digits_in(written) != national
    if lacks_prefix:
        # A plus is left out before the country code (4917655501234).
        own = _parsed("+" + digits, None) if digits.startswith(str(number.country_code)) else ""
        if isinstance(own, PhoneNumber) and own.country_code == number.country_code:
            is_long = len(phonenumbers.national_significant_number(own)) > LONGEST_LOCAL_NUMBER
            if is_long and phonenumbers.is_valid_number(own):
                return _judged(own, is_international=True)
        return unusable("no_trunk_prefix")
    if not reading.reason:
        return NumberReading(reading.e164)
    # 1212555014 in North America lacks its last digit.
    is_cut = is_bare and prefix is not None and national.startswith(prefix)
    is_whole = not is_cut and _is_whole(len(national), plan, is_bare=is_bare)
    # 00491570156 in Germany: Leer behind a 0 for the line, rather than seven digits behind Germany's own code.
    behind = settled_national(digits[1:], country) or asked_national(digits[1:], country)
    if not behind.reason and not (is_whole and _is_doubtful(behind.e164, reading.e164)):
        return unusable("invalid_number")
    return NumberReading(reading.e164) if is_whole else reading


def _is_doubtful(behind: str, whole: str) -> bool:
    """Return whether an assigned number behind the first digit does not tell that a line was dialled with it.

    0015112345678 is a mobile in Germany, rather than area 511 of North America, and 0919876543210 one in India.
    The landlines of an open plan (Germany) have nearly any digits.
    """
    number = phonenumbers.parse(behind)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region_of(behind))
    is_landline = phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.FIXED_LINE
    return behind == whole or (is_landline and not _is_closed(plan))


def _parsed(text: str, country: str | None) -> PhoneNumber | str:
    """Return libphonenumber's reading, or the reason why it has none."""
    try:
        return phonenumbers.parse(text, country, keep_raw_input=True)
    except NumberParseException as error:
        # phonenumbers 9.0 keeps its first error in a cycle with the frames above it, and so with a whole chunk.
        if error.__context__ is not None:
            error.__context__.__traceback__ = None
        is_long = error.error_type == NumberParseException.TOO_LONG
        return "too_many_digits" if is_long else "impossible_number"


def _judged(number: PhoneNumber, *, is_international: bool) -> NumberReading:
    """Hold a number against its numbering plan: an international one must be possible, a national one assigned."""
    if number.country_code == _MEXICO:
        # Until August 2019 ten digits had 1 before them behind the country code, or 01, 044 and 045 (IFT, Plan
        # Técnico Fundamental de Numeración 2018). libphonenumber handles what other countries put there:
        # Argentina's 15, Brazil's carrier codes.
        is_dialled_inside = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
        former = _FORMER_NATIONAL if is_dialled_inside else _FORMER_INTERNATIONAL
        if found := former.fullmatch(phonenumbers.national_significant_number(number)):
            number = PhoneNumber(_MEXICO, int(found[1]), country_code_source=number.country_code_source)
    length = phonenumbers.is_possible_number_with_reason(number)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if length != ValidationResult.IS_POSSIBLE or not _E164.fullmatch(e164):
        return unusable(_REASON_OF_LENGTH.get(length, "impossible_number"))
    if e164[1:] in _KEYPAD_WORDS:
        return unusable("keypad_word")
    is_long = len(e164) > _LONGEST_SHORT_CODE
    if is_international and is_long and e164 == number.raw_input and not number.italian_leading_zero:
        return NumberReading(e164)
    if phonenumbers.is_valid_number(number):
        return NumberReading(e164)
    if is_valid_short_number(number):
        return unusable("short_number")
    again, form = _parsed(e164, None), phonenumbers.PhoneNumberFormat.E164
    is_same = isinstance(again, PhoneNumber) and e164 == phonenumbers.format_number(again, form)
    if number.italian_leading_zero or not is_same:
        # +48 (0) 512 345 678: possible by its length, but no Polish number starts with 0. In Belarus 8 and 80
        # would be taken off a number for a trunk prefix.
        return unusable("impossible_number")
    if is_international:
        return NumberReading(e164)
    return NumberReading(e164, "invalid_number")


# --- What the patterns of a plan settle ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """The numbering plan of the main region of a country code, compiled from libphonenumber's metadata.

    ``assigned`` matches whole national numbers, ``trunk_prefix`` what the library takes off in front of them,
    ``other_prefix`` the international prefix and the own country code. ``exit_digits`` is the international prefix
    where there is but one, else "".
    """

    code: str
    lengths: tuple[int, ...]
    assigned: re.Pattern[str]
    trunk_prefix: re.Pattern[str] | None
    other_prefix: re.Pattern[str]
    exit_digits: str
    is_closed: bool


def settled_national(digits: str, country: str) -> NumberReading | None:
    """Return the reading of digits that the patterns of the plan prove to be an assigned number, else None.

    It is the result of `asked_national` in a tenth of the time: behind the trunk prefix, or without one in a plan
    that does not need it, nothing else can be meant.
    """
    plan = _compiled_plan(country)
    if plan and plan.exit_digits and digits.startswith(plan.exit_digits):
        return settled_international(digits[len(plan.exit_digits) :], is_assigned=True)
    if plan is None or plan.other_prefix.match(digits):
        return None
    prefix = plan.trunk_prefix.match(digits) if plan.trunk_prefix else None
    if prefix[0] != trunk_prefix(country) if prefix else not plan.is_closed:
        return None
    number = digits[prefix.end() :] if prefix else digits
    return _settled(number, plan) if plan.assigned.fullmatch(number) else None


def settled_international(digits: str, *, is_assigned: bool = False) -> NumberReading | None:
    """Return the reading of digits that start with a country code where the patterns settle it, else None.

    With ``is_assigned`` only numbers in the ranges of their plan are settled.
    """
    code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in _MAIN_REGION), "")
    plan = _compiled_plan(_MAIN_REGION[code]) if code else None
    number = digits[len(code) :]
    if plan is None or number.startswith("0") or (plan.trunk_prefix and plan.trunk_prefix.match(number)):
        return None
    if len(number) > max(plan.lengths):
        return unusable("too_many_digits")
    is_long = not is_assigned and len(digits) >= _LONGEST_SHORT_CODE and len(number) in plan.lengths
    return _settled(number, plan) if is_long or plan.assigned.fullmatch(number) else None


def _settled(number: str, plan: _Plan) -> NumberReading | None:
    digits = plan.code + number
    is_number = _E164.fullmatch(f"+{digits}") is not None and digits not in _KEYPAD_WORDS
    return NumberReading(f"+{digits}") if is_number else None


@cache
def _compiled_plan(country: str) -> _Plan | None:
    """Return the plan of a region, None where more than its own patterns decide.

    Such are regions that share the country code of another one, which comes first, and those in which digits are
    replaced by others (Argentina, Brazil, Mexico).
    """
    plan = phonenumbers.PhoneMetadata.metadata_for_region(country)
    if plan is None or plan.general_desc is None or _MAIN_REGION[str(plan.country_code)] != country:
        return None
    if plan.country_code == _MEXICO or plan.leading_digits or plan.national_prefix_transform_rule:
        return None
    kinds, exit_digits = (getattr(plan, name) for name in _KINDS.split()), plan.international_prefix or ""
    patterns = [_pattern(kind) for kind in kinds if kind and kind.national_number_pattern]
    return _Plan(
        str(plan.country_code),
        plan.general_desc.possible_length,
        re.compile(f"(?!0)(?={_pattern(plan.general_desc)}$)(?:{'|'.join(patterns)})"),
        re.compile(plan.national_prefix_for_parsing) if plan.national_prefix_for_parsing else None,
        re.compile(rf"{plan.international_prefix or '(?!)'}|{plan.country_code}"),
        exit_digits if exit_digits.isdecimal() else "",
        _is_closed(plan),
    )


_KINDS: Final = "fixed_line mobile toll_free premium_rate shared_cost voip personal_number pager uan voicemail"


def _pattern(kind: phonenumbers.PhoneNumberDesc) -> str:
    """Return the pattern of one kind of numbers, of the lengths that it has."""
    lengths = "|".join(f"[0-9]{{{size}}}" for size in kind.possible_length) or "[0-9]+"
    return f"(?=(?:{lengths})$)(?:{kind.national_number_pattern})"


# --- Is a national number whole? -------------------------------------------------------------------------

LONGEST_LOCAL_NUMBER: Final = 8
"""Within one area numbers have no more digits, in no country: what is longer has its area code."""
_LENGTHS_OF_A_CLOSED_PLAN: Final = 2


@cache
def trunk_prefix(country: str) -> str | None:
    """Return what is dialled before an area code inside a country, None where nothing is."""
    return phonenumbers.ndd_prefix_for_region(country, True)


def _is_whole(length: int, plan: phonenumbers.PhoneMetadata | None, *, is_bare: bool) -> bool:
    """Return whether the form of a possible number proves that it lacks no digits and has none too many.

    With an international or trunk prefix it must be longer than a local number, or of a length that its plan
    fixes. Without one (bare) the plan must have that length alone, and no local number behind a digit for the line
    may be as long: 955501234 in Australia.
    """
    kinds = [kind for kind in (plan.fixed_line, plan.mobile) if kind] if plan else []
    longest = [max(kind.possible_length) for kind in kinds]
    is_full = _is_closed(plan) and length in longest
    if not is_bare:
        return is_full or length > LONGEST_LOCAL_NUMBER
    is_local = any(length - 1 in kind.possible_length_local_only for kind in kinds)
    is_alone = is_full and length == max(longest) and not is_local
    return is_alone and plan is not None and not plan.national_prefix_transform_rule


def _is_closed(plan: phonenumbers.PhoneMetadata | None) -> bool:
    """Return whether the landlines of a plan have one length, or two."""
    landline = plan.fixed_line if plan else None
    return landline is not None and len(landline.possible_length) <= _LENGTHS_OF_A_CLOSED_PLAN
