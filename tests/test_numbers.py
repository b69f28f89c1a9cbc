import re
from string import Formatter

import pandas as pd
import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import table
from schemas import plans
from schemas.numbers import REASONS, NumberBook, NumberReading, NumberRules, PlainDigits, is_region

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
KEYPAD = {
    letter: digit
    for digit, letters in enumerate(("abc", "def", "ghi", "jkl", "mno", "pqrs", "tuv", "wxyz"), 2)
    for letter in letters
}


def read(text: str, country: str | None = "DE", **rules: str) -> NumberReading:
    """Read one text with a new book."""
    plain_digits = PlainDigits(rules.get("plain_digits", "national"))
    prefixes = tuple(filter(None, rules.get("outside_prefix", "").split(",")))
    return NumberBook(NumberRules(country, plain_digits, prefixes)).read(text)


@table(
    ("country", "text", "e164"),
    [
        # A number as dialled inside the country is read with that country's plan.
        ("US", "2125550123", "+12125550123"),
        ("US", "(212) 555-0123", "+12125550123"),
        ("US", "212.555.0100", "+12125550100"),
        ("US", "1-212-555-0123", "+12125550123"),
        ("US", "4165550123", "+14165550123"),  # Toronto: another region of the same plan
        ("US", "+1 900 555 0100", "+19005550100"),
        ("GB", "020 7946 0958", "+442079460958"),
        ("AU", "0491 570 156", "+61491570156"),
        ("DE", "030 23125000", "+493023125000"),
        ("DE", "030/23125000", "+493023125000"),
        ("IT", "02 1234 5678", "+390212345678"),
        ("FO", "201234", "+298201234"),  # the islands' own numbers have six digits
        # A number with plus, or with the region's own international prefix, is read and keeps an Italian zero.
        (None, "+44 7700 900123", "+447700900123"),
        ("US", "+44 7700 900123", "+447700900123"),
        ("DE", "+49 (0)30 23125000", "+493023125000"),
        ("DE", "+493023125000", "+493023125000"),
        ("DE", "+49030 23125000", "+493023125000"),
        ("DE", "0049 030 23125000", "+493023125000"),
        ("DE", "++493023125000", "+493023125000"),
        ("DE", "+00493023125000", "+493023125000"),
        ("DE", "(+49) 30 23125000", "+493023125000"),
        ("DE", "0044 7700 900123", "+447700900123"),
        ("US", "011 44 7700 900123", "+447700900123"),
        ("US", "+011 44 7700 900123", "+447700900123"),
        ("AU", "0011 44 7700 900123", "+447700900123"),
        ("IT", "+39 02 1234 5678", "+390212345678"),
        (None, "+39 02 1234 5678", "+390212345678"),
        # The trunk prefix may be missing where nothing else can be meant.
        ("DE", "4917655501234", "+4917655501234"),
        ("DE", "493023125000", "+493023125000"),
        ("CN", "13812345678", "+8613812345678"),
        ("FR", "199001234", "+33199001234"),
        ("AU", "491570156", "+61491570156"),
        # What a country has or had dialled between its code and a number makes no other number.
        ("MX", "+52 1 55 1234 5678", "+525512345678"),
        ("US", "+5215512345678", "+525512345678"),
        ("US", "011 52 1 55 1234 5678", "+525512345678"),
        ("MX", "5215512345678", "+525512345678"),
        ("MX", "525512345678", "+525512345678"),
        ("MX", "044 55 1234 5678", "+525512345678"),
        ("MX", "0455512345678", "+525512345678"),
        ("MX", "01 55 1234 5678", "+525512345678"),
        ("AR", "011 15 2345 6789", "+5491123456789"),
        ("AR", "+54 9 11 2345 6789", "+5491123456789"),
        ("BR", "0 15 11 2345 6789", "+551123456789"),
        ("BR", "+55 0 15 11 98765 4321", "+5511987654321"),
    ],
)
def test_number(country: str | None, text: str, e164: str) -> None:
    """A number as dialled in the country or from it is read with its plan, whatever stands in between."""
    assert read(text, country) == NumberReading(e164, "", True)


