"""Loops come to a round that leaves everything as it found it: what follows need not be played."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


class Rounds:
    """``turns``: of a call, in their order; those that are equal do the same."""

    def __init__(self, turns: Sequence[object]) -> None:
        """Nothing was played."""
        self._turns = turns
        self._seen: dict[Hashable, int] = {}

    def alike(self, at: int, state: Hashable) -> int:
        """Before turn ``at`` all is as ``state`` says, which decides what the turns from there on do. The
        turn up to which they do what was done since it was so before, in whole rounds; ``at`` where nothing
        is known. The last of equal rounds is played: what comes after them may begin in it."""
        before = self._seen.setdefault(state, at)
        if before == at:
            return at
        length, end = at - before, at
        while end < len(self._turns) and self._turns[end] == self._turns[end - length]:
            end += 1
        return at + max(0, (end - at) // length - 1) * length
