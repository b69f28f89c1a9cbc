"""Numbers: what a cell's text is as E.164, or why it is none; nothing is made up."""

import re
from string import Formatter

import pandas as pd
import phonenumbers
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import table
from schemas import plans, times
from schemas.numbers import REASONS, NumberBook, NumberReading, NumberRules, is_region

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
KEYPAD = dict(zip("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999", strict=True))
NEW_YORK, LONDON, BERLIN, MOBILE = "+12125550123", "+442079460958", "+493023125000", "+447700900123"


def read(text: str, country: str | None = "DE", digits: str = "national", prefix: str = "") -> NumberReading:
    """Read one text with a new book."""
    return NumberBook(NumberRules(country, digits, (*filter(None, prefix.split(",")),))).read(text)


@table(
    ("country", "e164", "texts"),
    [
        # As dialled inside the country, it is read with that country's plan, or with that of another region of it.
        ("US", NEW_YORK, ("2125550123", "(212) 555-0123", "212.555.0123", "1-212-555-0123")),
        ("US", "+14165550123", ("4165550123",)),
        ("US", "+19005550100", ("+1 900 555 0100",)),
        ("GB", LONDON, ("020 7946 0958",)),
        ("AU", "+61491570156", ("0491 570 156",)),
        ("DE", BERLIN, ("030 23125000", "030/23125000")),
        ("IT", "+390212345678", ("02 1234 5678",)),
        ("FO", "+298201234", ("201234",)),  # the islands' own numbers have six digits
        # With plus, or with the region's own international prefix, it is read and keeps an Italian zero.
        (None, MOBILE, ("+44 7700 900123",)),
        ("US", MOBILE, ("+44 7700 900123", "011 44 7700 900123", "+011 44 7700 900123", "011447700900123")),
        ("DE", BERLIN, ("+49 (0)30 23125000", BERLIN, "+49030 23125000", "0049 030 23125000")),
        ("DE", BERLIN, ("++493023125000", "+00493023125000", "(+49) 30 23125000")),
        ("DE", MOBILE, ("0044 7700 900123",)),
        ("AU", MOBILE, ("0011 44 7700 900123",)),
        ("IT", "+390212345678", ("+39 02 1234 5678",)),
        (None, "+390212345678", ("+39 02 1234 5678",)),
        # The trunk prefix may be missing where nothing else can be meant.
        ("DE", "+4917655501234", ("4917655501234",)),
        ("DE", BERLIN, ("493023125000",)),
        ("CN", "+8613812345678", ("13812345678",)),
        ("FR", "+33199001234", ("199001234",)),
        ("AU", "+61491570156", ("491570156",)),
        # What a country has or had dialled between its code and a number makes no other number.
        ("MX", "+525512345678", ("+52 1 55 1234 5678", "5215512345678", "525512345678", "044 55 1234 5678")),
        ("MX", "+525512345678", ("0455512345678", "01 55 1234 5678")),
        ("US", "+525512345678", ("+5215512345678", "011 52 1 55 1234 5678")),
        ("AR", "+5491123456789", ("011 15 2345 6789", "+54 9 11 2345 6789")),
        ("BR", "+551123456789", ("0 15 11 2345 6789",)),
        ("BR", "+5511987654321", ("+55 0 15 11 98765 4321",)),
        # Wrappings, URIs, invisible characters, odd spaces, dashes and digits do not change it.
        (None, NEW_YORK, ("tel:+1-212-555-0123", "tel:+12125550123;npdi", '="+12125550123"', "'+12125550123")),
        (None, NEW_YORK, ("sip:+12125550123@sbc.example.com", "sip:%2B12125550123@sbc.example.com")),
        (None, NEW_YORK, ("SIPS:+12125550123@sbc.example.com:5061;user=phone", "+12125550123@sbc.example.com")),
        (None, NEW_YORK, ("<sip:+12125550123@sbc.example.com>;tag=1", '"Alice" <+12125550123>')),
        (None, NEW_YORK, ('"+12125550123"', "\u201c+12125550123\u201d", "\t+12125550123")),
        (None, NEW_YORK, ("\ufeff\u202a+1 212\u00a0555\u20110123\u202c", "+1 212\u2013555\u202f0123")),
        (None, NEW_YORK, ("+１２１２５５５０１２３",)),  # noqa: RUF001
        (None, NEW_YORK, ("+\u0661\u0662\u0661\u0662\u0665\u0665\u0665\u0660\u0661\u0662\u0663",)),
        # One that libphonenumber's tables do not know is whole where its form proves it: same as with a plus.
        ("GB", MOBILE, ("07700 900123", "7700900123", "447700900123", MOBILE)),
        ("GB", "+441632960123", ("01632 960123", "+441632960123")),
        ("US", "+19995550123", ("19995550123", "9995550123", "+19995550123")),
        ("DE", "+4912025550111", ("0120 25550111", "+4912025550111")),
        ("FR", "+33199001234", ("0199001234", "+33199001234")),
        ("DE", MOBILE, (MOBILE,)),
        ("DE", "+39669812345", ("+39669812345",)),
        ("DE", "+15555550123", ("+15555550123",)),
        # What shows or withholds one's own number, or chooses the carrier, is no part of the number behind it.
        ("GB", LONDON, ("141+442079460958", "141 020 7946 0958", "147000442079460958", "*31#+442079460958")),
        ("GB", LONDON, ("#31#00442079460958",)),
        ("IE", LONDON, ("14100442079460958",)),
        ("AU", LONDON, ("18310011442079460958", "1832,0011 44 20 7946 0958")),
        ("NZ", LONDON, ("01970044 2079460958",)),
        ("JP", LONDON, ("184 010 442079460958",)),
        ("HK", LONDON, ("133001442079460958",)),
        ("FR", LONDON, ("36510044 2079460958",)),
        ("ES", LONDON, ("067 0044 2079460958",)),
        ("US", LONDON, ("*67011442079460958", "1167011442079460958", "1010288,011442079460958")),
        ("US", LONDON, ("1010288011442079460958#",)),
        ("CA", LONDON, ("*82 +442079460958",)),
        (None, LONDON, ("#31#+442079460958",)),
        ("IT", LONDON, ("*67#00442079460958",)),
        ("DK", LONDON, ("*31*00442079460958",)),
        # Digits that are a whole number with the code are that number, as in Glasgow.
        ("GB", "+441414960123", ("1414960123",)),
        ("US", NEW_YORK, ("*672125550123", "*6712125550123", "*822125550123", "#31#2125550123")),
        ("US", NEW_YORK, ("tel:+12125550123",)),
        # An extension and what is dialled once the call is answered are no part of it; behind a hyphen digits are.
        ("DE", BERLIN, ("030 23125000 x12", "03023125000p123", "03023125000ww123", "03023125000,,123#")),
        ("DE", BERLIN, ("03023125000,,12,,3456#", "03023125000;ext=12", "tel:+49-30-23125000;ext=12")),
        ("DE", BERLIN, ("03023125000 (ext. 12)", "03023125000 Durchwahl 12", "+493023125000,12")),
        ("DE", BERLIN, ("+493023125000,123", "03023125000#", "0049 30 23125000#", "03023125000#12")),
        ("DE", "+4930123456712", ("030 1234567-12",)),
    ],
)
def test_number(country: str | None, e164: str, texts: tuple[str, ...]) -> None:
    """A number as dialled in the country or from it is read with its plan, whatever stands around or in it."""
    assert {text: read(text, country) for text in texts} == dict.fromkeys(texts, NumberReading(e164))