@table(
    "text",
    [
        "tel:+1-212-555-0123",
        "tel:+12125550123;npdi",
        "sip:+12125550123@sbc.example.com",
        "SIPS:+12125550123@sbc.example.com:5061;user=phone",
        "sip:%2B12125550123@sbc.example.com",
        "+12125550123@sbc.example.com",
        "<sip:+12125550123@sbc.example.com>;tag=1",
        '"Alice" <+12125550123>',
        '="+12125550123"',
        "'+12125550123",
        '"+12125550123"',
        "\u201c+12125550123\u201d",
        "\t+12125550123",
        "\ufeff\u202a+1 212\u00a0555\u20110123\u202c",
        "+1 212\u2013555\u202f0123",
        "+１２１２５５５０１２３",  # noqa: RUF001
        "+\u0661\u0662\u0661\u0662\u0665\u0665\u0665\u0660\u0661\u0662\u0663",
    ],
)
def test_spelling(text: str) -> None:
    """Wrappings, URIs, invisible characters, odd spaces, dashes and digits do not change the number."""
    assert read(text, None) == NumberReading("+12125550123", "", True)


@table(
    ("reason", "texts"),
    [
        ("missing_number", ("", "  ", "-", '=""', "NULL", "\\N", "n/a")),
        ("withheld_number", ("Anonymous", "anonymous@anonymous.invalid", "<withheld>", "Private Number")),
        ("withheld_number", ("No Caller ID", "RESTRICTED", "Unknown", "unavailable", "Rufnummer unterdrückt")),
        ("withheld_number", ("numéro masqué", "número oculto", "неизвестный номер", "非通知", "s", "-1")),
        ("masked_number", ("****", "+1212555****", "0301234XXXX", "xxx-xxx-0123", "+1212555...")),
        ("masked_number", ("+1 212 555 01\u2022\u2022", "REDACTED", "03023125000##")),
        ("service_code", ("*98", "*9803023125000", "*72+493023125000", "#31#101", "*31#+49")),
        ("service_code", ("9*31#03023125000",)),
        ("letters_in_number", ("03023125000abc", "1-800-FLOWERS", "client:alice", "sip:alice@example.com")),
        ("letters_in_number", ("tel:555;phone-context=+1212", "1001x12")),
        ("unusable_characters", ("03023125000\u00b9", "030\u246023125000", "1001#", "14,155,550,123")),
        ("unusable_characters", ("03023125000\n03023125001", "+" + "1" * 600)),
        ("several_numbers", ("+12125550123 +12125550124", "030 23125000/1", "03023125000 / 03023125001")),
        ("several_numbers", ("03023125000,03023125001", "03023125000;23125001", "9+493023125000")),
        ("several_numbers", ("9,03023125000", "9#31#03023125000", "141+493023125000")),
        ("lost_decimal", ("301234567.0", "301234567,0", "+493023125000.0", "301234567.25", "301234567,25")),
        ("lost_decimal", ("+493023125000,0", "-1294967296")),
        ("scientific_notation", ("4.93023E+11", "4,93023E+11", "4.93023125E11")),
        ("short_number", ("1001", "216", "112", "116117", "+49116117")),
        ("no_trunk_prefix", ("3023125000", "12025550111", "907700900123", "9912025550111", "9030 23125000")),
        ("invalid_number", ("00491570156",)),
        ("keypad_word", ("266696687", "7378742833", "8656696", "+86282452253", "0086282452253")),
        ("impossible_number", ("+999123456789", "+1 2", "+03023125000", "+48 (0) 512 345 678")),
        ("too_many_digits", ("+4930231250001234567", "+1 212 555 01234", "1" * 39)),
        ("impossible_number", ("011442079460958",)),  # the international prefix of another country
    ],
)
def test_unusable_text(reason: str, texts: tuple[str, ...]) -> None:
    """What is not plainly one customer's number has no E.164 and a reason of its own."""
    assert {text: read(text) for text in texts} == dict.fromkeys(texts, NumberReading("", reason, False))


