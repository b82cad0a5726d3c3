"""What is wrong with how the command was called."""

from __future__ import annotations

import pytest

import planner
from planner.cli.main import run
from planner.diagnostics.diagnostic import PlanError


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["explain", "P999"], "P003 unknown-code"),
        (["explain", "no-such-code"], "P003 unknown-code"),
    ],
)
def test_usage(arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert f"[{code}]" in capsys.readouterr().out


def test_what_is_not_made_yet_says_so() -> None:
    with pytest.raises(PlanError) as caught:
        planner.simulate("x.plan.yaml")
    assert [d.code.id for d in caught.value.diagnostics] == ["P001"]