@table(
    ("country", "reason", "texts"),
    [
        ("DE", "missing_number", ("", "  ", "-", '=""', "NULL", "\\N", "n/a")),
        ("DE", "withheld_number", ("Anonymous", "anonymous@anonymous.invalid", "<withheld>", "Private Number")),
        ("DE", "withheld_number", ("No Caller ID", "RESTRICTED", "Unknown", "unavailable", "s", "-1")),
        (
            "DE",
            "withheld_number",
            ("Rufnummer unterdrückt", "numéro masqué", "número oculto", "неизвестный номер"),
        ),
        ("DE", "withheld_number", ("非通知",)),
        ("DE", "masked_number", ("****", "+1212555****", "0301234XXXX", "xxx-xxx-0123", "+1212555...")),
        ("DE", "masked_number", ("+1 212 555 01\u2022\u2022", "REDACTED", "03023125000##")),
        ("DE", "service_code", ("*98", "*9803023125000", "*72+493023125000", "#31#101", "*31#+49")),
        ("DE", "service_code", ("9*31#03023125000",)),
        ("DE", "letters_in_number", ("03023125000abc", "1-800-FLOWERS", "client:alice", "sip:alice@example.com")),
        ("DE", "letters_in_number", ("tel:555;phone-context=+1212", "1001x12")),
        ("DE", "unusable_characters", ("03023125000\u00b9", "030\u246023125000", "1001#", "14,155,550,123")),
        ("DE", "unusable_characters", ("03023125000\n03023125001", "+" + "1" * 600)),
        ("DE", "several_numbers", ("+12125550123 +12125550124", "030 23125000/1", "03023125000 / 03023125001")),
        ("DE", "several_numbers", ("03023125000,03023125001", "03023125000;23125001", "9+493023125000")),
        ("DE", "several_numbers", ("9,03023125000", "9#31#03023125000", "141+493023125000")),
        ("DE", "lost_decimal", ("301234567.0", "301234567,0", "+493023125000.0", "301234567.25", "301234567,25")),
        ("DE", "lost_decimal", ("+493023125000,0", "-1294967296")),
        ("DE", "scientific_notation", ("4.93023E+11", "4,93023E+11", "4.93023125E11")),
        ("DE", "short_number", ("1001", "216", "112", "116117", "+49116117")),
        ("DE", "no_trunk_prefix", ("3023125000", "12025550111", "907700900123", "9912025550111", "9030 23125000")),
        ("DE", "invalid_number", ("00491570156",)),
        ("DE", "keypad_word", ("266696687", "7378742833", "8656696", "+86282452253", "0086282452253")),
        ("DE", "impossible_number", ("+999123456789", "+1 2", "+03023125000", "+48 (0) 512 345 678")),
        ("DE", "impossible_number", ("011442079460958",)),  # the international prefix of another country
        ("DE", "too_many_digits", ("+4930231250001234567", "+1 212 555 01234", "1" * 39)),
        # Without the country, or in another one, the same digits are something else.
        ("US", "short_number", ("911",)),
        ("BY", "impossible_number", ("88898271",)),  # 8 may be a trunk prefix or not
        ("US", "no_area_code", ("5550123", "+15550123", "1167101")),
        ("US", "too_many_digits", ("00442079460958",)),
        ("US", "keypad_word", ("7378742833",)),
        ("GB", "invalid_number", ("00491570156",)),
        ("BR", "invalid_number", ("91123456789",)),  # 11 2345-6789 behind a 9
        ("IT", "invalid_number", ("90669812345",)),  # 06 6981 2345 behind a 9
        ("GB", "too_many_digits", ("912125550142",)),
        ("MX", "too_many_digits", ("15512345678",)),  # +1 551 234 5678, or +52 1 55 1234 5678
        ("GB", "service_code", ("*67077009", "141+44", "14700447700900123")),
        (None, "no_country", ("2125550123", "00447700900123", "+00447700900123")),
        (None, "short_number", ("1001",)),
    ],
)
def test_unusable_text(country: str | None, reason: str, texts: tuple[str, ...]) -> None:
    """What is not plainly one customer's number has no E.164 and a reason of its own."""
    assert {text: read(text, country) for text in texts} == dict.fromkeys(texts, NumberReading("", reason))


