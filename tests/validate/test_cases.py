"""Every case as a user sees it: the file, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden

import planner
from planner.diagnostics.codes import all_codes
from planner.diagnostics.render import text

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name.removesuffix(".plan.yaml") for path in CASES.glob("*.plan.yaml"))


@pytest.mark.usefixtures("searches_end_soon")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_said(name: str, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    file = f"{name}.plan.yaml"
    before = Path(file).read_bytes()
    result = planner.validate(file)
    assert Path(file).read_bytes() == before
    golden(CASES / f"{name}.out", text(result.diagnostics, result.sources) or "fine\n")


def test_a_good_plan_has_nothing_said_of_it() -> None:
    result = planner.validate(CASES / "good.plan.yaml")
    assert result
    assert result.diagnostics == ()


def test_every_code_of_the_front_half_has_a_case() -> None:
    said = "\n".join(path.read_text(encoding="utf-8") for path in CASES.glob("*.out"))
    elsewhere = {
        # what a test of its own makes: no permission, 2 MiB, binary, --set, a loaded pipeline, and folders
        # that are broken, of another class, or have parts
        *("P102", "P103", "P104", "P113", "P353", "P354", "P358", "P374", "P377"),
        *("P359", "P361", "P362"),
        # and catalogues of one's own
        *("P381", "P382"),
        *("P603", "P604", "P605", "P606", "P607", "P608"),
    }
    front = [code for code in all_codes().values() if code.id[1] in "1234" or code.id.startswith("P6")]
    missing = [str(code) for code in front if f"[{code}]" not in said and code.id not in elsewhere]
    assert missing == []
