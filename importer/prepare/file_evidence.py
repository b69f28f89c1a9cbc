"""What the rows of one file show beyond themselves, when all of them are read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from importer.prepare.country import CountryEvidence
from importer.prepare.endpoints import Endpoints
from importer.prepare.gaps import Gaps
from importer.prepare.zones import ZoneEvidence
from schemas.vocabulary import Role


@dataclass(slots=True)
class FileEvidence:
    """The evidence of a file or of a part of it; that of later parts can be joined to it.

    ``endpoints`` are the names at both ends of calls; ``first_roles`` has the roles with which the first rows of
    each part were decided. ``is_led``: other rows decide for some of them; ``leads``: some decide for others, if
    they are in the index (``indexes_leads``). ``keeps_zeros``: an id ends in 0, so that none lost one. ``read``
    counts rows, ``skipped`` those that no result row names.
    """

    zone: ZoneEvidence | None
    country: CountryEvidence
    gaps: Gaps | None
    endpoints: Endpoints
    first_roles: list[Mapping[str, Role]]
    is_led: bool
    leads: bool
    indexes_leads: bool
    keeps_zeros: bool
    read: int
    skipped: Counter[str]

    def join(self, later: "FileEvidence") -> None:
        """Add the evidence of the part that follows."""
        if self.zone is not None:
            self.zone.join(later.zone)
        self.country.join(later.country)
        if self.gaps is not None:
            self.gaps.join(later.gaps)
        self.endpoints.join(later.endpoints)
        self.first_roles += later.first_roles
        self.is_led |= later.is_led
        self.leads |= later.leads
        self.indexes_leads &= later.indexes_leads
        self.keeps_zeros |= later.keeps_zeros
        self.read += later.read
        self.skipped += later.skipped

    def must_repeat(self) -> bool:
        """Say whether the file has to be read again, now that all its rows are evidence."""
        roles = self.endpoints.roles()
        is_late = any(first != roles for first in self.first_roles)
        return is_late or (self.is_led and self.leads and not self.indexes_leads)