@table(
    ("country", "text", "e164"),
    [
        ("IT", "669812345", "+39669812345"),
        ("GB", "979460958", "+44979460958"),
        ("GB", "07700 900", "+447700900"),
        ("AR", "15 2345 6789", "+541523456789"),  # a mobile without its area code
        ("DE", "01205550", "+491205550"),  # perhaps a local number behind a 0
    ],
)
def test_possible_only(country: str, text: str, e164: str) -> None:
    """A number in no known range that may lack digits is kept for calls to numbers that do not exist."""
    assert read(text, country) == NumberReading(e164, "invalid_number")


def reading_of(found: str) -> NumberReading:
    """Return the reading that a table states: a valid number, or a reason."""
    return NumberReading(found) if found.startswith("+") else NumberReading("", found)


@table(
    ("country", "text", "found"),
    [
        ("US", "2079460958", "+2079460958"),  # under a format of national digits +1 207 946 0958
        (None, "447700900123", MOBILE),
        (None, "00447700900123", MOBILE),
        ("US", "00447700900123", MOBILE),
        ("US", "011447700900123", MOBILE),
        ("GB", "07700900123", "impossible_number"),
        ("DE", "000447700900123", "impossible_number"),
        ("DE", "116117", "short_number"),
    ],
)
def test_international_plain_digits(country: str | None, text: str, found: str) -> None:
    """Digits that start with a country code get their plus, ``00`` stands for it, and a trunk zero is refused."""
    assert read(text, country, "international") == reading_of(found)


