"""Uses that were played before: many plans for one call play the same ones, from the same state of torch's
allocator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.predict.allocator import UNLIMITED, Allocator, Block, NoRoom, State
from planner.predict.pace import spread
from planner.predict.replay import Use, play
from planner.predict.streamed import Forwards, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    """What became of a use under any cap from ``sufficed`` up to less than ``lacked``. ``left``: addresses of
    the blocks that it leaves, in their order; ``lacks``: what it found no room for, with how much reserved,
    in which case it leaves none; the others as ``Allocator`` has them, of this use alone."""

    sufficed: int
    lacked: int
    state: State
    left: tuple[int, ...]
    lacks: tuple[int, int] | None
    peaks: tuple[int, int, int]
    retries: int


class Replays:
    """``play`` of ``planner.predict.replay``, each use once from each state of an allocator; every result is
    as if it were played. ``forwards``: of components, each written down once."""

    def __init__(self) -> None:
        """Nothing was played."""
        self.forwards = Forwards()
        self._spread: dict[tuple[int, int, int], tuple[Sequence[Work], tuple[Work, ...]]] = {}
        self._played: dict[tuple[int, bool, State], list[_Played]] = {}
        self._uses: dict[int, Use] = {}

    def spread(self, work: tuple[Work, ...], traced: int, there: int) -> tuple[Work, ...]:
        """As ``planner.predict.pace`` does, the same one each time."""
        key = (id(work), traced, there)
        if key not in self._spread:
            self._spread[key] = work, spread(work, traced, there)
        return self._spread[key][1]

    def play(self, allocator: Allocator, use: Use) -> list[Block]:
        """As there, and it raises what that raises."""
        cap = UNLIMITED if allocator.cap is None else allocator.cap
        self._uses[id(use)] = use  # while it lives, no other one has its number
        known = self._played.setdefault((id(use), allocator.expandable, allocator.state), [])
        for one in known:
            if one.sufficed <= cap < one.lacked:
                return _again(allocator, one, cap)
        peaks, retries, lacks = _peaks(allocator), allocator.retries, None
        left: list[Block] = []
        allocator.reset_peak()
        allocator.peak_asked = 0  # what is reserved now may be more than was ever asked for
        try:
            left = play(allocator, use)
        except NoRoom as error:
            lacks = error
        known.append(
            _Played(
                sufficed=allocator.sufficed,
                lacked=allocator.lacked,
                state=allocator.state,
                left=tuple(block.at for block in left),
                lacks=None if lacks is None else (lacks.size, lacks.reserved),
                peaks=_peaks(allocator),
                retries=allocator.retries - retries,
            )
        )
        _note(allocator, peaks)
        if lacks is not None:
            raise lacks
        return left


def _again(allocator: Allocator, played: _Played, cap: int) -> list[Block]:
    used = allocator.become(played.state)
    allocator.retries += played.retries
    _note(allocator, played.peaks)
    if played.lacks is not None:
        raise NoRoom(*played.lacks, cap)
    return [used[at] for at in played.left]


def _peaks(allocator: Allocator) -> tuple[int, int, int]:
    return allocator.peak_allocated, allocator.peak_reserved, allocator.peak_asked


def _note(allocator: Allocator, peaks: tuple[int, int, int]) -> None:
    """It came to ``peaks`` too."""
    allocator.peak_allocated = max(allocator.peak_allocated, peaks[0])
    allocator.peak_reserved = max(allocator.peak_reserved, peaks[1])
    allocator.peak_asked = max(allocator.peak_asked, peaks[2])
