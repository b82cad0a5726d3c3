"""Tables at the widths of terminals: no cell is lost, no line is too long; piped, no line is broken."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from planner.cli.main import run
from planner.report.render import to_text
from planner.report.sheet import sheet

PLANS = Path(__file__).parents[2] / "plans"
GOLDENS = Path(__file__).parent / "widths"
VERBS = {
    "explain": ["explain", "plans/tiny-flux.plan.yaml", "--set", "budget.vram=4MiB"],
    "dry-run": ["apply", "plans/tiny-flux.plan.yaml", "--dry-run", "--card", "12GiB"],
    "translate-all": ["translate", "--all"],
    "codes": ["explain", "--all"],
    "doctor": ["doctor"],
}
WIDTHS = (40, 60, 80)


def shown(verb: str, width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """``width``: of a terminal; None where stdout is piped."""
    monkeypatch.chdir(PLANS.parent)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if width is not None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((width, 24)))
        monkeypatch.setenv("NO_COLOR", "1")
    assert run(VERBS[verb]) == 0
    monkeypatch.undo()
    out: str = capsys.readouterr().out
    return "\n".join(line.rstrip() for line in out.splitlines()) + "\n"


@pytest.mark.parametrize("width", [*WIDTHS, None], ids=str)
@pytest.mark.parametrize("verb", ["explain", "dry-run"])
def test_the_table_at_this_width(
    verb: str, width: int | None, golden: Golden, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("planner.cli.card.found", lambda plan: None)
    golden(GOLDENS / f"{verb}-{width or 'piped'}.out", shown(verb, width, monkeypatch, capsys))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_lost_at_any_width(
    verb: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    piped = shown(verb, None, monkeypatch, capsys)
    narrow = shown(verb, width, monkeypatch, capsys)
    letters = re.sub(r"\s", "", narrow)
    # A heading is before each cell where a row is several lines, but for the first ones, which say what the
    # row is about: so words are looked for and not counted.
    missing = {word for word in piped.split() if word not in letters}
    assert missing <= {"stage", "component", "class", "quantization", "code", "name", "step"}
    assert "…" not in narrow


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.integers(8, 120))
def test_a_sheet_fits_its_width_and_keeps_every_cell(rows: list[tuple[str, str, str]], width: int) -> None:
    made = sheet("!name", "~what", ">size", rows=rows)
    whole, narrow = to_text(made, None), to_text(made, width)
    assert all(cell_len(line) <= width for line in narrow.splitlines())
    kept = "".join(narrow.split())
    for word in {w for row in made.rows for cell in row for w in cell.split()}:
        assert set(word) <= set(kept)  # columns stand between the parts of a word that takes two lines
    assert len(whole.splitlines()) >= 1