@table(
    ("country", "prefix", "found", "texts"),
    [
        ("US", "9", NEW_YORK, ("92125550123", "2125550123", "9,12125550123", "9w(212) 555-0123")),
        ("US", "9", NEW_YORK, ("9*672125550123", "sip:912125550123@192.0.2.1")),
        ("US", "9", MOBILE, ("9011447700900123", "9+447700900123")),
        ("US", "9", "+919812345678", ("+919812345678",)),
        ("US", "9", "+19125550123", ("99125550123", "9125550123")),
        ("US", "9", "short_number", ("9911", "9")),
        ("US", "9", "keypad_word", ("9-7378742833",)),
        ("US", "9", "no_area_code", ("95550142",)),
        ("US", "8,9", NEW_YORK, ("82125550123",)),
        ("GB", "9", MOBILE, ("900447700900123", "914107700900123")),
        ("GB", "9,90", MOBILE, ("9007700900123",)),
        ("GB", "0", "+44491570156", ("00491570156",)),
        ("AU", "0", "+61491570156", ("00491570156",)),
        ("DE", "0", BERLIN, ("003023125000",)),
        ("DE", "0", MOBILE, ("000447700900123",)),
        ("DE", "0", "+49491570156", ("00491570156",)),
        ("DE", "0", "+4917635550123", ("0017635550123", "017635550123")),
        ("DE", "0", "no_trunk_prefix", ("05550142",)),
        ("DE", "9", "no_trunk_prefix", ("912025550111", "92025550112")),
    ],
)
def test_outside_prefix(country: str, prefix: str, found: str, texts: tuple[str, ...]) -> None:
    """The digits for an outside line, the longest that fit, go exactly once, and never from a number with plus."""
    found_of = {text: read(text, country, prefix=prefix) for text in texts}
    assert found_of == dict.fromkeys(texts, reading_of(found))


def test_keypad_word() -> None:
    """The digits listed are the words typed on a keypad."""
    for word in ("anonymous", "restricted", "unknown", "private", "blocked", "unavailable"):
        assert read("".join(KEYPAD[letter] for letter in word)).reason == "keypad_word", word


