"""The rules for preparing files, made of the settings: nothing about a zone, a window or an agent is left open."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from importer.errors import ConfigurationError, UsageError
from importer.formats.detected import Detection
from importer.pipeline.run import Run
from importer.prepare.agents import AgentBook, load_agents
from importer.prepare.plan import Gaps, PolicyBook, PreparePlan
from importer.prepare.zones import require_place
from importer.settings.options import EVERY_FORMAT, Settings
from importer.settings.values import parse_moment


def prepare_plan(run: Run, detections: Sequence[Detection]) -> PreparePlan:
    """Return the rules for preparing these files; `--since` and `--until` become moments here.

    Raises ConfigurationError when a file's local times need a zone and none is given, or one without summer time
    that no id could prove: nothing is guessed. Raises UsageError for a window that no call fits.
    """
    settings = run.settings
    for detection in detections:
        require_place(detection, settings.timezone)
        if settings.timezone is None and detection.needs_timezone():
            raise ConfigurationError(
                f"{detection.path}: the times of format {detection.format.name} are local and name no zone",
                hint="Say whose clock it is with --timezone, for example --timezone Europe/London.",
                reason="timezone",
            )
    moment = datetime.fromtimestamp(run.now, UTC)
    since, until = (
        parse_moment(text, now=moment, timezone=settings.timezone) if text else None
        for text in (settings.since, settings.until)
    )
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"--since {settings.since} is not before --until {settings.until}: no call starts between them",
            hint="The window begins with --since and ends just before --until.",
        )
    number, user = settings.default_agent_number or "", settings.default_zohouser or ""
    path = settings.agents
    agents = AgentBook() if path is None else load_agents(path, settings.country, settings.encoding)
    return PreparePlan(
        agents=replace(agents, default_number=number, default_zohouser=user),
        now=int(run.now),
        timezone=settings.timezone,
        country=settings.country,
        trust_country=settings.trust_country,
        site=settings.site,
        since=since,
        until=until,
        states=settings.states,
        policies=policy_book(settings, {*run.catalogue.formats, *(each.format.name for each in detections)}),
        all_rows=settings.all_rows,
        is_one_of_several=len(detections) > 1,
        gaps=None if settings.max_gap is None else Gaps(settings.max_gap),
    )


def policy_book(settings: Settings, formats: Collection[str]) -> PolicyBook:
    """Return every choice of policies; raises ConfigurationError where one is for none of these formats."""
    unknown = sorted(settings.policies.keys() - {*formats, EVERY_FORMAT})
    if unknown:
        raise ConfigurationError(
            f"configuration: [policies.{unknown[0]}]: there is no format of this name",
            hint="`cdr-importer formats` lists them; put a format of your own into its folder, or take the "
            "table out.",
        )
    return PolicyBook(settings, settings.policies)
