"""Which policies are in force for a format: by this run, the configuration, the format or the contract."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

from importer.errors import ConfigurationError
from importer.formats import CdrFormat
from importer.settings import EVERY_FORMAT, POLICIES, PolicyChoices
from schemas.vocabulary import Verdict

Choice = int | str | tuple[str, ...]

DEFAULTS = PolicyChoices(
    cancelled_ring_seconds=10,
    cancelled_unknown="noanswer",
    voicemail="noanswer",
    our_side="skip",
    outside_prefix=(),
    extensions="",
    trunks="",
)
"""Those of the contract."""


@dataclass(frozen=True, slots=True)
class Policies:
    """What is in force for one format; each verdict is what such a row counts as.

    A call that the agent gave up counts as ``noanswer`` when it rang at least ``cancelled_ring_seconds``, as
    ``cancelled_unknown`` when nobody can tell; CANCELLED and OUR_SIDE are skipped. ``outside_prefix`` is no
    verdict: it is what is taken off numbers. ``extensions`` and ``trunks`` are patterns of names, "" for none.
    """

    cancelled_ring_seconds: int = 10
    cancelled_unknown: Verdict = Verdict.NOANSWER
    voicemail: Verdict = Verdict.NOANSWER
    our_side: Verdict = Verdict.OUR_SIDE
    outside_prefix: tuple[str, ...] = ()
    extensions: str = ""
    trunks: str = ""


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """Every choice that was made: for this run, and in the configuration by format (`EVERY_FORMAT` for all)."""

    run: PolicyChoices = field(default_factory=PolicyChoices)
    configured: Mapping[str, PolicyChoices] = field(default_factory=dict)

    def of(self, cdr_format: CdrFormat) -> Policies:
        """Return what is in force for a format."""
        chosen = {name: value for name, (value, _) in self.sources(cdr_format).items()}
        skipped = {"cancelled_unknown": Verdict.CANCELLED, "our_side": Verdict.OUR_SIDE}
        unknown, voicemail, our_side = (
            skipped[name] if chosen[name] == "skip" else Verdict(str(chosen[name]))
            for name in ("cancelled_unknown", "voicemail", "our_side")
        )
        return Policies(
            cast(int, chosen["cancelled_ring_seconds"]),
            unknown,
            voicemail,
            our_side,
            cast(tuple[str, ...], chosen["outside_prefix"]),
            str(chosen["extensions"]),
            str(chosen["trunks"]),
        )

    def sources(self, cdr_format: CdrFormat) -> dict[str, tuple[Choice, str]]:
        """Return for each policy what is in force for a format and who says so, the most particular first."""
        nothing = PolicyChoices()
        prefixes = cdr_format.numbers.outside_prefix or None
        of_format = cdr_format.policies.model_copy(update={"outside_prefix": prefixes})
        said = (
            ("this run", self.run),
            (f"configuration, [policies.{cdr_format.name}]", self.configured.get(cdr_format.name, nothing)),
            ("the format", of_format),
            ("configuration", self.configured.get(EVERY_FORMAT, nothing)),
            ("default", DEFAULTS),
        )
        return {
            name: next((value, who) for who, choices in said if (value := getattr(choices, name)) is not None)
            for name in POLICIES
        }

    def require_known(self, names: Collection[str]) -> None:
        """Raise ConfigurationError where the configuration speaks of a format that is not there."""
        unknown = sorted(self.configured.keys() - {*names, EVERY_FORMAT})
        if unknown:
            raise ConfigurationError(
                f"configuration: [policies.{unknown[0]}]: there is no format of this name",
                hint="`cdr-importer formats` lists them; put a format of your own into its folder, or take the "
                "table out.",
            )
