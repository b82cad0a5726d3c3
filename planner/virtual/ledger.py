"""What came and went on the virtual accelerator, counted where it happens.

Nothing here knows a schedule or a session: it is the other side of the comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One piece allocated or freed: its label, its bytes, and the bytes live afterwards."""

    kind: Literal["alloc", "free"]
    label: str
    nbytes: int
    live: int


class Ledger:
    """Live pieces in bytes, in order. ``moved`` counts the bytes copied from the host."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._labels: Counter[str] = Counter()
        self._moved: Counter[str] = Counter()
        self.live = 0
        self.peak = 0

    @property
    def events(self) -> tuple[Entry, ...]:
        """Everything so far."""
        return tuple(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def by_label(self) -> Mapping[str, int]:
        """Live bytes of each label that has any."""
        return MappingProxyType({label: n for label, n in sorted(self._labels.items()) if n})

    @property
    def moved(self) -> int:
        """Bytes copied to the device, in all."""
        return self._moved.total()

    @property
    def moved_by_label(self) -> Mapping[str, int]:
        """Bytes copied to the device, by label."""
        return MappingProxyType(dict(sorted(self._moved.items())))

    def since(self, position: int) -> tuple[Entry, ...]:
        """The entries from ``position`` (an earlier ``len``) on."""
        return tuple(self._entries[position:])

    def peak_since(self, position: int) -> int:
        """The most bytes live at once from ``position`` on, what was live there included."""
        before = self._entries[position - 1].live if position else 0
        return max((before, *(entry.live for entry in self._entries[position:])))

    def allocated(self, label: str, nbytes: int) -> None:
        """A piece came."""
        self.live += nbytes
        self.peak = max(self.peak, self.live)
        self._labels[label] += nbytes
        self._entries.append(Entry(kind="alloc", label=label, nbytes=nbytes, live=self.live))

    def freed(self, label: str, nbytes: int) -> None:
        """A piece went."""
        self.live -= nbytes
        self._labels[label] -= nbytes
        self._entries.append(Entry(kind="free", label=label, nbytes=nbytes, live=self.live))

    def copied(self, label: str, nbytes: int) -> None:
        """Bytes crossed from the host."""
        self._moved[label] += nbytes
