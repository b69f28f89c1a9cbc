"""Numbers: what a cell's text is as E.164, or why it is none; nothing is made up."""

import re
from string import Formatter

import pandas as pd
import phonenumbers
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import cases, table
from schemas import plans, times
from schemas.numbers import REASONS, NumberBook
from schemas.plans import NumberReading, NumberRules

CASES = cases("numbers")

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
KEYPAD = dict(zip("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999", strict=True))


def read(text: str, country: str | None = "DE", digits: str = "national", prefix: str = "") -> NumberReading:
    """Read one text with a new book."""
    return NumberBook(NumberRules(country or None, digits, (*filter(None, prefix.split(",")),))).read(text)


def reading_of(found: str) -> NumberReading:
    """Return the reading that a table states: a valid number, or a reason."""
    return NumberReading(found) if found.startswith("+") else NumberReading("", found)


@table(("country", "found", "texts"), [*CASES["numbers"], *CASES["unusable"]])
def test_number(country: str | None, found: str, texts: tuple[str, ...]) -> None:
    """A number, whatever stands around or in it, is read with its plan; what is not plainly one has a reason."""
    assert {text: read(text, country) for text in texts} == dict.fromkeys(texts, reading_of(found))


@table(("country", "text", "e164"), CASES["possible"])
def test_possible_only(country: str, text: str, e164: str) -> None:
    """A number in no known range that may lack digits is kept for calls to numbers that do not exist."""
    assert read(text, country) == NumberReading(e164, "invalid_number")


@table(("country", "text", "found"), CASES["plain_digits"])
def test_international_plain_digits(country: str | None, text: str, found: str) -> None:
    """Digits that start with a country code get their plus, ``00`` stands for it, and a trunk zero is refused."""
    assert read(text, country, "international") == reading_of(found)


def test_international_plain_digits_may_lack_their_country_code() -> None:
    """Digits of no known range that are no longer than a local number are taken with plus or prefix only."""
    for text in ("5325550142", "2079460958", "9123456789"):
        assert read(text, None, "international").reason == "invalid_number", text
        assert read(f"+{text}", None, "international") == read(f"00{text}", None, "international")
        assert read(f"+{text}", None, "international").reason == "", text


@table(("country", "prefix", "found", "texts"), CASES["outside_prefix"])
def test_outside_prefix(country: str, prefix: str, found: str, texts: tuple[str, ...]) -> None:
    """The digits for an outside line, the longest that fit, go exactly once, and never from a number with plus."""
    found_of = {text: read(text, country, prefix=prefix) for text in texts}
    assert found_of == dict.fromkeys(texts, reading_of(found))


def test_keypad_word() -> None:
    """The digits listed are the words typed on a keypad."""
    for word in ("anonymous", "restricted", "unknown", "private", "blocked", "unavailable"):
        assert read("".join(KEYPAD[letter] for letter in word)).reason == "keypad_word", word


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
    """No digit is made up: all stand in the text, in their order, but for a national number's country code."""
    e164 = NumberBook(rules).read(text).e164
    if not e164 or _is_rewritten(e164):
        return
    written = "".join(str(int(char)) for char in text if char.isdecimal())
    country_code = str(phonenumbers.country_code_for_region(rules.country)) if rules.country else ""
    assert _is_within(e164[1:], written) or _is_within(e164[1:].removeprefix(country_code), written)


def _is_rewritten(e164: str) -> bool:  # such as San Marino's area code 0549
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
    for region, digits, e164 in CASES["settled"]:
        reading = NumberReading(e164)
        assert plans.settled_national(digits, region) == reading, digits
        assert plans.settled_international(e164[1:]) == reading, e164
        assert plans.settled_national("00" + e164[1:], "IT") == reading, e164
