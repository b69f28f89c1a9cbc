"""Checks of all that a night needs, without sending a call: one line each, whatever is wrong with the others."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from importer.errors import ImporterError, TryLaterError
from importer.formats.catalogue import load_catalogue
from importer.ledger.beside import BACKED_UP, LOCK, check_place, companion
from importer.ledger.reader import open_reader
from importer.pipeline.inputs import check_apart
from importer.pipeline.run import epoch_of, gmt_text
from importer.prepare.agents import agent_lines, load_agents
from importer.prepare.plan import policy_book
from importer.private_files import user_name
from importer.records import ACT, LOOK, OK, Check
from importer.requirements import check_versions
from importer.results.file import check_free
from importer.settings.credentials import load_credentials
from importer.settings.loading import config_words
from importer.settings.options import OPTIONS, Settings, variable_of
from importer.setup.sign_in import ACCOUNT_CHECKS, account_checks, account_of
from schemas.vocabulary import CallState, counted, lasting
from schemas.zones import fixed_advice, is_fixed

BACKUP_DAYS, NIGHT_SECONDS, LATE_HOURS = 7, 8 * 3600, 26
LEAST_DISK_BYTES, FEW_DISK_BYTES = 100 << 20, 1 << 30
CLOCK_SECONDS, MOST_CLOCK_SECONDS = 30, 300
"""So far may this machine's clock be off; a start more than 300 seconds ahead of it is rejected."""

_PROGRAM = "cdr-importer"
_NARROWING = ("since", "until", "states", "limit")
"""Options of a first trial or a single day; left in force they end with 0 and send nothing, or little."""


def examine(
    settings: Settings | ImporterError, environment: Mapping[str, str], *, root: Path = Path("/")
) -> Iterator[Check]:
    """Yield a check of each thing that a night needs, in the order in which faults are mended.

    ``settings`` may be the error that loading them raised; ``root`` is the folder above etc. Raises no
    `ImporterError` or `OSError`: each becomes a check.
    """
    parts: Sequence[tuple[tuple[str, ...], Callable[[Settings], Iterator[Check]]]] = (
        (("config",), partial(_config, environment=environment)),
        (("time zone", "agents"), _site),
        (("ledger", "backup", "last run", "uncertain", "backlog"), _ledger),
        (("outputs", "watching", "disk"), _places),
        ((*ACCOUNT_CHECKS, "clock"), partial(_account, environment=environment)),
    )
    if isinstance(settings, Settings):
        for names, look in parts:
            yield from _guarded(names, look(settings))
    else:
        yield Check(ACT, "config", settings.message, settings.hint)
        others = (name for names, _ in parts[1:] for name in names)
        yield from (Check(LOOK, name, "not looked at: config comes first") for name in others)
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


def _rated(name: str, found: str, hint: str, *, look: bool = False, act: bool = False) -> Check:
    return Check(ACT if act else LOOK if look else OK, name, found, hint if act or look else "")


def _config(settings: Settings, *, environment: Mapping[str, str]) -> Iterator[Check]:
    check_versions()
    catalogue = load_catalogue(settings.config)
    named_formats = [each.name for each in catalogue.candidates(settings.format)]
    policy_book(settings, {*catalogue.formats, *named_formats})
    check_apart(settings)
    named = [name for name in map(variable_of, OPTIONS) if environment.get(name)]
    found = f"{settings.config}, all keys are known" if settings.config else "no config file"
    found += f"; outranked by the environment's {', '.join(named)}" if named else ""
    hint = f"{_PROGRAM} init   (or name it with --config)"
    usual = Settings()
    narrow = [name for name in _NARROWING if getattr(settings, name) != getattr(usual, name)]
    if narrow:
        found += f"; each night leaves calls out: {', '.join(narrow)}"
        hint = "Take out what is not meant: with `since`, for one, a night that failed is not made up for."
    if settings.sandbox:
        found, hint = "sandbox is on: no call goes to Zoho", "Take `sandbox` out of config file or environment."
    yield _rated("config", found, hint, look=settings.config is None or bool(narrow), act=settings.sandbox)


