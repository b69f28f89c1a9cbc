"""Tests for schemas.call: what pandera makes of numbers, starts and calls, and the reason that it gives."""

import numpy as np
import pandas as pd

from schemas.call import call_schema, customer_schema, judged, start_schema
from schemas.numbers import NumberBook, NumberRules
from schemas.times import TimeRules, read_times

CALL = {
    "customer_number": "+442079460123",
    "start_time": 1_700_000_000,
    "agent_number": "+442079460100",
    "zohouser": "",
    "voiceuri": "",
    "state": "busy",
    "call_id": "1700000000x1",
}


def test_customer_number():
    """A number becomes E.164, a sent one first; the reason stands for one that cannot be used."""
    book = NumberBook(NumberRules(country="GB"))
    rows = pd.DataFrame(
        [
            ("020 7946 0123", "", False),
            ("9020 7946 0123", "02079460123", False),
            ("101", "", False),
            ("0207946", "", True),
            ("", "", False),
        ],
        columns=["customer_number", "sent", "is_invalid"],
    ).astype({"customer_number": "str", "sent": "str"})
    read = customer_schema(book, book).validate(rows)["customer_number"].tolist()
    assert read == ["+442079460123", "+442079460123", "short_number", "impossible_number", "missing_number"]


def test_start():
    """A start becomes GMT; a row whose start cannot be read breaks the schema by its reason."""
    rules = TimeRules(("%Y-%m-%d %H:%M:%S",), "Europe/London")
    texts = pd.Series(["2024-07-01 12:00:00", "soon", ""], dtype="str").to_frame("start")
    read, faults = judged(texts, start_schema(lambda starts: read_times(starts, rules)))
    assert read["utc"].tolist() == [pd.Timestamp("2024-07-01 11:00:00"), pd.NaT, pd.NaT]
    assert faults.to_dict() == {1: "unreadable_time", 2: "missing_time"}


def test_call():
    """A call is judged by its columns in their order: the first at fault gives the reason."""
    calls = pd.DataFrame(
        [
            CALL,
            CALL | {"customer_number": "short_number", "agent_number": ""},
            CALL | {"start_time": 1_700_000_601, "zohouser": "a b"},
            CALL | {"agent_number": "", "voiceuri": "ftp://example.com/1"},
            CALL | {"zohouser": "a b"},
            CALL | {"voiceuri": "ftp://example.com/1"},
        ]
    )
    made, faults = judged(calls, call_schema(latest=np.datetime64(1_700_000_600, "s")))
    assert made["start_time"][0] == pd.Timestamp("2023-11-14 22:13:20")
    reasons = ["short_number", "future_time", "no_agent_number", "invalid_zohouser", "invalid_voiceuri"]
    assert faults.sort_index().tolist() == reasons
