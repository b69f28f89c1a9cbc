"""A run in a process of its own that kills itself, as `kill -9` would, at a named step."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from importer.formats import load_catalogue
from importer.pipeline import Listener, Run, deliver_pending, import_calls
from importer.settings import load_credentials, load_settings
from importer.steps import Step


def at(step: Step, time: int, act: Callable[[], object]) -> Callable[[Step], None]:
    """Return a listener that acts at the ``time``-th telling of a step."""
    told: Counter[Step] = Counter()

    def tell(each: Step) -> None:
        told[each] += 1
        if each is step and told[each] == time:
            act()

    return tell


def main(command: str, step: str, time: str, *files: str) -> None:
    """Run `import` or `deliver`, as the environment sets it, until the step comes."""
    die = at(Step(step), int(time), lambda: os.kill(os.getpid(), signal.SIGKILL))
    results = os.environ.get("RESULTS")
    run = Run(load_settings({"results": results}, os.environ), load_catalogue(), Listener(step=die))
    credentials = load_credentials(os.environ)
    if command == "deliver":
        deliver_pending(run, credentials)
    else:
        import_calls(run, [Path(file) for file in files], credentials)


if __name__ == "__main__":
    main(*sys.argv[1:])
