"""Numbers, starts and calls as pandera normalises and judges them, with the reason of each fault."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.dtypes import DataType
from pandera.engines.pandas_engine import STRING
from pandera.errors import SchemaErrors

from schemas.numbers import NumberBook
from schemas.vocabulary import E164, State

CALL_ID = r"^[A-Za-z0-9]{1,64}$"
VOICEURI = r"(https?://[^\s/$.?#][^\s]*)?"
ZOHOUSER = r"^[A-Za-z0-9_.-]{0,64}$"
DAMAGED_USER = r"[0-9]+\.0+|[0-9]{1,3}(?:\.[0-9]{3}){2,}"
"""What pandas and Excel make of a user id of digits."""

EARLIEST = np.datetime64("2000-12-30T00:00:00", "s")  # 2001 on any clock of the world

_ITSELF = "the value is the reason"


class _Text(STRING):
    """Text of pandas: for `str` itself pandera makes and prints a table of failures, though there are none."""

    def check(self, pandera_dtype: DataType, _data_container: object = None) -> bool:
        return isinstance(pandera_dtype, STRING)


def customer_schema(dialled: NumberBook, sent: NumberBook) -> pa.DataFrameSchema:
    """Return the schema that reads customers' numbers as E.164, or puts the reason in place of an unusable one.

    Columns: ``customer_number`` as it was dialled; ``sent``, the number as the system sent it to the line ("" if
    unknown), which counts where it is usable; ``is_invalid``: of a call to an invalid number it need only be
    possible. `call_schema` judges the result, since only one row of a call counts.
    """

    def read(rows: pd.DataFrame) -> pd.DataFrame:
        found = dialled.read_column(rows["customer_number"])
        is_other = rows["sent"] != ""
        if dialled is sent:
            is_other &= rows["sent"] != rows["customer_number"]
        if is_other.any():
            others = sent.read_column(rows.loc[is_other, "sent"])
            others = others.loc[others["reason"] == ""]
            found.loc[others.index] = others
        usable = (found["reason"] == "") | (rows["is_invalid"] & (found["e164"] != ""))
        return pd.DataFrame({"customer_number": found["e164"].where(usable, found["reason"])})

    return pa.DataFrameSchema({"customer_number": pa.Column(_Text)}, parsers=pa.Parser(read))


def start_schema(read: Callable[[pd.Series], pd.DataFrame]) -> pa.DataFrameSchema:
    """Return the schema of starts: ``read`` turns column ``start``, local text, into columns of `read_times`.

    A row breaks it by its ``reason``; ``utc`` is NaT there.
    """
    reason = pa.Column(_Text, pa.Check(lambda reasons: reasons == "", error=_ITSELF))
    utc = pa.Column("datetime64[s]", nullable=True)
    return pa.DataFrameSchema({"reason": reason, "utc": utc}, parsers=pa.Parser(lambda rows: read(rows["start"])))


def call_schema(*, latest: np.datetime64) -> pa.DataFrameSchema:
    """Return the schema of calls: text columns, and ``start_time`` from epoch seconds (int64) to GMT.

    Numbers are E.164; the words of ``state`` are the API's six
    (https://www.zoho.com/phonebridge/developer/v3/outgoing-unattended.html). A check is named by the reason that
    the results give; where there is no customer's number, the text that stands for it is the reason.
    """
    between = pa.Check.in_range(EARLIEST, latest, error="future_time")
    # Most are empty. Arrow does not know this pattern, and text by text it costs a third of the validation.
    uris = pa.Check(
        lambda texts: texts.isin([text for text in texts.unique() if re.fullmatch(VOICEURI, text)]),
        error="invalid_voiceuri",
    )
    moment = pa.Parser(lambda seconds: seconds.astype("datetime64[s]"))
    return pa.DataFrameSchema(
        {
            "customer_number": pa.Column(_Text, pa.Check.str_matches(E164, error=_ITSELF)),
            "start_time": pa.Column("datetime64[s]", between, parsers=moment, nullable=False),
            "agent_number": pa.Column(_Text, pa.Check.str_matches(E164, error="no_agent_number")),
            "zohouser": pa.Column(
                _Text,
                [
                    pa.Check.str_matches(ZOHOUSER, error="invalid_zohouser"),
                    pa.Check(lambda users: ~users.str.fullmatch(DAMAGED_USER), error="invalid_zohouser"),
                ],
            ),
            "voiceuri": pa.Column(_Text, uris),
            "state": pa.Column(_Text, pa.Check.isin([state.value for state in State])),
            "call_id": pa.Column(_Text, pa.Check.str_matches(CALL_ID)),
        },
        strict="filter",
    )


def judged(rows: pd.DataFrame, schema: pa.DataFrameSchema) -> tuple[pd.DataFrame, pd.Series]:
    """Return rows as the schema normalises them, and the reason (text) of each row that breaks it.

    The first column of the schema that is at fault gives the reason. ``rows`` needs a unique index. The error
    pandera raises holds every value and is never shown.
    """
    try:
        return schema.validate(rows, lazy=True), pd.Series(dtype="str")
    except SchemaErrors as error:
        order = [*schema.columns]
        cells = (error.failure_cases[name].tolist() for name in ("column", "index", "check", "failure_case"))
        reasons: dict[int, str] = {}
        for column, index, check, value in sorted(zip(*cells, strict=True), key=lambda case: order.index(case[0])):
            if index is None or column in ("state", "call_id"):
                raise AssertionError(f"{column}: not what a call is made of") from None
            reasons.setdefault(index, value if check == _ITSELF else check)
        return error.data, pd.Series(reasons, dtype="str")


def numbers_only(customers: pd.Series) -> pd.Series:
    """Return customers' numbers, "" in place of the reasons why there is none."""
    return customers.where(customers.str.startswith("+"), "")
