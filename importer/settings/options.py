"""Every option of a run as one frozen value."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from importer.settings import values
from importer.settings.naming import APPLICATION, ENVIRONMENT_PREFIX, option_of
from importer.settings.policies import (
    CancelledUnknown,
    NamePattern,
    OurSide,
    OutsidePrefix,
    PolicyChoices,
    Seconds,
    Voicemail,
    choices_by_format,
)
from importer.settings.values import ErrorLimit
from schemas.vocabulary import State


def _default_ledger() -> Path:
    return platformdirs.user_state_path(APPLICATION, appauthor=False) / "ledger.sqlite"


_Text = Annotated[str, AfterValidator(values.not_blank)]
_Location = Annotated[Path, AfterValidator(values.usable_path)]
_Number = BeforeValidator(values.not_bool)
_Moment = Annotated[str, AfterValidator(values.moment_text)]
_BaseUrl = Annotated[str, AfterValidator(values.base_url)]


class Settings(BaseSettings):
    """Every option of a run, checked; what each means stands in the README's table of options.

    Constructed directly it reads neither environment nor file; `load_settings` does. ``rate`` is ``N/second``,
    ``N/minute`` or ``N/hour``; ``max_runtime`` and ``max_age`` are in seconds; ``since`` and ``until`` are as
    written, for `parse_moment`; ``accounts_url`` and ``api_url`` are bases without a slash at the end, None for
    those of ``data_center`` in `DATA_CENTERS`. The policies (`PolicyChoices`) are what this run was told, None for
    nothing; ``policies`` is what the TOML file says of them, by format and for `EVERY_FORMAT`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX)

    format: _Text | None = None
    timezone: Annotated[str, AfterValidator(values.known_zone)] | None = None
    country: Annotated[str, AfterValidator(values.known_region)] | None = None
    agents: _Location | None = None
    default_agent_number: _Text | None = Field(default=None, repr=False)
    default_zohouser: _Text | None = None
    site: Annotated[str, AfterValidator(values.site_name)] = ""
    since: _Moment | None = None
    until: _Moment | None = None
    cancelled_ring_seconds: Seconds | None = None
    cancelled_unknown: CancelledUnknown | None = None
    voicemail: Voicemail | None = None
    our_side: OurSide | None = None
    outside_prefix: OutsidePrefix | None = None
    extensions: NamePattern | None = None
    trunks: NamePattern | None = None
    policies: Annotated[Mapping[str, PolicyChoices], BeforeValidator(choices_by_format)] = Field(
        default_factory=dict
    )
    states: Annotated[frozenset[State], NoDecode, BeforeValidator(values.states_of)] = frozenset(State)
    rate: Annotated[str, AfterValidator(values.rate_text)] = "60/minute"
    batch_size: Annotated[int, _Number, Field(ge=1, le=10_000)] = 50
    workers: Annotated[int, _Number, Field(ge=1, le=64)] = 1
    limit: Annotated[int, _Number, Field(ge=1)] | None = None
    on_uncertain: Literal["hold", "resend"] = "hold"
    retry_refused: bool = False
    max_errors: Annotated[ErrorLimit, NoDecode, BeforeValidator(values.error_limit)] = ErrorLimit(20, None)
    max_uncertain: Annotated[int, _Number, Field(ge=1)] = 3
    max_runtime: Annotated[float, BeforeValidator(values.duration_seconds)] | None = None
    min_rows: Annotated[int, _Number, Field(ge=1)] | None = None
    max_age: Annotated[float, BeforeValidator(values.duration_seconds)] | None = None
    encoding: Annotated[str, AfterValidator(values.encoding_name)] | None = None
    delimiter: Annotated[str, AfterValidator(values.delimiter_character)] | None = None
    date_order: Literal["day-month", "month-day"] | None = None
    sheet: _Text | None = None
    ledger: _Location = Field(default_factory=_default_ledger)
    results: _Location | None = None
    rejects: _Location | None = None
    all_rows: bool = False
    sandbox: bool = False
    init_ledger: bool = False
    yes: bool = False
    accounts_url: _BaseUrl | None = None
    api_url: _BaseUrl | None = None
    proxy: Annotated[str, AfterValidator(values.proxy_url)] | None = Field(default=None, repr=False)
    ca_bundle: _Location | None = None
    data_center: Annotated[str, BeforeValidator(values.lower_word), AfterValidator(values.known_center)] = "us"
    log: _Location | None = None
    metrics: _Location | None = None
    ping_url: Annotated[str, AfterValidator(values.ping_url)] | None = Field(default=None, repr=False)
    quiet: bool = False
    verbose: bool = False
    json_output: bool = False

    def in_force(self) -> dict[str, object]:
        """Return the options as in a TOML file, defaults included, without what may hold a secret or a number."""
        hidden = {name for name, field in type(self).model_fields.items() if not field.repr}
        kept = self.model_dump(mode="json", exclude=hidden, exclude_none=True)
        kept["states"] = sorted(kept["states"])
        limit = self.max_errors
        kept["max_errors"] = f"{limit.percent:g}%" if limit.count is None else limit.count
        return {option_of(name): value for name, value in kept.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave only what is passed in: the process's own environment is never read unasked."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


OPTIONS = tuple(option_of(name) for name in Settings.model_fields if name != "policies")
"""Every option's name, as on the command line without ``--`` and in the TOML file."""