def test_region() -> None:
    """Regions are ISO 3166 in upper case; UK is none."""
    assert [each for each in ("GB", "US", "UK", "gb", "XX", "", "001") if is_region(each)] == ["GB", "US"]


def test_hints() -> None:
    """Every hint about a number or a time is a sentence with room for the column and the value only."""
    for hint in (*REASONS.values(), *times.REASONS.values()):
        assert {name for _, name, _, _ in Formatter().parse(hint) if name} <= {"column", "value"}
        assert hint.endswith(".")


NUMBER_LIKE = st.text(alphabet="0123456789+()/.- xpw*#,;@:'\"=eE\u202a\u00a0\uff11\u0663\u00b2", max_size=24)
DIGITS = st.text(alphabet="0123456789", max_size=20)
TEXTS = st.one_of(st.text(max_size=30), NUMBER_LIKE, DIGITS, DIGITS.map(lambda digits: f"+{digits}"))
RULES = st.builds(
    NumberRules,
    st.sampled_from([None, "DE", "US", "GB", "AU", "IT", "MX", "AR"]),
    st.sampled_from(["national", "international"]),
    st.sampled_from([(), ("0",), ("9",), ("9", "0", "90")]),
)


@given(texts=st.lists(TEXTS), capacity=st.integers(1, 5))
def test_memory_never_changes_a_result(texts: list[str], capacity: int) -> None:
    """A book too small to remember anything reads like one that remembers all."""
    rules = NumberRules("DE")
    small, large = NumberBook(rules, capacity=capacity), NumberBook(rules)
    assert [small.read(text) for text in texts * 2] == [large.read(text) for text in texts * 2]


@given(text=TEXTS, rules=RULES)
@example("008656696", NumberRules("DE"))
@example("0080012345678", NumberRules("DE"))
def test_any_text_has_a_number_or_a_reason(text: str, rules: NumberRules) -> None:
    """Whatever a cell holds, the reading is an E.164 number or a known reason, and valid means no reason."""
    reading = NumberBook(rules).read(text)
    assert reading.reason in REASONS or (reading.reason == "" and reading.e164)
    assert reading.e164 == "" or (E164.fullmatch(reading.e164) and reading.reason in {"", "invalid_number"})


@given(text=TEXTS, rules=RULES)
@example("378800000", NumberRules(None, "international"))
def test_digits_come_from_the_text(text: str, rules: NumberRules) -> None:
    """No digit is made up: all stand in the text, in their order, but for a national number's country code.

    The exception are plans with a rewriting rule of their own, like San Marino's area code 0549.
    """
    e164 = NumberBook(rules).read(text).e164
    if not e164 or _is_rewritten(e164):
        return
    written = "".join(str(int(char)) for char in text if char.isdecimal())
    country_code = str(phonenumbers.country_code_for_region(rules.country)) if rules.country else ""
    assert _is_within(e164[1:], written) or _is_within(e164[1:].removeprefix(country_code), written)


def _is_rewritten(e164: str) -> bool:
    country_code = phonenumbers.parse(e164).country_code or 0
    region = phonenumbers.region_code_for_country_code(country_code)
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return plan is not None and plan.national_prefix_transform_rule is not None


def _is_within(digits: str, written: str) -> bool:
    remaining = iter(written)
    return all(digit in remaining for digit in digits)


@given(text=TEXTS, rules=RULES)
def test_reading_a_number_again_gives_itself(text: str, rules: NumberRules) -> None:
    """An E.164 number read under the same or no country is that number."""
    e164 = NumberBook(rules).read(text).e164
    if e164:
        assert NumberBook(rules).read(e164) == NumberReading(e164)
        assert NumberBook(NumberRules(None)).read(e164) == NumberReading(e164)


