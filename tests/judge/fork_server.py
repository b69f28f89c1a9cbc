"""One warmed-up process with a single thread that forks a child for each run, so that a run costs milliseconds.

A line of JSON on standard input is a job, answered by its process id, or a process id to wait for, answered by
its exit code. A child may kill itself, or send itself a signal, at the nth time its run comes to a step. The name
of a folder has the program that is there take over, until `null`: no library is loaded again.
"""

import fcntl
import importlib
import json
import os
import sys
import tempfile
import termios
from pathlib import Path
from typing import Any

PROGRAM = (
    *("importer.cli", "importer.cli.explain", "importer.cli.ledger", "importer.cli.runs", "importer.cli.screen"),
    *("importer.formats.detection", "importer.pipeline", "importer.pipeline.intake", "importer.settings", "steps"),
)
LATE = (
    *("encodings.ascii", "encodings.cp1252", "encodings.idna", "encodings.utf_8_sig", "pyarrow.pandas_compat"),
    *("pandera.backends.pandas.register", "pandera.strategies.pandas_strategies", "prometheus_client"),
)
"""What every child would import; one of another user may not read where Python stands."""
EXPORT = """type,state,id,from,to,start_time,zohouser,voiceuri
dialed,busy,call1,+12125550101,+12125550142,2026-03-02 14:00:00,,
"""


def load() -> None:
    """Load the program that the path names first, in place of one that is loaded."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("importer", "steps")]:
        del sys.modules[name]
    for name in (*PROGRAM, *LATE):
        importlib.import_module(name)


def warm_up() -> None:
    """Check an export, so that no child makes what the program keeps of formats, patterns and schemas."""
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder, "export.csv")
        export.write_text(EXPORT, encoding="utf-8")
        assert run(["check", "--quiet", "--results", f"{folder}/results.csv", str(export)]) == 0


def run(arguments: list[str]) -> int:
    """Run the program that is loaded."""
    return int(sys.modules["importer.cli"].run(arguments))


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
        return run(job["arguments"])
    (step, number, kind), steps = job["at"], sys.modules["steps"]
    with steps.at_steps(steps.at(steps.Step(step), number, lambda: os.kill(os.getpid(), kind))):
        return run(job["arguments"])


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


def take_over(folder: str) -> None:
    """Serve with the program of a folder in a child, until `null`."""
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    try:
        sys.path.insert(0, folder)
        load()
        serve()
    finally:
        os._exit(0)


def serve() -> None:
    """Do what is asked until the input ends or says `null`; tell first what program this is, and its threads."""
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    package = Path(sys.modules["importer"].__path__[0])
    print(json.dumps({"package": str(package), "threads": threads}), flush=True)
    while (line := sys.stdin.readline()) and (asked := json.loads(line)) is not None:
        if isinstance(asked, str):
            take_over(asked)
            continue
        told = fork(asked) if isinstance(asked, dict) else os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1])
        print(told, flush=True)


if __name__ == "__main__":
    load()
    warm_up()
    serve()