def _site(settings: Settings) -> Iterator[Check]:
    zone, found = settings.timezone, "none: only exports with UTC or offsets can be read"
    if zone is not None:
        now = datetime.now(ZoneInfo(zone))
        found = fixed_advice(zone) if is_fixed(zone) else f"{zone}, where it is {now:%H:%M} now"
    hint = 'Write into the config: timezone = "Europe/London" (`detect EXPORT` shows which)'
    yield _rated("time zone", found, hint, look=zone is None, act=zone is not None and is_fixed(zone))
    path, found, lines = settings.agents, "no agents file: who called is only in the exports, or unknown", []
    if path is not None:
        load_agents(path, settings.country, settings.encoding)
        lines = agent_lines(path, settings.encoding)
        found = f"{path.name} has {counted(len(lines), 'agent')}"
    without = 0 if settings.default_agent_number else sum(not line.number for line in lines)
    found += f", {without} without a number: their calls are rejected" if without else ""
    hint = f"Complete {path}" if path else f"{_PROGRAM} users --write FILE   (then --agents FILE)"
    yield _rated("agents", found, hint, look=not lines or without > 0)


def _ledger(settings: Settings) -> Iterator[Check]:
    now, named = time.time(), config_words(settings.config)
    path = Path(os.path.realpath(settings.ledger))
    check_place(path)
    with open_reader(settings.ledger) as ledger:
        ledger.check_latest()
        counts, held, copied = ledger.counts(), ledger.held_until(), 0.0
        last = next((run for run in ledger.runs(100) if run.command in ("import", "deliver")), None)
    found = f"{settings.ledger}, ours alone; {counted(sum(counts.values()), 'call')}"
    with suppress(OSError):
        copied = companion(path, BACKED_UP).stat().st_mtime
    # Reading needs no right to write: modes, or a disk that Linux has remounted read-only after an error.
    written = (path.parent, path, companion(path, LOCK), companion(path, "-shm"))
    closed = [str(each) for each in written if each.exists() and not os.access(each, os.W_OK)]
    found = f"cannot be written: {', '.join(closed)}" if closed else found
    yield _rated("ledger", found, "ls -l it: mend mode or disk (mount, dmesg)", act=bool(closed))
    found = f"copied {gmt_text(copied)} GMT" if copied else "none by this program"
    hint = f"{_PROGRAM} ledger backup{named} /BACKUP/ledger-$(date +%F).sqlite"
    yield _rated("backup", found, hint, look=now - copied > BACKUP_DAYS * 86_400)
    found, is_good = "none yet", False
    if last is not None:
        code = "goes on, or died" if last.exit_code is None else f"exit {last.exit_code}"
        found = f"{last.command} of {last.started_at} GMT, {code}"
        is_good = last.exit_code == 0 and now - epoch_of(last.started_at) < LATE_HOURS * 3600
    yield _rated("last run", found, f"{_PROGRAM} status{named} --runs", look=not is_good)
    uncertain, pending = counts[CallState.UNCERTAIN], counts[CallState.PENDING]
    found = f"{counted(uncertain, 'call waits', 'calls wait')} for a person"
    yield _rated("uncertain", found, f"{_PROGRAM} status{named}", look=uncertain > 0)
    seconds = settings.rate.seconds_for(pending, is_burst=settings.burst)
    is_held = bool(held and epoch_of(held) > now)
    found = f"{counted(pending, 'call')} pending" + (f": {lasting(seconds)} at {settings.rate}" if pending else "")
    found += f"; Zoho asked to wait until {held} GMT" if is_held else ""
    hint = f"{_PROGRAM} deliver{named} --max-runtime 6h   (or a higher rate)"
    yield _rated("backlog", found, hint, look=is_held or seconds > NIGHT_SECONDS)


