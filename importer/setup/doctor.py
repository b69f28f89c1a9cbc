"""What a night needs, looked at without sending a call: one line for each thing, whatever is wrong with others."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from importer.client import Answer
from importer.errors import ImporterError, TryLaterError
from importer.formats import load_catalogue
from importer.ledger import LedgerReader, open_reader
from importer.ledger.beside import check_place
from importer.pipeline import check_apart, epoch_of, gmt_text
from importer.pipeline.intake import policy_book
from importer.prepare import load_agents
from importer.prepare.agents import agent_lines
from importer.records import ACT, LOOK, OK, Check
from importer.requirements import check_versions, found_versions
from importer.settings import OPTIONS, Settings, config_path, load_credentials
from importer.settings.options import variable_of
from importer.setup.sign_in import ACCOUNT_CHECKS, account_checks, account_of
from schemas.vocabulary import CallState, counted, lasting
from schemas.zones import fixed_advice, is_fixed

BACKUP_DAYS, NIGHT_SECONDS, LATE_HOURS = 7, 8 * 3600, 26
LEAST_DISK_BYTES, FEW_DISK_BYTES = 100 << 20, 1 << 30
CLOCK_SECONDS, MOST_CLOCK_SECONDS = 30, 300
"""So far may this machine's clock be off; a start more than 300 seconds ahead of it is rejected."""

_PROGRAM = "cdr-importer"


def examine(
    settings: Settings | ImporterError,
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
    root: Path = Path("/"),
) -> Iterator[Check]:
    """Yield what is to be said of everything that a night needs, in an order in which it is mended.

    ``settings`` may be the error that stands against them; ``root`` is the folder above etc. Raises no
    `ImporterError` or `OSError`: each becomes the line of what it stands against.
    """
    parts: Sequence[tuple[tuple[str, ...], Callable[[Settings], Iterator[Check]]]] = (
        (("config",), partial(_config, environment=environment)),
        (("time zone",), _zone),
        (("agents",), _agents),
        (("ledger", "backup", "last run", "uncertain", "backlog"), partial(_ledger, now=clock())),
        (("outputs",), _outputs),
        (("disk",), _disk),
        ((*ACCOUNT_CHECKS, "clock"), partial(_account, environment=environment, clock=clock)),
    )
    for names, look in parts:
        if isinstance(settings, Settings):
            yield from _guarded(names, look(settings))
        elif names == ("config",):
            yield Check(ACT, "config", settings.message, settings.hint)
        else:
            yield from (Check(LOOK, name, "not looked at: config comes first") for name in names)
    yield from _guarded(("timer",), _timer(root))


def _guarded(names: Sequence[str], checks: Iterator[Check]) -> Iterator[Check]:
    """Yield a check for each name, also where one fails and those after it cannot be looked at."""
    left, cause = list(names), "no answer says it"
    try:
        for check in checks:
            left.remove(check.name)
            yield check
    except (ImporterError, OSError) as error:
        failed = left.pop(0)
        cause = f"{failed} comes first"
        if isinstance(error, ImporterError):
            state = LOOK if isinstance(error, TryLaterError) else ACT
            yield Check(state, failed, error.message, error.hint)
        else:
            yield Check(ACT, failed, f"{error.filename}: {error.strerror}", "Mend the path or its rights.")
    yield from (Check(LOOK, name, f"not looked at: {cause}") for name in left)


def _config(settings: Settings, *, environment: Mapping[str, str]) -> Iterator[Check]:
    check_versions(found_versions())
    policy_book(settings, load_catalogue().formats)
    named = [name for name in map(variable_of, OPTIONS) if environment.get(name)]
    found = f"{settings.config}, all keys are known" if settings.config else "no config file"
    found += f"; outranked by the environment's {', '.join(named)}" if named else ""
    yield Check(OK if settings.config else LOOK, "config", found, f"{_PROGRAM} init   (or name it with --config)")


