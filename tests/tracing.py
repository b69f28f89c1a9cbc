"""Where everything that would be posted stands in the text of its row, read by other means than the program's."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product
from zoneinfo import ZoneInfo

import phonenumbers

from importer.formats.cells import Quotes
from importer.formats.dates import DateOrder
from importer.formats.detected import Detection
from importer.formats.sample import spilled
from importer.prepare.plan import PreparePlan
from importer.records import Call
from schemas.zones import is_zone

SEPARATORS = str.maketrans("", "", " ()./-\u00a0")
SHORTEST_RUN = 6
DIALLED_FIRST = ("", "00", "011", "0011")


def cells_of(detection: Detection, record: str) -> list[str]:
    """Return the cells of a record."""
    if spans := detection.dialect.spans:
        return [record[first - 1 : last].strip() for first, last in spans]
    if detection.dialect.quotes is Quotes.BARE:
        mark = re.escape(detection.dialect.delimiter)
        found = re.findall(rf'(?:^|{mark})(?:"(.*?)"(?={mark}|$)|([^{mark}]*))', record.strip("\r\n"), re.DOTALL)
        return [quoted or plain for quoted, plain in found]
    quoting = csv.QUOTE_NONE if detection.dialect.quotes is Quotes.NONE else csv.QUOTE_MINIMAL
    skip = detection.format.file.skip_initial_space
    source = io.StringIO(record, newline="")
    reader = csv.reader(source, delimiter=detection.dialect.delimiter, quoting=quoting, skipinitialspace=skip)
    return [cell.strip() for cell in spilled(next(reader), detection.field_count, detection.spill)]


def record_of(detection: Detection, cells: list[str]) -> str:
    """Return the record of these cells, written as the file is."""
    if spans := detection.dialect.spans:
        line = ""
        for (first, last), cell in zip(spans, cells, strict=True):
            line = line.ljust(first - 1) + cell[: last - first + 1]
        return line + "\n"
    if detection.dialect.quotes is Quotes.NONE:
        return detection.dialect.delimiter.join(cells) + "\n"
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=detection.dialect.delimiter, lineterminator="\n").writerow(cells)
    return target.getvalue()


def untraced(call: Call, cells: list[str], detection: Detection, plan: PreparePlan) -> list[str]:
    """Return the fields of a call that do not stand in the cells of its row, the agents file or the options.

    The start is left out: it may be that of another row.
    """
    listed = plan.agents.by_key.values()
    faults = {
        "customer_number": not has_number(call.customer_number, cells, detection, plan),
        "agent_number": call.agent_number not in {plan.agents.default_number, *(agent.number for agent in listed)}
        and not has_number(call.agent_number, cells, detection, plan),
        "source_id": not _has_id(call.source_id, cells, detection),
        "call_id": call.call_id != call.source_id and not re.fullmatch(r"[0-9a-f]{32}", call.call_id),
        "zohouser": bool(call.zohouser) and call.zohouser not in {*cells, *(agent.zohouser for agent in listed)},
        "voiceuri": not any(call.voiceuri in cell for cell in cells),
    }
    return [name for name, is_fault in faults.items() if is_fault]


def has_number(number: str, cells: list[str], detection: Detection, plan: PreparePlan) -> bool:
    """Say whether a cell holds a number: whole, or its national part where cell or option give the country."""
    digits = number.removeprefix("+")
    code = phonenumbers.country_code_for_region(plan.country) if plan.country else 0
    in_front = {"", str(code) if code else "", *cells}
    spellings = [text for cell in cells for text in (cell, cell.translate(SEPARATORS))]
    for run in (run for text in spellings for run in re.findall(r"\d+", text)):
        national = run.lstrip("0")
        if len(national) >= SHORTEST_RUN and digits.endswith(national) and digits[: -len(national)] in in_front:
            return True
        if any(
            run.endswith(form) and run[: -len(form)] in DIALLED_FIRST for form in {digits, *_with_trunk(number)}
        ):
            return True
    return False


def _with_trunk(number: str) -> Iterator[str]:
    """Yield a number's digits with the trunk prefix that people write behind the country code: +44 (0)20 ..."""
    parsed = phonenumbers.parse(number)
    national = phonenumbers.national_significant_number(parsed)
    for region in phonenumbers.region_codes_for_country_code(parsed.country_code):
        prefix = phonenumbers.ndd_prefix_for_region(region, True)
        if prefix:
            yield f"{parsed.country_code}{prefix}{national}"


