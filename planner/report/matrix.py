"""The matrix of quantization as a table for one machine: what goes with what, and why not."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from planner.quantization.matrix import COLUMNS, ROWS, WORDS, Needs, Row, needs_of
from planner.quantization.probe import lacking

SIGNS = {"shown": "yes", "untried": "?", "no": "no"}
LEGEND = "yes: a test of this project runs it; ?: untried, and said to work; no: refused; -: needs a package"


def matrix_table(versions: Mapping[str, str]) -> tuple[Table, list[str]]:
    """A row a backend's formats, a column what they go with or not, and the notes that its numbers mean.

    ``versions``: of the distributions that are installed.
    """
    notes: dict[str, int] = {}
    made = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("quantization", "here", *COLUMNS):
        made.add_column(title, no_wrap=True)
    for row in ROWS:
        cells = (_cell(row, column, versions, notes) for column in COLUMNS)
        made.add_row(row.name, _here(needs_of(row), versions), *cells)
    return made, [LEGEND, *(f"{number:>2}  {said}" for said, number in notes.items())]


def _cell(row: Row, column: str, versions: Mapping[str, str], notes: dict[str, int]) -> str:
    cell = row.cells[column]
    sign, said = SIGNS[cell.verdict], ""
    if cell.verdict == "no":
        said = f"{row.backend} with {WORDS.get(column, column)}: {cell.reason} ({cell.reference})"
    elif missing := lacking(cell.needs, versions):
        sign, said = "-", f"needs {_listed(missing)}"
    return f"{sign} {notes.setdefault(said, len(notes) + 1)}" if said else sign


def _here(needs: Needs, versions: Mapping[str, str]) -> str:
    """The backend's version; what it lacks, where it cannot work."""
    if not needs:
        return "yes"
    missing = lacking(needs, versions)
    return f"needs {_listed(missing)}" if missing else versions[needs[0][0]]


def _listed(needs: Needs) -> str:
    return ", ".join(f"{name} {least}" for name, least in needs)
