"""The shape of a call as pandera sees it: the one judge of what may be sent, with the reason where it may not."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from schemas.vocabulary import E164, State

CALL_ID = r"^[A-Za-z0-9]{1,64}$"
VOICEURI = r"^(https?://[^\s/$.?#][^\s]*)?$"
ZOHOUSER = r"^[A-Za-z0-9_.-]{0,64}$"

EARLIEST = np.datetime64("1989-12-30T00:00:00", "s")  # 1990 on any clock of the world

COLUMNS = ("customer_number", "start_time", "agent_number", "zohouser", "voiceuri", "state", "call_id")
"""The columns of a call, in the order in which the first fault of a row is reported."""


def call_schema(*, latest: np.datetime64) -> pa.DataFrameSchema:
    """Return the schema of calls: text columns and ``start_time`` (datetime64[s], GMT).

    Numbers are E.164; the words of ``state`` are the API's six
    (https://www.zoho.com/phonebridge/developer/v3/outgoing-unattended.html). A check is named by the reason that
    the results give; where there is no customer's number, the text that stands for it is the reason.
    """
    between = pa.Check.in_range(EARLIEST, latest, error="future_time")
    return pa.DataFrameSchema(
        {
            "customer_number": pa.Column(str, pa.Check.str_matches(E164)),
            "start_time": pa.Column("datetime64[s]", between, nullable=False),
            "agent_number": pa.Column(str, pa.Check.str_matches(E164, error="no_agent_number")),
            "zohouser": pa.Column(str, pa.Check.str_matches(ZOHOUSER, error="invalid_zohouser")),
            "voiceuri": pa.Column(str, pa.Check.str_matches(VOICEURI, error="invalid_voiceuri")),
            "state": pa.Column(str, pa.Check.isin([state.value for state in State])),
            "call_id": pa.Column(str, pa.Check.str_matches(CALL_ID)),
        },
        strict="filter",
    )


def first_faults(calls: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.Series:
    """Return the reason (text) of each row that breaks the schema: that of its first column in COLUMNS.

    ``calls`` needs a unique index. The error pandera raises holds every value and is never shown.
    """
    try:
        schema.validate(calls[[*COLUMNS]], lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases[["index", "column", "check", "failure_case"]]
        ours = cases["index"].isna() | cases["column"].isin(["state", "call_id"])
        if ours.any():
            raise AssertionError(f"{cases['column'][ours].iloc[0]}: not what a call is made of") from None
        cases = cases.assign(rank=cases["column"].map(COLUMNS.index)).sort_values("rank", kind="stable")
        first = cases.drop_duplicates("index").set_index("index")
        reasons = first["check"].where(first["column"] != "customer_number", first["failure_case"])
        return pd.Series(reasons, dtype="str")
    return pd.Series(dtype="str")


def numbers_only(customers: pd.Series) -> pd.Series:
    """Return customers' numbers, "" where the reason why there is none stands in place of one."""
    return customers.where(customers.str.startswith("+"), "")