@table(
    ("country", "text", "reason"),
    [
        ("US", "911", "short_number"),
        ("BY", "88898271", "impossible_number"),  # 8 may be a trunk prefix or not
        ("US", "5550123", "no_area_code"),
        ("US", "+15550123", "no_area_code"),
        ("US", "00442079460958", "too_many_digits"),
        ("US", "7378742833", "keypad_word"),
        ("GB", "00491570156", "invalid_number"),
        ("BR", "91123456789", "invalid_number"),  # 11 2345-6789 behind a 9
        ("IT", "90669812345", "invalid_number"),  # 06 6981 2345 behind a 9
        ("GB", "912125550142", "too_many_digits"),
        ("MX", "15512345678", "too_many_digits"),  # +1 551 234 5678, or +52 1 55 1234 5678
        ("US", "1167101", "no_area_code"),
        ("GB", "*67077009", "service_code"),
        ("GB", "141+44", "service_code"),
        ("GB", "14700447700900123", "service_code"),
        (None, "2125550123", "no_country"),
        (None, "00447700900123", "no_country"),
        (None, "+00447700900123", "no_country"),
        (None, "1001", "short_number"),
    ],
)
def test_unusable_in_country(country: str | None, text: str, reason: str) -> None:
    """Without the country, or in another one, the same digits are something else."""
    assert read(text, country) == NumberReading("", reason, False)


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
    assert read(text, country) == NumberReading(e164, "invalid_number", False)


@table(
    ("country", "text", "e164"),
    [
        ("GB", "07700 900123", "+447700900123"),
        ("GB", "01632 960123", "+441632960123"),
        ("GB", "7700900123", "+447700900123"),
        ("GB", "447700900123", "+447700900123"),
        ("US", "19995550123", "+19995550123"),
        ("US", "9995550123", "+19995550123"),
        ("US", "011447700900123", "+447700900123"),
        ("DE", "0120 25550111", "+4912025550111"),
        ("DE", "0044 7700 900123", "+447700900123"),
        ("FR", "0199001234", "+33199001234"),
    ],
)
def test_number_in_no_known_range(country: str, text: str, e164: str) -> None:
    """A number that libphonenumber's tables do not know is whole where its form proves it: same as with a plus."""
    assert read(text, country) == read(e164, country) == NumberReading(e164, "", True)


@table(
    ("country", "text"),
    [
        ("GB", "141+442079460958"),
        ("GB", "141 020 7946 0958"),
        ("GB", "147000442079460958"),
        ("GB", "*31#+442079460958"),
        ("GB", "#31#00442079460958"),
        ("IE", "14100442079460958"),
        ("AU", "18310011442079460958"),
        ("AU", "1832,0011 44 20 7946 0958"),
        ("NZ", "01970044 2079460958"),
        ("JP", "184 010 442079460958"),
        ("HK", "133001442079460958"),
        ("FR", "36510044 2079460958"),
        ("ES", "067 0044 2079460958"),
        ("US", "*67011442079460958"),
        ("CA", "*82 +442079460958"),
        ("US", "1167011442079460958"),
        ("US", "1010288,011442079460958"),
        ("US", "1010288011442079460958#"),
        (None, "#31#+442079460958"),
        ("IT", "*67#00442079460958"),
        ("DK", "*31*00442079460958"),
    ],
)
def test_code_before_a_number(country: str | None, text: str) -> None:
    """What shows or withholds one's own number, or chooses the carrier, is no part of the number behind it."""
    assert read(text, country) == NumberReading("+442079460958", "", True)


@table(
    ("country", "text", "e164"),
    [
        ("GB", "1414960123", "+441414960123"),  # Glasgow
        ("US", "*672125550142", "+12125550142"),
        ("US", "*6712125550142", "+12125550142"),
        ("US", "*822125550144", "+12125550144"),
        ("US", "#31#2125550145", "+12125550145"),
        ("US", "tel:+12125550143", "+12125550143"),
    ],
)
def test_code_or_number(country: str, text: str, e164: str) -> None:
    """Digits that are a whole number with the code are that number."""
    assert read(text, country).e164 == e164


@table(
    "text",
    [
        "030 23125000 x12",
        "03023125000p123",
        "03023125000ww123",
        "03023125000,,123#",
        "03023125000,,12,,3456#",
        "03023125000;ext=12",
        "tel:+49-30-23125000;ext=12",
        "03023125000 (ext. 12)",
        "03023125000 Durchwahl 12",
        "+493023125000,12",
        "+493023125000,123",
        "03023125000#",
        "0049 30 23125000#",
        "03023125000#12",
    ],
)
def test_further_dialling(text: str) -> None:
    """An extension and what is dialled once the call is answered are no part of the customer's number."""
    assert read(text) == NumberReading("+493023125000", "", True)


