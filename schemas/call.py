"""The shape of a call as pandera sees it: the one judge of what may be sent."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from schemas.vocabulary import E164, State

CALL_ID = r"^[A-Za-z0-9]{1,64}$"
VOICEURI = r"^(https?://[^\s/$.?#][^\s]*)?$"
ZOHOUSER = r"^[A-Za-z0-9_.-]{0,64}$"

EARLIEST = np.datetime64("1989-12-30T00:00:00", "s")  # 1990 on any clock of the world

CHECKED_COLUMNS = ("state", "customer_number", "start_time", "agent_number", "zohouser", "voiceuri", "call_id")
"""The columns of a call, in the order in which the first fault of a row is reported."""


def call_schema(*, latest: np.datetime64) -> pa.DataFrameSchema:
    """Return the schema of calls: text columns and ``start_time`` (datetime64[s], GMT), not after ``latest``.

    Numbers are E.164; the words of ``state`` are the API's six
    (https://www.zoho.com/phonebridge/developer/v3/outgoing-unattended.html).
    """
    return pa.DataFrameSchema(
        {
            "state": pa.Column(str, pa.Check.isin([state.value for state in State])),
            "customer_number": pa.Column(str, pa.Check.str_matches(E164)),
            "start_time": pa.Column("datetime64[s]", [pa.Check.ge(EARLIEST), pa.Check.le(latest)], nullable=False),
            "agent_number": pa.Column(str, pa.Check.str_matches(E164)),
            "zohouser": pa.Column(str, pa.Check.str_matches(ZOHOUSER)),
            "voiceuri": pa.Column(str, pa.Check.str_matches(VOICEURI)),
            "call_id": pa.Column(str, pa.Check.str_matches(CALL_ID)),
        },
        strict="filter",
    )


def first_faults(calls: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.Series:
    """Return for each row the first column (in the order of CHECKED_COLUMNS) that breaks the schema, or "".

    ``calls`` needs a unique index. The error pandera raises holds every value and is never shown.
    """
    faults = pd.Series("", index=calls.index, dtype="str")
    try:
        schema.validate(calls[[*CHECKED_COLUMNS]], lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases[["index", "column"]]
        if cases["index"].isna().any():
            raise AssertionError("the frame itself does not have the shape of calls") from None
        for column in reversed(CHECKED_COLUMNS):
            faults.loc[_rows(cases.loc[cases["column"] == column, "index"])] = column
    return faults


def _rows(index: pd.Series) -> list[int]:
    return index.astype("int64").unique().tolist()
