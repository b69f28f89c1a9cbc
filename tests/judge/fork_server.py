"""One warmed-up process with a single thread that forks a child for each run, so that a run costs milliseconds.

Jobs come as JSON lines on standard input; a line goes out when a child has started and when it has ended. A
child may kill itself, or send itself a signal, at the nth time its run tells a step.
"""

import json
import os
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandera.strategies.pandas_strategies  # noqa: F401 pandera would import it in every child

import importer.cli
import importer.cli.explain
import importer.cli.ledger
import importer.cli.runs
import importer.cli.screen
import importer.formats
import importer.pipeline
import importer.pipeline.preparing
import importer.pipeline.rejects
import importer.settings
from importer.errors import ImporterError
from importer.steps import Step


class SignalAtStep:
    """Sends this process a signal at the nth time a step is told."""

    def __init__(self, step: str, number: int, kind: int) -> None:
        self._step = Step(step)
        self._number = number
        self._kind = kind
        self._met: Counter[Step] = Counter()
        self._guard = threading.Lock()

    def __call__(self, step: Step) -> None:
        """Count, and send the signal when it is time."""
        with self._guard:
            self._met[step] += 1
            if step is self._step and self._met[step] == self._number:
                os.kill(os.getpid(), self._kind)


def run_told(arguments: Sequence[str], told: Callable[[Step], None]) -> int:
    """Run `import` or `deliver` as the command line does, with somebody who is told its steps."""
    name, *rest = arguments
    commands = {"import": importer.cli.runs.import_command, "deliver": importer.cli.runs.deliver_command}
    flags = dict(commands[name].make_context(name, rest).params)
    files = flags.pop("files", ())
    try:
        settings = importer.settings.load_settings(flags, os.environ)
        credentials = importer.settings.load_credentials(os.environ)
        with (
            importer.cli.screen.Screen(settings) as screen,
            importer.cli.screen.orderly_signals() as signals,
        ):
            run = importer.pipeline.Run(
                settings,
                importer.formats.load_catalogue(),
                replace(screen.listener(), step=told),
                interrupted=signals.exit_code,
                is_cut=signals.is_cut,
            )
            if name == "import":
                summary = importer.pipeline.import_calls(run, files, credentials)
            else:
                summary = importer.pipeline.deliver_pending(run, credentials)
            screen.finish(summary)
        return int(summary.exit_code)
    except ImporterError as error:
        print(f"cdr-importer: {error.message}", file=sys.stderr)
        return int(error.exit_code)


def become(job: dict[str, Any]) -> int:
    """Do one job in a child: its own folder, environment and output; nothing of the server's."""
    signal.set_wakeup_fd(-1)
    for kind in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, source in enumerate((null, output, output)):
        os.dup2(source, number)
    os.closerange(3, 64)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    os.umask(0o077)
    if job["at"]:
        return run_told(job["arguments"], SignalAtStep(*job["at"]))
    return importer.cli.run(job["arguments"])


def fork(job: dict[str, Any]) -> int:
    """Start a child for a job; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = become(job)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def tell(**fields: object) -> None:
    """Say something to whoever gave the jobs."""
    os.write(1, json.dumps(fields).encode() + b"\n")


def serve() -> None:
    """Fork for every job until standard input ends."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    package = str(Path(importer.cli.__file__).parent.parent)
    tell(
        package=package,
        threads=[(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()],
    )
    running: dict[int, int] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(running)
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, waiting = (waiting + more).split(b"\n")
            for job in map(json.loads, lines):
                pid = fork(job)
                running[pid] = job["number"]
                tell(number=job["number"], pid=pid)


def _reap(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        tell(number=running.pop(pid), code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    serve()
