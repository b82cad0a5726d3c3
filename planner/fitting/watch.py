"""What a fit tells of itself while it works."""

from __future__ import annotations


class Watch:
    """Is told what is being done; this one does nothing with it. What it does changes no result."""

    def begins(self, what: str) -> None:
        """``what`` is done from now on, in words."""

    def priced(self, cost: int | None) -> None:
        """One more plan was compiled and played: microseconds that a call takes, None where it does not
        fit."""

    def bounded(self, least: int) -> None:
        """No plan of those that are compared now takes less than so many microseconds."""


NOBODY = Watch()
