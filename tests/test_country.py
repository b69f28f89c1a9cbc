"""The country of national numbers, held against what the export and the agents show."""

from pathlib import Path
from typing import Any

import pytest

from conftest import table
from importer.errors import ConfigurationError
from importer.prepare import AgentBook
from samples import OWN, Result, prepared_in

AMERICAN = [f"212555014{number}" for number in range(8)]
BRITISH = [f"07700 90017{number}" for number in range(8)]
WRITTEN = [f"+1212555014{number}" for number in range(3)]


def read(folder: Path, texts: list[str], **changes: Any) -> Result:
    """Prepare calls to these numbers."""
    rows = [f"a{place},101,{text},busy,3,2026-03-02 14:00:07" for place, text in enumerate(texts)]
    plan = {"timezone": "UTC", "agents": AgentBook(default_number="+12125550101"), **changes}
    return prepared_in(OWN, "\n".join(["Id,Agent,Dialled,Result,Rung,Started", *rows, ""]), folder, **plan)


@table(
    ("texts", "country", "said"),
    [
        (AMERICAN, "GB", "8 of 8 are numbers there, 8 in US; none has the 0 that is dialled there"),
        (AMERICAN, "DE", "0 of 8 are numbers there, 8 in US"),
        ([*AMERICAN[:3], *WRITTEN], "IN", "3 of them stand in the file with the code of US too"),
    ],
)
def test_numbers_of_another_country(tmp_path: Path, texts: list[str], country: str, said: str) -> None:
    """National numbers that are another country's stop the run, with what speaks for which country."""
    with pytest.raises(ConfigurationError, match=f"speak against --country {country}: .*{said}") as caught:
        read(tmp_path, texts, country=country)
    assert "US is likely" in str(caught.value.hint)


@table(
    ("texts", "changes"),
    [
        (AMERICAN, {"country": "CA"}),  # one plan
        (AMERICAN, {"country": "GB", "trust_country": True}),
        # Nothing else is American.
        (AMERICAN, {"country": "GB", "agents": AgentBook(default_number="+447700900101")}),
        (AMERICAN[:2], {"country": "GB"}),  # too few to prove anything
        (BRITISH, {"country": "GB"}),  # agents abroad
        ([*BRITISH, *(f"0{number}" for number in range(1_000_000, 1_000_020))], {"country": "GB"}),
        ([*BRITISH, *WRITTEN], {"country": "GB", "timezone": "America/New_York"}),
    ],
)
def test_numbers_that_prove_nothing(tmp_path: Path, texts: list[str], changes: dict[str, Any]) -> None:
    """Faulty numbers, agents and customers abroad, and few numbers do not stop a run."""
    assert read(tmp_path, texts, **changes).rows == len(texts)
