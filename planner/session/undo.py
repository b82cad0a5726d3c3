"""What takes back what was done, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """Steps, taken back in reverse. Each must be one that may be taken twice: a step is forgotten only after
    it returned, so that ``close`` goes on where an interrupted one stopped."""

    def __init__(self) -> None:
        """Nothing to take back."""
        self._steps: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        """Whether anything is left to take back."""
        return bool(self._steps)

    def add(self, step: Callable[[], object]) -> Callable[[], object]:
        """Before what it takes back is done. Returns it, for ``remove``."""
        self._steps.append(step)
        return step

    def remove(self, step: Callable[[], object]) -> None:
        """It is not needed any more."""
        if step in self._steps:
            self._steps.remove(step)

    def close(self) -> None:
        """Takes all of it back. Raises what a step raises, after all others: that one is left, and an
        interrupt leaves the one that it fell into, with those that were not reached."""
        failed: list[Exception] = []
        for at in reversed(range(len(self._steps))):
            try:
                self._steps[at]()
            except Exception as error:
                failed.append(error)
            else:
                del self._steps[at]
        if failed:
            raise failed[0]