def _zone(settings: Settings) -> Iterator[Check]:
    zone, place = settings.timezone, settings.config or "the config"
    if zone is None:
        write = f'Write into {place}: timezone = "Europe/London" (`{_PROGRAM} detect EXPORT` shows which)'
        yield Check(LOOK, "time zone", "none: only exports with UTC or offsets can be read", write)
    elif is_fixed(zone):
        yield Check(ACT, "time zone", fixed_advice(zone), f"Correct timezone in {place}.")
    else:
        local = datetime.now(UTC).astimezone(ZoneInfo(zone))
        yield Check(OK, "time zone", f"{zone}, where it is {local:%H:%M} now")


def _agents(settings: Settings) -> Iterator[Check]:
    path = settings.agents
    if path is None:
        found = "no agents file: only numbers in the exports themselves say who called"
        yield Check(LOOK, "agents", found, f"{_PROGRAM} users --write FILE   (then --agents FILE)")
        return
    load_agents(path, settings.country, encoding=settings.encoding)
    lines = agent_lines(path, settings.encoding)
    without = 0 if settings.default_agent_number else sum(not line.number for line in lines)
    found = f"{path.name} has {counted(len(lines), 'agent')}"
    found += f", {without} without a number: their calls are rejected" if without else ""
    yield Check(OK if lines and not without else LOOK, "agents", found, f"Complete {path}")


def _ledger(settings: Settings, *, now: float) -> Iterator[Check]:
    named = "" if settings.config in (None, config_path()) else f" --config {settings.config}"
    check_place(settings.ledger.resolve())
    with open_reader(settings.ledger) as ledger:
        ledger.check_latest()
        counts = ledger.counts()
        yield Check(OK, "ledger", f"{settings.ledger}, ours alone; {counted(sum(counts.values()), 'call')}")
        copied = ledger.backed_up_at() or 0
        found = f"copied {gmt_text(copied)} GMT" if copied else "none by this program"
        hint = f"{_PROGRAM} ledger backup{named} /BACKUP/ledger-$(date +%F).sqlite"
        yield Check(LOOK if now - copied > BACKUP_DAYS * 86_400 else OK, "backup", found, hint)
        yield _last_run(ledger, now, named)
        found = f"{counted(counts[CallState.UNCERTAIN], 'call waits', 'calls wait')} for a person"
        state = LOOK if counts[CallState.UNCERTAIN] else OK
        yield Check(state, "uncertain", found, f"{_PROGRAM} status{named}")
        pending, held = counts[CallState.PENDING], ledger.held_until()
        seconds = settings.rate.seconds_for(pending, is_burst=settings.burst)
        found = f"{counted(pending, 'call')} pending: {lasting(seconds)} at {settings.rate}"
        if held and epoch_of(held) > now:
            yield Check(LOOK, "backlog", f"{found}; Zoho asked to wait until {held} GMT", "Nothing: runs wait.")
        else:
            hint = f"{_PROGRAM} deliver{named} --max-runtime 6h   (or a higher rate)"
            yield Check(LOOK if seconds > NIGHT_SECONDS else OK, "backlog", found, hint)


def _last_run(ledger: LedgerReader, now: float, named: str) -> Check:
    last = next((run for run in ledger.runs(100) if run.command in ("import", "deliver")), None)
    look = f"{_PROGRAM} status{named} --runs"
    if last is None:
        return Check(LOOK, "last run", "none yet", f"{_PROGRAM} import{named} --limit 1 EXPORT.csv")
    found = f"{last.command} of {last.started_at} GMT"
    if last.exit_code is None:
        return Check(LOOK, "last run", f"{found} goes on, or died", look)
    found += f", exit {last.exit_code}"
    is_late = now - epoch_of(last.started_at) > LATE_HOURS * 3600
    return Check(LOOK if last.exit_code or is_late else OK, "last run", found, look)


