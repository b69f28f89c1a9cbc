"""Evidence that only the rows of a file together give, above all of which country its national numbers are.

Ten digits may be a number in many countries: an American export reads as British with hardly a fault, and each
number would be wrong. So the numbers of a file are held against --country, and read for the countries that
something else speaks for, too: the agents' numbers, the time zone, and the numbers that the export writes with +.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from importer.errors import ConfigurationError
from importer.formats.language import EndpointRule
from importer.prepare.plan import Gaps, Rules
from importer.prepare.zones import ZoneEvidence
from importer.reading.conditions import Conditions
from schemas.numbers import NumberBook
from schemas.plans import NumberRules, main_region, region_of, trunk_prefix
from schemas.vocabulary import Role
from schemas.zones import country_of

MOST_TEXTS = 1_000
"""So many numbers of each kind are kept: more prove nothing else."""

LEAST_TEXTS, LEAST_PAIRS, MOST_WRITTEN = 5, 3, 3
NEARLY_ALL, FEW = 0.9, 0.6


def require_country(evidence: "FileEvidence", rules: Rules, name: str) -> None:
    """Raise ConfigurationError where the numbers of the file ``name`` speak for another country than --country.

    They do where some of them stand in the file with that country's code too, or where nearly all are numbers
    there and either few are in the country given, or agents and time zone speak for the other country alone and
    none of the numbers has the prefix that the country given dials.
    """
    plan, texts = rules.plan, [*evidence.national]
    is_national = rules.format.numbers.plain_digits == "national"
    if plan.country is None or plan.trust_country or not is_national or len(texts) < LEAST_PAIRS:
        return
    written = {*_numbers(evidence.international, NumberBook(NumberRules(None)))}
    agents = {agent.number for agent in plan.agents.by_key.values()} | {plan.agents.default_number}
    at_home = [home for home, _ in Counter(map(region_of, agents - {""})).most_common(1)]
    at_home += [main_region(found) for found in filter(None, [country_of(plan.timezone or "")])]
    given, prefix = main_region(plan.country), missing_trunk_prefix(plan.country, texts)
    here = [number for number in evidence.national.values() if number]
    own, own_pairs = len(here), len(written.intersection(here))
    is_likely = not prefix and own > FEW * len(texts)
    if own_pairs and is_likely:
        return  # whatever else speaks for another country; the numbers need not be read as of it
    # Where it is likely only pairs can speak against it, and digits alone end as the number that they are.
    endings = {number[-4:] for number in written}
    near = [text for text in texts if text[-4:] in endings or not re.fullmatch("[0-9]+", text)]
    often = [found for found, _ in Counter(map(region_of, written)).most_common(MOST_WRITTEN)]
    for country in dict.fromkeys([*at_home, *often]):
        book = NumberBook(replace(rules.numbers.rules, country=country))
        if country in {given, ""} or (is_likely and len(written & {*_numbers(near, book)}) < LEAST_PAIRS):
            continue
        there = _numbers(texts, book)
        theirs, pairs = len(there), len(written.intersection(there))
        are_theirs = len(texts) >= LEAST_TEXTS and theirs >= NEARLY_ALL * len(texts)
        reasons = [f"{own} of {len(texts)} are numbers there, {theirs} in {country}"]
        if pairs >= LEAST_PAIRS and not own_pairs:
            reasons.append(f"{pairs} of them stand in the file with the code of {country} too")
        elif are_theirs and prefix and country in at_home and given not in at_home:
            reasons.append(f"none has the {prefix} that is dialled there; agents or time zone are of {country}")
        elif not are_theirs or own > FEW * len(texts):
            continue
        raise ConfigurationError(
            f"{name}: its national numbers speak against --country {plan.country}: {'; '.join(reasons)}",
            hint=f"Correct --country: {country} is likely. If it is right all the same, add --trust-country. "
            "Nothing was sent.",
            reason="country",
        )


def _numbers(texts: Iterable[str], book: NumberBook) -> list[str]:
    return [reading.e164 for reading in map(book.read, texts) if not reading.reason]


def missing_trunk_prefix(country: str, texts: Iterable[str], outside: str = "") -> str:
    """Return what is dialled in a country before national numbers if none has it, behind ``outside``; else ""."""
    prefix = trunk_prefix(country) or ""
    return "" if any(text.lstrip(" (").startswith(outside + prefix) for text in texts) else prefix


SHOWN_NAMES = 12


@dataclass(slots=True)
class Endpoints:
    """Collects, chunk by chunk in any order, the names whose role the rows of one file prove.

    ``names`` holds the names of each rule by its number, ``counting`` those whose ``where_any`` has held.
    """

    rules: tuple[EndpointRule, ...]
    names: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    counting: set[int] = field(default_factory=set)

    def add(self, conditions: Conditions) -> None:
        """Take the rows of a chunk into account."""
        for number, rule in enumerate(self.rules):
            if number not in self.counting and conditions.hold(rule.where_any).any():
                self.counting.add(number)
            coded = conditions.column(rule.of)
            proofs = (Role.TELEPHONE, Role.TRUNK) if rule.value is Role.UNPROVED else ()  # they outrank it
            known = self._named(rule.value, *proofs) | {""}
            if not known.issuperset(coded.values.tolist()):
                proving = coded.values.take(pd.unique(coded.codes[conditions.hold(rule.when)]))
                self.names[number].update(name for name in proving.tolist() if name)

    def roles(self) -> dict[str, Role]:
        """Return the role of each name that is proved, or `unproved` where it is only in doubt.

        A telephone that is a trunk too, or shows what no telephone would, is contradicted.
        """
        telephones, trunks = self._named(Role.TELEPHONE), self._named(Role.TRUNK)
        return {
            **dict.fromkeys(self._named(Role.UNPROVED), Role.UNPROVED),
            **dict.fromkeys(telephones, Role.TELEPHONE),
            **dict.fromkeys(trunks, Role.TRUNK),
            **dict.fromkeys(telephones & (trunks | self._named(Role.CONTRADICTED)), Role.CONTRADICTED),
        }

    def _named(self, *roles: Role) -> set[str]:
        found = (self.names[number] for number in self.counting if self.rules[number].value in roles)
        return set().union(*found)


def shown_roles(roles: Mapping[str, Role]) -> list[str]:
    """Return what names of a file are proved to be, as lines for a person."""
    parts = {}
    for role, title in _TITLES.items():
        names = sorted(name for name, found in roles.items() if found is role)
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        parts[role] = f"{title}: {', '.join(names[:SHOWN_NAMES])}{more}" if names else ""
    proved = filter(None, (parts.pop(Role.TRUNK), parts.pop(Role.TELEPHONE)))
    return [line for line in ("; ".join(proved), *parts.values()) if line]


_TITLES = {
    Role.TRUNK: "trunks",
    Role.TELEPHONE: "telephones",
    Role.CONTRADICTED: "both, so their rows are rejected (say which with --extensions or --trunks)",
    Role.UNPROVED: "neither proved, so their calls over a trunk are rejected (--extensions, --trunks)",
}


@dataclass(slots=True)
class FileEvidence:
    """The evidence of a file or of a part of it; that of later parts can be joined to it.

    ``endpoints`` are the names at both ends of calls; ``national`` and ``international`` customers' numbers as
    dialled, without + and with it, each with the E.164 number that it is, "" where it is none; ``first_roles`` has
    the roles with which the first rows of each part were decided. ``is_led``: other rows decide for some of
    them; ``leads``: some decide for others, if they are in the index (``indexes_leads``). ``keeps_zeros``: an id
    ends in 0, so that none lost one; ``filled`` are the columns of ids that are not empty throughout. ``read``
    counts rows, ``skipped`` those that no result row names.
    """

    zone: ZoneEvidence | None
    gaps: Gaps | None
    endpoints: Endpoints
    national: dict[str, str] = field(default_factory=dict)
    international: dict[str, str] = field(default_factory=dict)
    first_roles: list[Mapping[str, Role]] = field(default_factory=list)
    is_led: bool = False
    leads: bool = False
    indexes_leads: bool = False
    keeps_zeros: bool = False
    filled: frozenset[str] = frozenset()
    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def join(self, later: "FileEvidence") -> None:
        """Add the evidence of the part that follows."""
        if self.zone is not None:
            self.zone.join(later.zone)
        kinds = (self.national, later.national), (self.international, later.international)
        for kind, more in kinds:
            kind.update([pair for pair in more.items() if pair[0] not in kind][: MOST_TEXTS - len(kind)])
        if self.gaps is not None:
            self.gaps.join(later.gaps)
        self.endpoints.counting |= later.endpoints.counting
        for number, names in later.endpoints.names.items():
            self.endpoints.names[number] |= names
        self.first_roles += later.first_roles
        self.is_led |= later.is_led
        self.leads |= later.leads
        self.indexes_leads &= later.indexes_leads
        self.keeps_zeros |= later.keeps_zeros
        self.filled |= later.filled
        self.read += later.read
        self.skipped += later.skipped

    def must_repeat(self) -> bool:
        """Return whether the file has to be read again, now that all its rows are evidence."""
        roles = self.endpoints.roles()
        is_late = any(first != roles for first in self.first_roles)
        return is_late or (self.is_led and self.leads and not self.indexes_leads)
