"""Exports to be measured on, the same bytes for the same arguments."""

import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Berlin")
YEAR_BEGINS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
YEAR_SECONDS = 366 * 86_400
DISTINCT_NUMBERS = 50_000
ODD = ("anonymous", "Anonymous", "unknown", "", "s", "112", "110", "116117", "*98", "Restricted")
FORMS = (
    *((5, f"01{net}#######") for net in (51, 60, 70, 71, 75, 76, 77, 78)),
    *((5.6, f"{area}#######") for area in ("030", "040", "089", "0221", "069")),
    *((2.5, f"+{prefix}####") for prefix in (4420794, 3314278, 1212555, 4314055)),
    *((2.4, f"00{prefix}#####") for prefix in (4420794, 3314278, 1212736, 41446, 390669)),
    *((1.7, f"{prefix}######") for prefix in (49301, 4917112, 4420794)),
    *((2, "(0###) ###-####"), (1, "sip:user#####@pbx.example.com"), (2, "#####")),
)
"""Weight and form of the numbers: two thirds national, the others international in four ways, damaged or short."""


def write_master(path: Path, rows: int) -> Path:
    """Write a Master.csv of 18 columns as a German site has it: a year of calls, 48 % of them outgoing."""
    rng = random.Random(1)
    weights, forms = zip(*FORMS, strict=True)
    numbers = [
        "".join(rng.choice("0123456789") if letter == "#" else letter for letter in form)
        for form in rng.choices(forms, weights, k=DISTINCT_NUMBERS)
    ]
    shares = list(accumulate((rank + 10) ** -0.75 for rank in range(DISTINCT_NUMBERS)))
    extensions = [str(number) for number in (*range(200, 220), *range(1000, 1200))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        for row in range(rows):
            own, other = rng.choices(extensions, k=2)
            far = rng.choice(ODD) if rng.random() < 0.01 else rng.choices(numbers, cum_weights=shares)[0]
            kind, second = rng.random(), YEAR_BEGINS + YEAR_SECONDS * row // rows
            state = rng.choices(("ANSWERED", "NO ANSWER", "BUSY", "FAILED", "CONGESTION"), (62, 22, 8, 6, 2))[0]
            ring, talk = rng.randrange(1, 30), rng.randrange(1, 600) if state == "ANSWERED" else 0
            source, target = (far, own) if kind < 0.3 else (own, far if kind < 0.78 else other)
            context, trunk = ("from-trunk", 0) if kind < 0.3 else ("from-internal", 1 if kind < 0.78 else 2)
            ends = ("trunk" if trunk == 0 else own, (own, "trunk", other)[trunk])
            start, end = _local(second), _local(second + ring + talk)
            answer = _local(second + ring) if talk else ""
            stream.write(
                f'"","{source}","{target}","{context}","""{source}"" <{source}>","PJSIP/{ends[0]}-{2 * row:08x}",'
                f'"PJSIP/{ends[1]}-{2 * row + 1:08x}","Dial","PJSIP/{target}@trunk,60,tT",'
                f'"{start}","{answer}","{end}",{ring + talk},{talk},"{state}","DOCUMENTATION",'
                f'"{second}.1{row}",""\n'
            )
    return path


def _local(second: int) -> str:
    return f"{datetime.fromtimestamp(second, ZONE):%Y-%m-%d %H:%M:%S}"


def write_calls(path: Path, count: int, first_id: int, customer: str) -> Path:
    """Write a Master.csv of so many unanswered outgoing calls to one customer, 20 seconds apart."""
    with path.open("w", newline="") as stream:
        for number in range(count):
            start = f"{datetime(2025, 1, 6, 13, tzinfo=UTC) + timedelta(seconds=20 * number):%Y-%m-%d %H:%M:%S}"
            agent = 101 + number % 200
            stream.write(
                f'"","{agent}","{customer}","from-internal","""User"" <{agent}>","PJSIP/{agent}-{number:08x}",'
                f'"PJSIP/trunk-{number + 1:08x}","Dial","PJSIP/{customer}@trunk,30","{start}","","{start}",32,0,'
                f'"BUSY","DOCUMENTATION","{first_id + number}.1",""\n'
            )
    return path