def test_direct_dialling_number() -> None:
    """Behind a hyphen are digits of the number itself, as Germans write a direct line."""
    assert read("030 1234567-12") == NumberReading("+4930123456712", "", True)


@table("text", ["+447700900123", "+39669812345", "+15555550123"])
def test_international_need_only_be_possible(text: str) -> None:
    """An international number that libphonenumber's tables do not know is not lost to them."""
    assert read(text, "DE") == NumberReading(text, "", True)


@table(("plain_digits", "e164"), [("national", "+12079460958"), ("international", "+2079460958")])
def test_plain_digits_follow_the_format(plain_digits: str, e164: str) -> None:
    """The same digits are another number under another statement of the format: there is nothing to guess from."""
    assert read("2079460958", "US", plain_digits=plain_digits) == NumberReading(e164, "", True)


@table(
    ("country", "text", "reading"),
    [
        (None, "447700900123", NumberReading("+447700900123", "", True)),
        (None, "00447700900123", NumberReading("+447700900123", "", True)),
        ("US", "00447700900123", NumberReading("+447700900123", "", True)),
        ("US", "011447700900123", NumberReading("+447700900123", "", True)),
        ("GB", "07700900123", NumberReading("", "impossible_number", False)),
        ("DE", "000447700900123", NumberReading("", "impossible_number", False)),
        ("DE", "116117", NumberReading("", "short_number", False)),
    ],
)
def test_international_plain_digits(country: str | None, text: str, reading: NumberReading) -> None:
    """Digits that start with a country code get their plus, ``00`` stands for it, and a trunk zero is refused."""
    assert read(text, country, plain_digits="international") == reading


@table(
    ("country", "prefix", "text", "reading"),
    [
        ("US", "9", "92125550123", NumberReading("+12125550123", "", True)),
        ("US", "9", "9011447700900123", NumberReading("+447700900123", "", True)),
        ("US", "9", "2125550123", NumberReading("+12125550123", "", True)),
        ("US", "9", "+919812345678", NumberReading("+919812345678", "", True)),
        ("US", "9", "9911", NumberReading("", "short_number", False)),
        ("US", "9", "9", NumberReading("", "short_number", False)),
        ("US", "9", "9-7378742833", NumberReading("", "keypad_word", False)),
        ("DE", "0", "003023125000", NumberReading("+493023125000", "", True)),
        ("DE", "0", "000447700900123", NumberReading("+447700900123", "", True)),
        ("US", "9", "99125550123", NumberReading("+19125550123", "", True)),
        ("US", "9", "9125550123", NumberReading("+19125550123", "", True)),
        ("US", "9", "9+447700900123", NumberReading("+447700900123", "", True)),
        ("US", "9", "9,12125550142", NumberReading("+12125550142", "", True)),
        ("US", "9", "9w(212) 555-0142", NumberReading("+12125550142", "", True)),
        ("US", "9", "9*672125550142", NumberReading("+12125550142", "", True)),
        ("US", "9", "sip:912125550142@192.0.2.1", NumberReading("+12125550142", "", True)),
        ("US", "9", "95550142", NumberReading("", "no_area_code", False)),
        ("US", "8,9", "82125550142", NumberReading("+12125550142", "", True)),
        ("GB", "9", "900447700900123", NumberReading("+447700900123", "", True)),
        ("GB", "9", "914107700900123", NumberReading("+447700900123", "", True)),
        ("GB", "9,90", "9007700900123", NumberReading("+447700900123", "", True)),
        ("GB", "0", "00491570156", NumberReading("+44491570156", "", True)),
        ("AU", "0", "00491570156", NumberReading("+61491570156", "", True)),
        ("DE", "0", "00491570156", NumberReading("+49491570156", "", True)),
        ("DE", "0", "0017635550123", NumberReading("+4917635550123", "", True)),
        ("DE", "0", "017635550123", NumberReading("+4917635550123", "", True)),
        ("DE", "0", "05550142", NumberReading("", "no_trunk_prefix", False)),
        ("DE", "9", "912025550111", NumberReading("", "no_trunk_prefix", False)),
        ("DE", "9", "92025550112", NumberReading("", "no_trunk_prefix", False)),
    ],
)
def test_outside_prefix(country: str, prefix: str, text: str, reading: NumberReading) -> None:
    """The digits for an outside line, the longest that fit, go exactly once, and never from a number with plus."""
    assert read(text, country, outside_prefix=prefix) == reading


