"""What of a streamed component stays on the device while it is in use, and what comes and goes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    blocks: Blocks,
    resident: int,
    prefetch: int = PREFETCH,
    pace: Sequence[float] | None = None,
    anyway: Collection[int] = (),
) -> Split:
    """At most ``resident`` bytes stay (what is fixed always does, and the blocks ``anyway``), spread evenly,
    so that each block that comes has as much computing before it as the others. ``pace``: seconds that each
    block computes; as long as its bytes where not known."""
    free = [n for n in range(len(blocks.streamable)) if n not in anyway]
    times: Sequence[float] = pace if pace is not None and any(pace) else blocks.streamable
    whole = sum(float(times[n]) for n in free) or 1.0
    fixed = blocks.bytes - sum(blocks.streamable[n] for n in free)
    room = max(0, resident - fixed)
    come = max(0, blocks.bytes - fixed - room)
    stay, owed, used = [True] * len(blocks.streamable), 0.0, 0
    for n in free:
        size = blocks.streamable[n]
        owed += size - come * times[n] / whole
        stay[n] = used + size <= room and owed >= size * 0.999
        if stay[n]:
            owed -= size
            used += size
    for n in free:  # what is left of the room after whole blocks
        if not stay[n] and used + blocks.streamable[n] <= room:
            stay[n] = True
            used += blocks.streamable[n]
    gone = [size for size, keep in zip(blocks.streamable, stay, strict=True) if not keep]
    return Split(
        stay=tuple(stay),
        resident=fixed + used,
        buffer=min((prefetch + 1) * max(gone, default=0), sum(gone)),
        ahead=prefetch,
        crossing=sum(gone),
    )


def fitted(
    blocks: Blocks,
    room: int,
    prefetch: int = PREFETCH,
    pace: Sequence[float] | None = None,
    anyway: Collection[int] = (),
) -> Split | None:
    """The split that holds at most ``room`` bytes and keeps as much as it can, the blocks ``anyway`` among
    it; None where none does.

    Fewer blocks ahead, before nothing fits.
    """
    if blocks.bytes <= room:
        return split(blocks, room, prefetch, pace)
    sizes = sorted({size for n, size in enumerate(blocks.streamable) if n not in anyway})
    for ahead in range(prefetch, -1, -1):
        # Once the largest blocks stay, the ring is smaller, and more can stay.
        for size in sizes:
            made = split(blocks, room - (ahead + 1) * size, ahead, pace, anyway)
            if made.held <= room:
                return made
    return None
