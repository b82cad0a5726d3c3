"""Whose host memory is pinned first, where the budget or the machine does not allow all of it, and how much
of it the budget allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from planner.graph.model import Placement
from planner.schedule.model import Course, Step
from planner.target.extents import PIECE


def pin_order(
    course: Course,
    placements: Mapping[str, Placement],
    host: Mapping[str, int | None],
    steps: Iterable[Step],
) -> tuple[str, ...]:
    """Components by how often their bytes, ``host`` in all, cross in a call.

    What streams in a loop crosses at every step; then who is loaded more often, and the larger of two. Who
    never leaves crosses once, when the plan is applied, and is last.
    """
    again = {name for node in course.walk if node.loop is not None for name in node.components}
    for group in course.repeats:
        again.update(name for node in course.walk[group.first : group.last + 1] for name in node.components)
    # The rest of who came early is no second time.
    comes = [s for s in steps if s.do in ("load", "prefetch")]
    rest = [s for s in comes if s.do == "load" and s.bytes != course.sizes.get(s.component)]
    loads = Counter(s.component for s in comes)
    loads.subtract(s.component for s in rest)

    def rank(name: str) -> tuple[bool, bool, int, int]:
        every_step = placements[name].streams and name in again
        return name in course.fixed, not every_step, -loads[name], -(host[name] or 0)

    return tuple(sorted(placements, key=rank))


def pinned(
    order: Iterable[str], host: Mapping[str, int | None], limit: int
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Of each component what is registered under ``limit``, in bytes from its first on, begin and end: piece
    by piece, as ``planner.device.pinned`` does."""
    found: dict[str, tuple[tuple[int, int], ...]] = {}
    left = limit
    for name in order:
        size, pieces = host.get(name) or 0, []
        for begin in range(0, size, PIECE):
            end = min(size, begin + PIECE)
            if end - begin <= left:
                pieces.append((begin, end))
                left -= end - begin
        found[name] = tuple(pieces)
    return found
