"""What is wrong with how the command was called."""

from __future__ import annotations

import pytest

from planner.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["explain", "P999"], "P003 unknown-code"),
        (["explain", "no-such-code"], "P003 unknown-code"),
        (["fit", "x.plan.yaml"], "P001 not-yet"),
    ],
)
def test_usage(arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert f"[{code}]" in capsys.readouterr().out
