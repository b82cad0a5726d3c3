"""What of a streamed component stays on the device while it is in use, and what comes and goes."""

from __future__ import annotations

from dataclasses import dataclass

from planner.target.model import Blocks

PREFETCH = 2
"""Blocks on their way ahead of the one that runs, unless the plan says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """``stay``: which of the streamable blocks stay; the others come through ``slots`` buffers of ``slot``
    bytes. All sizes in bytes: ``resident`` is fixed and staying blocks, ``held`` these and the buffers,
    ``crossing`` what one forward brings."""

    stay: tuple[bool, ...]
    resident: int
    slots: int
    slot: int
    crossing: int

    @property
    def held(self) -> int:
        """On the device while the component is in use."""
        return self.resident + self.slots * self.slot


def split(blocks: Blocks, resident: int, prefetch: int = PREFETCH) -> Split:
    """At most ``resident`` bytes stay (what is fixed always does), spread evenly, so that each block that
    comes has as much computing before it as the others."""
    room = max(0, resident - blocks.fixed)
    total = sum(blocks.streamable)
    share = min(1.0, room / total) if total else 1.0
    stay, owed, used = [], 0.0, 0
    for size in blocks.streamable:
        owed += share * size
        keep = used + size <= room and owed >= size * 0.999
        if keep:
            owed -= size
            used += size
        stay.append(keep)
    gone = [size for size, keep in zip(blocks.streamable, stay, strict=True) if not keep]
    return Split(
        stay=tuple(stay),
        resident=blocks.fixed + used,
        slots=min(prefetch + 1, len(gone)),
        slot=max(gone, default=0),
        crossing=sum(gone),
    )


def fitted(blocks: Blocks, room: int, prefetch: int = PREFETCH) -> Split | None:
    """The split that holds at most ``room`` bytes and keeps as much as it can; None where none does.

    Fewer blocks ahead, before nothing fits.
    """
    for ahead in range(prefetch, 0, -1):
        buffers = (ahead + 1) * max(blocks.streamable, default=0)
        for resident in (room, room - buffers):
            made = split(blocks, resident, ahead)
            if made.held <= room:
                return made
    return None
