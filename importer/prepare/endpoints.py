"""The names at the ends of calls: which are telephones and which trunks, as all rows of a file prove it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from importer.formats.language import EndpointRule
from importer.reading.conditions import Conditions
from schemas.vocabulary import Role

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
                proving = coded.values[coded.among(conditions.hold(rule.when))]
                self.names[number].update(name for name in proving.tolist() if name)

    def join(self, other: "Endpoints") -> None:
        """Take the rows into account that another one has taken."""
        self.counting |= other.counting
        for number, names in other.names.items():
            self.names[number] |= names

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