@given(
    digits=st.one_of(DIGITS, st.from_regex(r"(0|00|1|011|\+44|\+1)[1-9][0-9]{6,11}", fullmatch=True)),
    country=st.sampled_from(["DE", "US", "GB", "AU", "IT", "MX"]),
    prefix=st.sampled_from(["0", "9", "81"]),
)
def test_what_is_dialled_in_front_changes_nothing(digits: str, country: str, prefix: str) -> None:
    """A number behind an outside prefix, a code or both is what it is without them."""
    reading = NumberBook(NumberRules(country)).read(digits)
    if reading.e164 and not re.match("14(1|70)|183|11|101", digits):  # they hold a code already
        behind_prefix = NumberBook(NumberRules(country, outside_prefix=(prefix,)))
        for text in (f"{prefix}{digits}", f"{prefix},#31#{digits}"):
            assert behind_prefix.read(text) == reading
        assert NumberBook(NumberRules(country)).read(f"#31#{digits}#") == reading


@given(texts=st.lists(TEXTS | st.none(), max_size=20), rules=RULES)
@example(["2125550123", "x", None, "2125550123", ""], NumberRules("US"))
@example([], NumberRules("US"))
@example([None, None], NumberRules("US"))
def test_column_reading_equals_single_reading(texts: list[str | None], rules: NumberRules) -> None:
    """A column on any index, with repeated and missing values or none, reads as its cells do one by one."""
    index = [7, 7, *range(len(texts), 2, -1)][: len(texts)]
    column = NumberBook(rules).read_column(pd.Series(texts, index=index, dtype="str"))
    single = [NumberBook(rules).read(text or "") for text in texts]
    assert list(column.itertuples(index=False, name=None)) == [(r.e164, r.reason) for r in single]
    assert (list(column.index), [str(dtype) for dtype in column.dtypes]) == (index, ["str", "str"])


@st.composite
def numbers_of_plans(draw: st.DrawFn) -> tuple[str, str]:
    """Make a region and digits that are a number of its plan, or nearly one."""
    region = draw(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
    kinds = [phonenumbers.example_number_for_type(region, kind) for kind in phonenumbers.PhoneNumberType.values()]
    number = phonenumbers.national_significant_number(draw(st.sampled_from([kind for kind in kinds if kind])))
    kept = draw(st.integers(0, len(number)))
    ending = draw(st.text("0123456789", min_size=len(number) - kept, max_size=len(number) - kept + 1))
    plan = phonenumbers.PhoneMetadata.metadata_for_region(region)
    assert plan is not None
    before = ["", plan.national_prefix or "", str(plan.country_code), f"00{plan.country_code}"]
    prefix = draw(st.sampled_from(before) | st.text("0123456789", min_size=1, max_size=2))
    return region, prefix + number[:kept] + ending


@given(numbers_of_plans(), st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), st.sampled_from(["00", "011"]))
def test_patterns_of_a_plan(number: tuple[str, str], at: str, exit_digits: str) -> None:
    """A number that the patterns of its plan settle is what libphonenumber's functions make of it."""
    region, digits = number
    code = str(phonenumbers.country_code_for_region(region))
    abroad = exit_digits + code + digits
    assert plans.settled_national(abroad, at) in (None, plans.asked_national(abroad, at))
    assert plans.settled_national(digits, region) in (None, plans.asked_national(digits, region))
    assert plans.settled_international(code + digits) in (None, plans.asked_international(code + digits))


def test_patterns_of_a_plan_settle_most() -> None:
    """The patterns settle a number of each of these plans as it is dialled there, and in international form."""
    for region, digits, e164 in (
        ("US", "2125550101", "+12125550101"),
        ("GB", "02079460101", "+442079460101"),
        ("DE", "030901820", "+4930901820"),
        ("FR", "0170555010", "+33170555010"),
        ("AU", "0491570156", "+61491570156"),
    ):
        reading = NumberReading(e164)
        assert plans.settled_national(digits, region) == reading, digits
        assert plans.settled_international(e164[1:]) == reading, e164
        assert plans.settled_national("00" + e164[1:], "IT") == reading, e164
