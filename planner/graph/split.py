"""What of a streamed component stays on the device while it is in use, and what comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.target.model import Blocks

PREFETCH = 1
"""Blocks of the largest size on their way ahead of the one that runs, unless the plan says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """``stay``: which of the streamable blocks stay; the others come through a ring of ``buffer`` bytes, for
    the block that runs and ``ahead`` more of the largest size. All sizes in bytes: ``resident`` is fixed
    and staying blocks, ``crossing`` what one forward brings."""

    stay: tuple[bool, ...]
    resident: int
    buffer: int
    ahead: int
    crossing: int

    @property
    def held(self) -> int:
        """On the device while the component is in use."""
        return self.resident + self.buffer


def split(
    blocks: Blocks, resident: int, prefetch: int = PREFETCH, pace: Sequence[float] | None = None
) -> Split:
    """At most ``resident`` bytes stay (what is fixed always does), spread evenly, so that each block that
    comes has as much computing before it as the others. ``pace``: seconds that each block computes; as long
    as its bytes where not known."""
    room = max(0, resident - blocks.fixed)
    total = sum(blocks.streamable)
    come = max(0, total - room)
    times: Sequence[float] = pace if pace is not None and any(pace) else blocks.streamable
    whole = sum(float(seconds) for seconds in times) or 1.0
    stay, owed, used = [], 0.0, 0
    for size, seconds in zip(blocks.streamable, times, strict=True):
        owed += size - come * seconds / whole
        keep = used + size <= room and owed >= size * 0.999
        if keep:
            owed -= size
            used += size
        stay.append(keep)
    for at, size in enumerate(blocks.streamable):  # what is left of the room after whole blocks
        if not stay[at] and used + size <= room:
            stay[at] = True
            used += size
    gone = [size for size, keep in zip(blocks.streamable, stay, strict=True) if not keep]
    return Split(
        stay=tuple(stay),
        resident=blocks.fixed + used,
        buffer=min((prefetch + 1) * max(gone, default=0), sum(gone)),
        ahead=prefetch,
        crossing=sum(gone),
    )


def fitted(
    blocks: Blocks, room: int, prefetch: int = PREFETCH, pace: Sequence[float] | None = None
) -> Split | None:
    """The split that holds at most ``room`` bytes and keeps as much as it can; None where none does.

    Fewer blocks ahead, before nothing fits.
    """
    if blocks.bytes <= room:
        return split(blocks, room, prefetch, pace)
    for ahead in range(prefetch, -1, -1):
        # Once the largest blocks stay, the ring is smaller, and more can stay.
        for size in sorted({*blocks.streamable}):
            made = split(blocks, room - (ahead + 1) * size, ahead, pace)
            if made.held <= room:
                return made
    return None