@table("word", ["anonymous", "restricted", "unknown", "private", "blocked", "unavailable"])
def test_keypad_word(word: str) -> None:
    """The digits listed are the words typed on a keypad."""
    assert read("".join(str(KEYPAD[letter]) for letter in word)).reason == "keypad_word"


@table(
    ("country", "known"),
    [("GB", True), ("US", True), ("UK", False), ("gb", False), ("XX", False), ("", False), ("001", False)],
)
def test_region(country: str, known: bool) -> None:
    """Regions are ISO 3166 in upper case; UK is none."""
    assert is_region(country) is known


@table(("country", "prefix"), [("UK", ""), ("", ""), ("GB", "9,"), ("GB", "+")])
def test_rules_refuse(country: str, prefix: str) -> None:
    """Rules that would silently reject or change every row cannot be made."""
    with pytest.raises(ValueError):
        NumberRules(country, outside_prefix=(prefix,) if prefix else ())


def test_hints() -> None:
    """Every hint is a sentence with room for the column and the value only."""
    for hint in REASONS.values():
        assert {name for _, name, _, _ in Formatter().parse(hint) if name} <= {"column", "value"}
        assert hint.endswith(".")


def test_column_equals_single_readings() -> None:
    """A column with repeated and missing values on any index reads like its cells one by one."""
    texts = pd.Series(["2125550123", "x", None, "2125550123", ""], index=[7, 7, 3, 1, 0], dtype="str")
    book = NumberBook(NumberRules("US"))
    expected = [book.read("" if pd.isna(text) else text) for text in texts]
    column = book.read_column(texts)
    assert list(column.itertuples(index=False, name=None)) == [(r.e164, r.reason, r.valid) for r in expected]
    assert list(column.index) == [7, 7, 3, 1, 0]
    assert [str(dtype) for dtype in column.dtypes] == ["str", "str", "bool"]


@table("texts", [[], [None, None]])
def test_column_without_text(texts: list[None]) -> None:
    """A column of no rows or of missing values keeps its shape and types."""
    column = NumberBook(NumberRules("US")).read_column(pd.Series(texts, dtype="str"))
    assert column["reason"].tolist() == ["missing_number"] * len(texts)
    assert [str(dtype) for dtype in column.dtypes] == ["str", "str", "bool"]


NUMBER_LIKE = st.text(alphabet="0123456789+()/.- xpw*#,;@:'\"=eE\u202a\u00a0\uff11\u0663\u00b2", max_size=24)
DIGITS = st.text(alphabet="0123456789", max_size=20)
TEXTS = st.one_of(st.text(max_size=30), NUMBER_LIKE, DIGITS, DIGITS.map(lambda digits: f"+{digits}"))
RULES = st.builds(
    NumberRules,
    st.sampled_from([None, "DE", "US", "GB", "AU", "IT", "MX", "AR"]),
    st.sampled_from(PlainDigits),
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
    assert reading.valid == (reading.reason == "")
    assert reading.e164 == "" or (E164.fullmatch(reading.e164) and reading.reason in {"", "invalid_number"})


@given(text=TEXTS, rules=RULES)
@example("378800000", NumberRules(None, PlainDigits.INTERNATIONAL))
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
        assert NumberBook(rules).read(e164) == NumberReading(e164, "", True)
        assert NumberBook(NumberRules(None)).read(e164) == NumberReading(e164, "", True)


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


@given(texts=st.lists(TEXTS, max_size=20), rules=RULES)
def test_column_reading_equals_single_reading(texts: list[str], rules: NumberRules) -> None:
    """Reading a column at once gives what reading its cells gives."""
    column = NumberBook(rules).read_column(pd.Series(texts, dtype="str"))
    single = [NumberBook(rules).read(text) for text in texts]
    assert list(column.itertuples(index=False, name=None)) == [(r.e164, r.reason, r.valid) for r in single]


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


@given(numbers_of_plans())
def test_patterns_of_a_plan(number: tuple[str, str]) -> None:
    """A number that the patterns of its plan settle is what libphonenumber's functions make of it."""
    region, digits = number
    code = str(phonenumbers.country_code_for_region(region))
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
        reading = NumberReading(e164, "", True)
        assert plans.settled_national(digits, region) == reading, digits
        assert plans.settled_international(e164[1:]) == reading, e164
