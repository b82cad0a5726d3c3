"""The one way to show rows: a table where there is room, and where there is none the same cells in lines.

No cell is ever cut. Where the table is too wide its columns move together, then the long ones fold; where a
column would fold to shreds each row becomes a few lines, with the column's name before each cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from planner.source.visible import visible

GAPS = (3, 2, 1)
"""Blanks between two columns, as many as there is room for."""
NARROW = 16
"""Columns of a terminal: what folds does not get narrower than this, or than its longest word."""


@dataclass(frozen=True, slots=True)
class Column:
    """``key``: it says what its row is about; ``folds``: its cells are sentences, which may take lines."""

    name: str
    align: Literal["left", "right"] = "left"
    key: bool = False
    folds: bool = False


@dataclass(slots=True)
class Sheet:
    """Rows of cells under ``columns``; ``head``: their names are shown. A renderable of rich."""

    columns: Sequence[Column]
    gap: int = GAPS[0]
    head: bool = True
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """A row, a cell a column."""
        assert len(cells) == len(self.columns)
        self.rows.append(tuple(visible(cell) for cell in cells))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        wide = sum(self._widths()) + self.gap * (len(self.columns) - 1)
        return Measurement(min(wide, NARROW), wide)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        made = self._fitting(options.max_width)
        if made is None:
            yield from self._lines()
        else:
            yield self._table(*made)

    def _widths(self) -> list[int]:
        names = [column.name if self.head else "" for column in self.columns]
        cells = [*zip(*self.rows, strict=True)] or [() for _ in names]
        return [max(map(_wide, (name, *below))) for name, below in zip(names, cells, strict=True)]

    def _fitting(self, room: int) -> tuple[list[int], int] | None:
        """The columns' widths and the gap with which the table fits; None where it does not."""
        widths = self._widths()
        for gap in (g for g in GAPS if g <= self.gap):
            if sum(widths) + gap * (len(widths) - 1) <= room:
                return widths, gap
        least = [self._least(n, width) for n, width in enumerate(widths)]
        gap = GAPS[-1]
        over = sum(widths) + gap * (len(widths) - 1) - room
        for n in sorted(range(len(widths)), key=lambda n: -widths[n]):
            give = min(max(0, over), widths[n] - least[n])
            widths[n] -= give
            over -= give
        return None if over > 0 else (widths, gap)

    def _least(self, n: int, width: int) -> int:
        if not self.columns[n].folds:
            return width
        texts = [self.columns[n].name, *(row[n] for row in self.rows)]
        return min(width, max(NARROW, *(_wide(word) for text in texts for word in text.split())))

    def _table(self, widths: Sequence[int], gap: int) -> Table:
        made = Table(
            box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim", show_header=self.head
        )
        for column, width in zip(self.columns, widths, strict=True):
            made.add_column(column.name, justify=column.align, width=width, overflow="fold")
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made

    def _lines(self) -> Iterator[RenderableType]:
        """A row as its key, and beneath it the other cells with their columns' names."""
        named = [*zip(self.columns, range(len(self.columns)), strict=True)]
        before: dict[int, str] = {}
        for row in self.rows:
            key = {n: row[n] or before.get(n, "") for column, n in named if column.key}
            before = key
            others = [(self.columns[n].name, row[n]) for column, n in named if not column.key and row[n]]
            said = [f"{name} {cell}" if name and self.head else cell for name, cell in others]
            if title := "  ".join(cell for cell in key.values() if cell.strip()):
                yield Text(title, overflow="fold")
            if said:
                yield Padding(Text("; ".join(said), overflow="fold"), (0, 0, 0, 2 if title else 0))


def sheet(*names: str, rows: Iterable[Sequence[str]] = (), gap: int = GAPS[0], head: bool = True) -> Sheet:
    """Columns by their names: ``>`` is on the right, ``!`` a key, ``~`` folds."""
    made = Sheet([_column(name) for name in names], gap=gap, head=head)
    for row in rows:
        made.add(*row)
    return made


def _column(said: str) -> Column:
    name = said.lstrip(">!~")
    marks = said[: len(said) - len(name)]
    return Column(name, "right" if ">" in marks else "left", key="!" in marks, folds="~" in marks)


def _wide(text: str) -> int:
    return max(map(cell_len, text.split("\n")), default=0)
