"""The named moments of a run: each is met, and in the order in which things become durable."""

from pathlib import Path

from conftest import call_row, write_export
from misbehaviour import Simulator
from runs import imported
from steps import Step


def test_steps_in_order(account: Simulator, tmp_path: Path) -> None:
    """One call passes every step once, in the order of the enumeration."""
    path = write_export(tmp_path / "export.csv", [call_row(0), call_row(1, state="nonsense")])
    told: list[Step] = []
    imported(path, step=told.append, rejects=str(tmp_path / "rejects.csv"))
    assert list(dict.fromkeys(told)) == list(Step)
    assert {step for step in told if told.count(step) > 1} <= {Step.RESULTS_CREATED, Step.WRITTEN}
    assert len(account.accepted) == 1
