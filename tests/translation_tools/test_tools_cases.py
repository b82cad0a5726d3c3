"""Settings of other tools: the plan that is made of them, and what is said of them.

A case is ``NAME.in``: the tool (``script`` for Python that is for none) and the pipeline class, then the
settings.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden

import planner
from planner.diagnostics.codes import all_codes
from planner.diagnostics.diagnostic import Severity, errors
from planner.diagnostics.render import text
from planner.source.text import SourceText
from planner.target import catalogue
from planner.translation.convert import NAME, TOOLS, from_script, from_tool

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.in"))
BAD = ("bad-", "refused-")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_and_said(name: str, golden: Golden, tmp_path: Path) -> None:
    head, _, settings = (CASES / f"{name}.in").read_text(encoding="utf-8").partition("\n")
    tool, _, cls = head.partition(" ")
    target = catalogue.find(cls, "0.42.1")
    assert target is not None
    made, found = from_script(settings, target) if tool == "script" else from_tool(tool, settings, target)
    golden(CASES / f"{name}.out", text(found, [SourceText(name=NAME, text=settings)]) or "fine\n")
    assert bool(errors(found)) == name.startswith(BAD)
    if errors(found):
        assert made == ""
        assert not (CASES / f"{name}.plan.yaml").exists()
        return
    golden(CASES / f"{name}.plan.yaml", made)
    place = tmp_path / "made.plan.yaml"
    place.write_text(made, encoding="utf-8")
    result = planner.validate(place)
    said = {problem.code.name for problem in (*result.errors, *result.warnings)}
    assert said <= {"no-such-source"}  # a file that only its owner has


def test_every_code_and_every_tool_has_a_case() -> None:
    said = "\n".join(path.read_text(encoding="utf-8") for path in CASES.glob("*.out"))
    codes = [c for c in all_codes().values() if "P850" <= c.id <= "P899"]
    assert [str(code) for code in codes if f"[{code}]" not in said] == []
    heads = {path.read_text(encoding="utf-8").partition(" ")[0] for path in CASES.glob("*.in")}
    assert set(TOOLS) <= heads


def test_what_stops_is_an_error_and_what_is_lost_is_not() -> None:
    for code in all_codes().values():
        if "P850" <= code.id < "P860":
            assert code.severity is Severity.ERROR, code
        elif "P860" <= code.id <= "P899":
            assert code.severity is not Severity.ERROR, code