def _has_id(source_id: str, cells: list[str], detection: Detection) -> bool:
    return any(source_id in cell for cell in cells) or source_id in ids(cells, detection)


def ids(cells: list[str], detection: Detection) -> set[str]:
    """Return every id of its call that a row may have."""
    columns = [[texts(detection, name, cells) for name in names] for names in detection.format.call.id]
    return {".".join(parts) for each in columns for parts in product(*each)} - {""}


def joins(cells: list[str], detection: Detection) -> set[str]:
    """Return every text by which a row may join the call of another row."""
    return {text for name in detection.format.call.joins for text in texts(detection, name, cells)} - {""}


def texts(detection: Detection, name: str, cells: list[str]) -> list[str]:
    """Return what a column of the format may be in these cells: a cell, or what is taken out of one."""
    if name not in detection.format.derived:
        place = detection.positions.get(name, len(cells))
        return [cells[place]] if place < len(cells) else [""]
    found = []
    for source in detection.format.derived[name]:
        for text in texts(detection, source.column, cells):
            taken = re.search(source.extract, text) if source.extract else None
            found.append(text if source.extract is None else taken[1] if taken else "")
    return found


def starts(cells: list[str], detection: Detection, plan: PreparePlan) -> set[str]:
    """Return the moments, as GMT on the wire, that the time columns of a row may mean in the zones that count."""
    spec = detection.format.time
    zones = texts(detection, spec.zone_column, cells) if spec.zone_column else []
    if not any(zones):
        zones = [spec.zone if is_zone(spec.zone) else plan.timezone or spec.zone_default or ""]
    if spec.zone == "value":
        zones = [plan.timezone or ""]
    found = set()
    for parts in product(*(texts(detection, name, cells) for name in spec.columns)):
        for moment in _read(" ".join(filter(None, parts)), detection):
            found.update(_instants(moment, [zone for zone in zones if zone and is_zone(zone)]))
    return found


def _instants(moment: datetime, zones: list[str]) -> Iterator[str]:
    aware = [moment] if moment.tzinfo else []
    aware += [moment.replace(tzinfo=ZoneInfo(zone), fold=fold) for zone in zones for fold in (0, 1) if not aware]
    yield from (each.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") for each in aware)


def _read(text: str, detection: Detection) -> Iterator[datetime]:
    for layout in (*detection.format.time.formats, "iso8601", *_rewritten_layouts(detection)):
        try:
            if layout == "iso8601":
                yield datetime.fromisoformat(re.sub(r"([.,]\d{1,6})\d*", r"\1", text).replace(",", "."))
            elif layout == "rfc2822":
                yield parsedate_to_datetime(text)
            elif layout in {"epoch", "epoch_ms"}:
                yield datetime.fromtimestamp(int(float(text)) // (1 if layout == "epoch" else 1000), UTC)
            else:
                yield datetime.strptime(text, layout)
        except (ValueError, IndexError, OverflowError):
            continue


def _rewritten_layouts(detection: Detection) -> list[str]:
    if detection.rewriting is None:
        return []
    days = {DateOrder.DAY_MONTH: ("%d/%m/%y", "%d/%m/%Y"), DateOrder.MONTH_DAY: ("%m/%d/%y", "%m/%d/%Y")}
    times = ("%I:%M %p", "%H:%M", "%H:%M:%S", "%I:%M:%S %p")
    return [f"{day} {time}" for day in days[detection.rewriting[0]] for time in times]