def _outputs(settings: Settings) -> Iterator[Check]:
    check_apart(settings)
    names = [name for name in ("log", "metrics", "results", "rejects", "done") if getattr(settings, name)]
    for name in names:
        path = getattr(settings, name).absolute()
        folder = path if name == "done" else path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            fault = "may not be written to" if folder.is_dir() else "is not there"
            found = f"--{name}: the folder {folder} {fault}"
            yield Check(ACT, "outputs", found, f"Make it, give it to this user, or correct {name}.")
            return
    yield Check(OK, "outputs", f"{', '.join(names) or 'whatever is named'} can be written")


def _disk(settings: Settings) -> Iterator[Check]:
    named = {"the ledger": settings.ledger.resolve().parent, "temporary files": Path(tempfile.gettempdir())}
    there = {what: next(each for each in (path, *path.parents) if each.exists()) for what, path in named.items()}
    free, what = min((shutil.disk_usage(folder).free, what) for what, folder in there.items())
    state = ACT if free < LEAST_DISK_BYTES else LOOK if free < FEW_DISK_BYTES else OK
    found = f"{free / (1 << 30):,.1f} GiB free for {what}"
    yield Check(state, "disk", found, f"df -h {there[what]}   (two times the exports go into TMPDIR)")


def _account(settings: Settings, *, environment: Mapping[str, str], clock: Callable[[], float]) -> Iterator[Check]:
    seen: list[tuple[str, float]] = []

    def on_answer(answer: Answer) -> None:
        seen.append((answer.headers.get("date", ""), clock()))

    lines = []
    with suppress(ImporterError):  # it has a line of its own
        lines = agent_lines(settings.agents, settings.encoding) if settings.agents else []
    checks = account_checks(
        *account_of(settings, load_credentials(environment), is_fresh=True, on_answer=on_answer), lines
    )
    try:
        yield from checks
    except ImporterError:
        yield from _clock(seen)  # before the line of what failed, since it may be why
        raise
    yield from _clock(seen)


def _clock(seen: Sequence[tuple[str, float]]) -> Iterator[Check]:
    """Compare the latest ``Date`` of an answer with the moment when it came."""
    with suppress(ValueError):
        date, moment = seen[-1] if seen else ("", 0.0)
        off = moment - parsedate_to_datetime(date).timestamp()
        state = ACT if abs(off) > MOST_CLOCK_SECONDS else LOOK if abs(off) > CLOCK_SECONDS else OK
        found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Zoho's clock"
        yield Check(state, "clock", found, "timedatectl set-ntp true   (as root)")


def _timer(root: Path) -> Iterator[Check]:
    """Look where cron and systemd have what they start; what this user may not look at is named."""
    found, unseen = [], []
    if crontab := shutil.which("crontab"):
        listed = subprocess.run([crontab, "-l"], stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
        found += _times_in(listed.stdout.decode(errors="replace"), "crontab -l")
    units = root / "etc/systemd/system", Path.home() / ".config/systemd/user"
    unseen += [
        folder for folder in (root / "etc/cron.d", *units) if folder.exists() and not os.access(folder, os.R_OK)
    ]
    enabled = [timer for folder in units for timer in folder.glob("*.wants/*.timer")]
    for place in (root / "etc/crontab", *root.glob("etc/cron.*/*"), *enabled):
        service = place.parent.parent / f"{place.stem}.service"
        try:
            text = (service if place in enabled else place).read_text(errors="replace")
        except FileNotFoundError:
            continue
        except OSError:
            unseen.append(place)
            continue
        found += [str(place)] if place in enabled and _PROGRAM in text else _times_in(text, str(place))
    where = f"; this user may not look into {', '.join(map(str, unseen))}" if unseen else ""
    if found:
        yield Check(OK, "timer", "; ".join(found))
    else:
        hint = "crontab -e   (README, Every night, has the line)"
        yield Check(LOOK, "timer", f"nothing starts {_PROGRAM} by cron or systemd{where}", hint)


def _times_in(crontab: str, where: str) -> list[str]:
    """Return when the program is started; of the command only that, since it may hold a secret."""
    lines = (line.split() for line in crontab.splitlines() if _PROGRAM in line and not line.startswith("#"))
    return [f"{where}: {' '.join(words[: 1 if words[0].startswith('@') else 5])}" for words in lines]
