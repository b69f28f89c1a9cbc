"""The named moments of a run: each is told, and in the order in which things become durable."""

from pathlib import Path

from conftest import call_row, write_export
from importer.pipeline import Listener
from importer.steps import Step
from misbehaviour import Simulator
from runs import imported


def test_steps_are_told_in_order(account: Simulator, tmp_path: Path) -> None:
    """One call passes every step once, in the order of the enumeration."""
    path = write_export(tmp_path / "export.csv", [call_row(0), call_row(1, state="nonsense")])
    told: list[Step] = []
    imported(path, Listener(step=told.append), rejects=str(tmp_path / "rejects.csv"))
    assert list(dict.fromkeys(told)) == list(Step)
    assert {step for step in told if told.count(step) > 1} <= {Step.WRITTEN}
    assert len(account.accepted) == 1


def test_every_step_says_what_a_death_leaves() -> None:
    """The table of the enumeration names every step."""
    assert all(f"``{step.name}``" in (Step.__doc__ or "") for step in Step)
