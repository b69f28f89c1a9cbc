"""What one export of a site shows of its set-up, with the evidence; nothing is guessed, and nothing is sent."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from importer.errors import InputUnusableError
from importer.formats.catalogue import load_catalogue
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.pipeline.run import gmt_text
from importer.prepare import file_evidence
from importer.prepare.agents import AgentBook, AgentLine
from importer.prepare.groups import NO_START
from importer.prepare.plan import PreparePlan
from importer.prepare.preparation import Preparation, prepare_part
from importer.prepare.rows import STATE_OF
from importer.prepare.zones import ZoneEvidence, shown_evidence, zones_that_fit
from importer.settings.options import Settings
from schemas.numbers import NumberBook
from schemas.plans import NumberReading, NumberRules, main_region, region_of
from schemas.vocabulary import Outcome, Role, counted, lasting
from schemas.zones import country_of

_PREFIXES = ("", "9", "0", "8", "1")
"""Digits that are usual for a line to the outside; none comes first."""
MOST_TEXTS, MOST_ZONES = 200, 8


@dataclass(frozen=True, slots=True)
class Seen:
    """What an export shows: the agents that it names, the first start (GMT text), and values of options.

    ``proved`` has the values that it proves, ``evidence`` for a person what speaks for one, or why none is proved.
    """

    proved: Mapping[str, str]
    evidence: Mapping[str, str]
    agents: tuple[AgentLine, ...]
    first: str


def seen_in(export: Path, settings: Settings) -> Seen:
    """Read an export and return what it shows; raises InputUnusableError and the like as `detect` does."""
    catalogue = load_catalogue()
    found = detect(export, catalogue.candidates(settings.format), settings, catalogue.lookalikes)
    if found is None:
        raise InputUnusableError(f"{export} is a results file of this program", hint="Name an export.")
    plan = PreparePlan(AgentBook(), int(time.time()))
    with Preparation(catalogue.causes, plan) as preparation:
        zone, fitting = _zone(found, preparation.evidence(found).zone)
    likely = [settings.timezone] if settings.timezone else fitting
    plan = replace(plan, timezone=likely[0] if likely else "UTC")  # any that fits will do to count days
    part = prepare_part(catalogue.causes, plan, found)
    roles = part.evidence.endpoints.roles()
    if part.evidence.must_repeat():
        part = prepare_part(catalogue.causes, plan, found, roles)
    if settings.timezone is None:
        part.evidence.zone = None  # a stand-in is held against nothing
    with Preparation(catalogue.causes, plan) as preparation:
        preparation.take(found, str(export), [part], roles)
        rows = (row for batch in preparation.results() for row in batch if row.state)
        # Without agents file and country most are rejected.
        calls = sum(getattr(row, "outcome", Outcome.REJECTED) is Outcome.REJECTED for row in rows)
    of_state = part.index[np.isin(part.index["rank"], list(STATE_OF))]
    starts = of_state["start"][of_state["start"] != NO_START]
    days, took = len(np.unique(starts // 86_400)), settings.rate.seconds_for(calls, is_burst=settings.burst)
    missed = f"{counted(calls, 'unattended call')} of {counted(days, 'day')}, those rejected included"
    country, prefix = _country(found, part.evidence, likely)
    proposals = {
        "format": (found.format.name, f"{counted(part.evidence.read, 'row')} of {found.format.title}"),
        "timezone": zone,
        "country": country,
        "outside-prefix": prefix,
        "extensions": ("", "; ".join((*file_evidence.shown_roles(roles), "written only where no file proves it"))),
        "rate": (f"{settings.rate}", f"{missed}: sending all takes {lasting(took)} at {settings.rate}"),
    }
    book = NumberBook(NumberRules(settings.country or country[0] or None))
    agents = [*filter(None, dict.fromkeys(_agent_line(text, roles, book) for text in part.agents))]
    # A row may say less of an agent than another, which has all that it has and more.
    cells = [{each for each in enumerate(astuple(agent)) if each[1]} for agent in agents]
    whole = [agent for agent, own in zip(agents, cells, strict=True) if not any(own < other for other in cells)]
    proved = {option: value for option, (value, _) in proposals.items() if value}
    evidence = {option: text for option, (_, text) in proposals.items()}
    return Seen(proved, evidence, (*whole,), gmt_text(starts.min()) if len(starts) else "")


def _zone(found: Detection, evidence: ZoneEvidence | None) -> tuple[tuple[str, str], list[str]]:
    """Propose a zone where the ids prove its clock on both sides of a change; return all that fit too."""
    if not found.needs_timezone():
        return ("", "not needed: the times are UTC or carry their offset from GMT"), []
    if evidence is None:
        return ("", "nothing in the file tells: write whose clock the telephone system has"), []
    proved, ids = evidence.proved(), "; ".join(shown_evidence(evidence))
    fitting = zones_that_fit(proved)
    if len({offset for _, offset in proved}) == 1 and len(fitting) > 1:
        return ("", f"{ids}. No change of the clock is among them, so say yourself which"), fitting
    return (next(iter(fitting), ""), ids), fitting


def _country(
    found: Detection, evidence: file_evidence.FileEvidence, zones: Sequence[str]
) -> tuple[tuple[str, str], tuple[str, str]]:
    """Propose the one region of which nearly all national numbers are, and what is dialled in front of them."""
    plain = found.format.numbers.plain_digits
    texts = [*evidence.national][:MOST_TEXTS] if plain == "national" else []
    anywhere = NumberBook(NumberRules(None))
    written = Counter(region_of(anywhere.read(text).e164) for text in evidence.international)
    regions = [country_of(zone) for zone in zones[:MOST_ZONES]]
    if len({*regions}) > 1:  # the zone is not proved: of each plan the main region, which is no island of it
        regions = [main_region(region) if region else None for region in regions]
    regions += [region for region, _ in written.most_common(file_evidence.MOST_WRITTEN)]
    tried: dict[tuple[str, str], list[NumberReading]] = {}
    for country in filter(None, regions):
        for prefix in _PREFIXES:
            book = NumberBook(NumberRules(country, plain, (prefix,) if prefix else ()))
            tried[country, prefix] = [book.read(text) for text in texts]
    if not texts or not tried:
        return ("", "no national number, or nothing that says of which country"), ("", "")
    counts = {key: sum(not reading.reason for reading in readings) for key, readings in tried.items()}
    # A few numbers may be some behind any digit.
    counts = {
        (region, front): many
        for (region, front), many in counts.items()
        if not front or many >= counts[region, ""] + file_evidence.LEAST_TEXTS
    }
    enough = max(file_evidence.LEAST_TEXTS, file_evidence.NEARLY_ALL * len(texts))
    best = next((key for key, many in counts.items() if many >= enough), max(counts, key=counts.__getitem__))
    country, prefix = best
    rest = Counter(reading.reason for reading in tried[best] if reading.reason).most_common(3)
    valid = [(region, many) for (region, front), many in counts.items() if front == prefix]
    shares = ", ".join(f"{many} of {len(texts)} in {region}" for region, many in valid)
    text = f"valid national numbers: {shares}"
    text += f"; the rest in {country}: {', '.join(f'{many} {reason}' for reason, many in rest)}" if rest else ""
    rivals = {main_region(region) for (region, _), many in counts.items() if many >= enough}
    # An American export reads as British with hardly a fault.
    lacks_zero = file_evidence.missing_trunk_prefix(country, texts, prefix) == "0"
    text += f"; none has the 0 that is dialled in {country}" if lacks_zero else ""
    is_proved = len(rivals) == 1 and not lacks_zero
    plain_count = f"of {len(texts)}, {counts[country, '']} are numbers in {country} as they stand"
    front = f"{plain_count}, {counts[best]} behind a {prefix}" if prefix else ""
    return (country * is_proved, text), (prefix * is_proved, front)


def _agent_line(texts: str, roles: Mapping[str, Role], numbers: NumberBook) -> AgentLine | None:
    """Return the texts by which an export names one agent in the columns of the agents file, None without any."""
    cells = dict.fromkeys(("extension", "number", "zohouser", "email", "name"), "")
    for text in texts.split("\x1f"):
        number = numbers.read(text)
        other = "extension" if text.isdigit() else "name"
        kind = "email" if "@" in text else other if number.reason else "number"
        if roles.get(text) is not Role.TRUNK:
            cells[kind] = cells[kind] or (number.e164 if kind == "number" else text)
    return AgentLine(**cells) if any(cells.values()) else None
