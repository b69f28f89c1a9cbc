"""What happens to a run at a named step."""

from collections import Counter
from collections.abc import Callable

from importer.steps import Step


def at(step: Step, time: int, act: Callable[[], object]) -> Callable[[Step], None]:
    """Return a listener that acts at the ``time``-th telling of a step."""
    told: Counter[Step] = Counter()

    def tell(each: Step) -> None:
        told[each] += 1
        if each is step and told[each] == time:
            act()

    return tell
