"""The matrix of quantization as a table for one machine: what goes with what, and why not."""

from __future__ import annotations

from collections.abc import Mapping

from planner.quantization.matrix import COLUMNS, ROWS, WORDS, Needs, Row, needs_of
from planner.quantization.probe import lacking
from planner.report.sheet import Sheet, sheet

SIGNS = {"shown": "yes", "untried": "?", "no": "no"}
LEGEND = "yes: a test of this project runs it; ?: untried, and said to work; no: refused; -: needs a package"


def matrix_table(versions: Mapping[str, str]) -> tuple[Sheet, list[str]]:
    """A row a backend's formats, a column what they go with or not, and the notes that its numbers mean.

    ``versions``: of the distributions that are installed.
    """
    notes: dict[tuple[str, str], list[str]] = {}
    made = sheet("!~quantization", "~here", *COLUMNS, gap=2)
    for row in ROWS:
        cells = []
        for column in COLUMNS:
            sign, note = _cell(row, column, versions)
            if note is not None:
                with_what = notes.setdefault(note, [])
                with_what += [WORDS.get(column, column)] * (WORDS.get(column, column) not in with_what)
                sign = f"{sign} {list(notes).index(note) + 1}"
            cells.append(sign)
        made.add(row.name, _here(needs_of(row), versions), *cells)
    told = (f"{who} with {', '.join(columns)}: {why}" for (who, why), columns in notes.items())
    return made, [LEGEND, *(f"{number:>2}  {said}" for number, said in enumerate(told, 1))]


def _cell(row: Row, column: str, versions: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    """A sign, and for what is not so who it is about and why."""
    cell = row.cells[column]
    if cell.verdict == "no":
        return SIGNS["no"], (row.backend, f"{cell.reason} ({cell.reference})")
    if missing := lacking(cell.needs, versions):
        return "-", (row.backend, f"needs {_listed(missing)}")
    return SIGNS[cell.verdict], None


def _here(needs: Needs, versions: Mapping[str, str]) -> str:
    """The backend's version; what it lacks, where it cannot work."""
    if not needs:
        return "yes"
    missing = lacking(needs, versions)
    return f"needs {_listed(missing)}" if missing else versions[needs[0][0]]


def _listed(needs: Needs) -> str:
    return ", ".join(f"{name} {least}" for name, least in needs)
