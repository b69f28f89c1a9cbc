"""The policies: what an operator decides about rows that leave room, for all formats or for one."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from importer.settings.naming import field_of
from importer.settings.values import name_pattern, not_bool, outside_prefixes

EVERY_FORMAT = "*"
"""Among the choices of the TOML file: those that stand outside the tables of single formats."""

Seconds = Annotated[int, BeforeValidator(not_bool), Field(ge=0, le=3600)]
CancelledUnknown = Literal["noanswer", "skip"]
Voicemail = Literal["noanswer", "notavailable", "attended"]
OutsidePrefix = Annotated[tuple[str, ...], NoDecode, BeforeValidator(outside_prefixes)]
NamePattern = Annotated[str, AfterValidator(name_pattern)]
OurSide = Literal["skip", "busy", "invalid", "blocked", "notavailable", "noanswer", "rejected"]


class PolicyChoices(BaseModel):
    """What one source says of the policies; None where it says nothing.

    ``cancelled_ring_seconds``: a call that the agent gave up while it rang counts as ``noanswer`` from so many
    seconds on, else it is skipped. ``cancelled_unknown``: what it counts as where the export does not tell how
    long it rang. ``voicemail``: what a voicemail, machine or fax that the system itself names counts as.
    ``our_side``: what failures on our own side count as. ``outside_prefix``: the digits dialled for a line, which
    the system leaves in front of a number. ``extensions`` and ``trunks``: patterns of the names of our telephones
    and of lines to the outside, over what the file proves; "" for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cancelled_ring_seconds: Seconds | None = None
    cancelled_unknown: CancelledUnknown | None = None
    voicemail: Voicemail | None = None
    our_side: OurSide | None = None
    outside_prefix: OutsidePrefix | None = None
    extensions: NamePattern | None = None
    trunks: NamePattern | None = None


POLICIES = tuple(PolicyChoices.model_fields)


def choices_by_format(value: object) -> object:
    """Return the tables of single formats with their keys as fields: a file may write them with hyphens."""
    if not isinstance(value, dict):
        raise ValueError("must be tables like [policies.asterisk-csv]")
    return {name: _with_fields(choices) for name, choices in value.items()}


def _with_fields(choices: Any) -> Any:
    if not isinstance(choices, dict):
        return choices
    return {field_of(key): each for key, each in choices.items()}