def _places(settings: Settings) -> Iterator[Check]:
    for path, kind in ((settings.results, "results"), (settings.rejects, "rejects")):
        if path:
            check_free(path, kind)  # a fixed name serves one night
    kept = [path for path in (settings.log, settings.metrics) if path]
    folders = {path.absolute().parent for path in kept} | {path for path in [settings.done] if path}
    closed = [folder for folder in folders if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK)]
    closed += [path for path in kept if path.exists() and not (path.is_file() and os.access(path, os.W_OK))]
    bad = ", ".join(map(str, closed))
    found = f"this user cannot write to {bad}" if bad else "folders of log, results and the like are there"
    yield _rated("outputs", found, "Make the folder, give it to this user, or correct the config.", act=bool(bad))
    seen = ["ping-url"] * bool(settings.ping_url) + ["metrics"] * bool(settings.metrics)
    if mailer := shutil.which("sendmail", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib"):
        seen.append(f"mail of cron ({mailer})")
    found = f"a night that fails shows by {', '.join(seen)}"
    found = found if seen else "nobody would see that a night failed: no ping-url, metrics or sendmail for cron"
    hint = 'Write into the config: ping-url = "https://hc-ping.com/your-uuid"   (README, Watching it)'
    yield _rated("watching", found, hint, look=not seen)
    places = Path(os.path.realpath(settings.ledger)).parent, Path(tempfile.gettempdir())
    there = [next(each for each in (path, *path.parents) if each.exists()) for path in places]
    free, folder = min((shutil.disk_usage(path).free, path) for path in there)
    hint = f"df -h {folder}   (exports need twice their space in TMPDIR)"
    found = f"{free / (1 << 30):,.1f} GiB free in {folder}"
    yield _rated("disk", found, hint, look=free < FEW_DISK_BYTES, act=free < LEAST_DISK_BYTES)


def _account(settings: Settings, *, environment: Mapping[str, str]) -> Iterator[Check]:
    seen: list[tuple[str, float]] = []
    lines = []
    with suppress(OSError):
        if settings.ledger.stat().st_uid != os.geteuid():
            # `auth login` of this user, which is what a missing sign-in asks for, would help no night.
            for name in (*ACCOUNT_CHECKS, "clock"):
                yield Check(LOOK, name, "not looked at: the ledger's user has it")
            return
    with suppress(ImporterError):  # it has a line of its own
        lines = agent_lines(settings.agents, settings.encoding) if settings.agents else []
    account = account_of(
        settings,
        load_credentials(environment),
        is_fresh=True,
        on_answer=lambda answer: seen.append((answer.headers.get("date", ""), time.time())),
    )
    failure: ImporterError | None = None
    try:
        yield from account_checks(*account, lines, config_words(settings.config))
    except ImporterError as error:
        failure = error
    with suppress(ValueError):
        date, moment = seen[-1] if seen else ("", 0.0)
        off = moment - parsedate_to_datetime(date).timestamp()
        found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Zoho's clock"
        is_far, is_off = abs(off) > MOST_CLOCK_SECONDS, abs(off) > CLOCK_SECONDS
        yield _rated("clock", found, "timedatectl set-ntp true   (as root)", look=is_off, act=is_far)
    if failure is not None:  # after the clock, which may be why
        raise failure


def _timer(root: Path) -> Iterator[Check]:
    """Yield the check of what cron and systemd start; places that this user may not read are named."""
    found, unseen = [], []
    if crontab := shutil.which("crontab"):
        # Without an environment, which may hold secrets.
        listed = subprocess.run([crontab, "-l"], env={}, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603
        found += _times_in(listed.stdout.decode(errors="replace"), "crontab -l")
    units = root / "etc/systemd/system", Path.home() / ".config/systemd/user"
    enabled = [timer for folder in units for timer in folder.glob("*.wants/*.timer")]
    for place in (*(root / "etc").glob("cron*"), *(root / "etc").glob("cron.*/*"), *units, *enabled):
        try:
            if place.is_dir():
                os.scandir(place).close()
            elif place in enabled:
                service = place.parent.parent / f"{place.stem}.service"
                found += [str(place)] if _PROGRAM in service.read_text(errors="replace") else []
            else:
                found += _times_in(place.read_text(errors="replace"), str(place))
        except FileNotFoundError:
            continue
        except OSError:
            unseen.append(str(place))
    where = f"; this user may not look into {', '.join(unseen)}" if unseen else ""
    missing = f"nothing starts {_PROGRAM} by cron or systemd{where}"
    hint = f"crontab -e, as {user_name(os.geteuid())}   (README, Every night, has the line)"
    yield _rated("timer", "; ".join(found) or missing, hint, look=not found)


def _times_in(crontab: str, where: str) -> list[str]:
    """Return when the program is started; of the command only that, since it may hold a secret."""
    lines = (line.split() for line in crontab.splitlines() if _PROGRAM in line and not line.startswith("#"))
    return [f"{where}: {' '.join(words[: 1 if words[0].startswith('@') else 5])}" for words in lines]
