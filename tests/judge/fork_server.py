"""One warmed-up process with a single thread that forks a child for each run, so that a run costs milliseconds.

Jobs come as JSON lines on standard input; a line goes out when a child has started and when it has ended. A
child may kill itself, or send itself a signal, at the nth time its run comes to a step.
"""

import json
import os
import select
import signal
import sys
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
import importer.pipeline.intake
import importer.settings
from steps import Step, at, at_steps


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
        step, number, kind = job["at"]
        with at_steps(at(Step(step), number, lambda: os.kill(os.getpid(), kind))):
            return importer.cli.run(job["arguments"])
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
