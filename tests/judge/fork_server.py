"""One warmed-up process with a single thread that forks a child for each run, so that a run costs milliseconds.

A line of JSON on standard input is a job, answered by its process id, or a process id to wait for, answered by
its exit code. A child may kill itself, or send itself a signal, at the nth time its run comes to a step.
"""

import fcntl
import importlib
import json
import os
import sys
import termios
from pathlib import Path
from typing import Any

import importer.cli
import importer.cli.explain
import importer.cli.ledger
import importer.cli.runs
import importer.cli.screen
import importer.formats.detection
import importer.pipeline
import importer.pipeline.intake
import importer.settings
from steps import Step, at, at_steps

LATE = (
    *("encodings.ascii", "encodings.cp1252", "encodings.idna", "encodings.utf_8_sig", "pyarrow.pandas_compat"),
    *("pandera.backends.pandas.register", "pandera.strategies.pandas_strategies", "prometheus_client"),
)
for name in LATE:  # every child would import them; one of another user may not read where Python stands
    importlib.import_module(name)


def become(job: dict[str, Any], terminal: int | None) -> int:
    """Do one job in a child: its own folder, environment and output or terminal; nothing of the server's."""
    if terminal is None:
        null = os.open(os.devnull, os.O_RDONLY)
        output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        streams = (null, output, output)
    else:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        streams = (terminal,) * 3
    for number, source in enumerate(streams):
        os.dup2(source, number)
    os.closerange(3, 64)
    if terminal is not None:
        sys.stdin, sys.stdout, sys.stderr = map(os.fdopen, range(3), "rww")  # as Python makes them for one
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    os.umask(0o077)
    if user := job.get("user"):
        os.setgroups(())
        os.setgid(user[1])
        os.setuid(user[0])
    if job["at"] is None:
        return importer.cli.run(job["arguments"])
    step, number, kind = job["at"]
    with at_steps(at(Step(step), number, lambda: os.kill(os.getpid(), kind))):
        return importer.cli.run(job["arguments"])


def fork(job: dict[str, Any]) -> int:
    """Start a child for a job; return its process id."""
    terminal = os.open(job["terminal"], os.O_RDWR | os.O_NOCTTY) if "terminal" in job else None
    if pid := os.fork():
        if terminal is not None:
            os.close(terminal)
        return pid
    code = 70
    try:
        code = become(job, terminal)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def serve() -> None:
    """Do what is asked until standard input ends; tell first what program this is, and its threads."""
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    print(json.dumps({"package": str(Path(importer.cli.__file__).parent.parent), "threads": threads}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        told = fork(asked) if isinstance(asked, dict) else os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1])
        print(told, flush=True)


if __name__ == "__main__":
    serve()
