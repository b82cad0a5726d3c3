"""A device's memory during a call, without a device: pieces of weights beside torch's allocator, under a cap.

By the rules of ``planner.device.torch_device`` on CUDA: pieces come from the driver in whole pages, what is
freed is used again where the cap leaves no other memory, and torch's allocator may hold what the pieces leave
of the cap, in segments that expand.
"""

from __future__ import annotations

from planner.predict.allocator import SMALL_SEGMENT, Allocator
from planner.schedule.estimate import SLACK

PAGE = 2 << 20
"""Bytes: the driver hands out multiples of them."""

MOST = 4 * SMALL_SEGMENT
"""Bytes of the cap that are not counted on, at most: half of what a session leaves free. Replayed with the
allocations of a real call, the model is within one segment for small blocks (2 MiB; H200, torch 2.11): what
fits by less may not."""

CHUNK = 128 << 20
"""Bytes that are asked of the driver at once, and given back: as in ``planner.device.memory``."""


class NoMemory(Exception):
    """Pieces of so many bytes do not fit under the cap."""


class Memory:
    """What ``planner.schedule.estimate.Memory`` asks of a device.

    ``allocator``: torch's, for everything but pieces. Bytes of pieces: ``live`` in use; ``spare``, without
    addresses, for the next ones; between them those that were freed and are mapped, because the device may
    still run on them.
    """

    abandoned = 0

    def __init__(self, cap: int | None) -> None:
        """Holds nothing. ``cap``: bytes of pieces and of what torch's allocator reserves, together; without
        one the allocator's segments do not expand."""
        self.allocator = Allocator(expandable=cap is not None)
        self.live = 0
        self.spare = 0
        self.most = 0
        """Of pieces and reserved bytes together, since it was last set to 0."""
        self._lately = 0
        self._leaving: list[tuple[int, float]] = []
        """Freed pieces, the oldest first: bytes, and when the device is done with them."""
        self._unmapped, self._after = 0, 0.0
        self._cap: int | None = None
        self.cap(cap)

    @property
    def own(self) -> int:
        """Of pieces in use."""
        return self.live

    @property
    def pieces(self) -> int:
        """Of pieces, in use or not."""
        return self.live + self.spare + sum(size for size, _ in self._leaving)

    @property
    def held(self) -> int:
        """Of the driver, now."""
        return self.pieces + self.allocator.reserved

    def allocator_reserved(self) -> int:
        """Beside the pieces."""
        return self.allocator.reserved

    def beyond(self) -> int:
        """It is not asked: what the context takes is the card's to say."""
        return 0

    def oom_count(self) -> int:
        """As torch counts: failed allocations, each of which is tried once more."""
        return self.allocator.retries

    def retry_count(self) -> int:
        """As torch counts."""
        return self.allocator.retries

    def cap(self, nbytes: int | None) -> bool:
        """Whether there is one."""
        self._cap = nbytes
        self._hold()
        return nbytes is not None

    def alloc(self, nbytes: int) -> int:
        """A piece; returns the bytes that it takes. Raises ``NoMemory`` where the cap leaves no room, with
        what was kept for reuse given back."""
        size = -(-max(nbytes, 1) // PAGE) * PAGE
        over = self._drained(size)
        while self._leaving and (self._cap is None or over > 0):
            self._unmap_oldest()
            over = self._drained(size)
        if over > 0:
            self.release_freed()
            self.empty_cache()
        if (over := self._over(size)) > 0:
            raise NoMemory(f"{size} bytes of weights pass the cap by {over}")
        self.spare -= min(self.spare, size)
        self.live += size
        self._hold()
        self.note()
        return size

    def free(self, size: int, after: float = 0.0) -> None:
        """A piece, on which the device runs until ``after``."""
        self.live -= size
        self._leaving.append((size, after))

    def unmapped(self) -> tuple[int, float]:
        """Bytes that were unmapped since this was asked last, and until when the device ran on them."""
        found, self._unmapped, self._after = (self._unmapped, self._after), 0, 0.0
        return found

    def release_freed(self, beside: int | None = None) -> int:
        """What is freed goes, the oldest first: all, or as much as lets the allocator come to hold ``beside``
        bytes. How many bytes that were."""
        need = None
        if beside is not None and self._cap is not None:
            need = max(0, self.pieces + beside - self._cap)
        gone = 0
        while need is None or gone < need:
            gone += self._drain(None if need is None else need - gone)
            if not self._leaving or (need is not None and gone >= need):
                break
            self._unmap_oldest()
        self._hold()
        return gone

    def empty_cache(self) -> None:
        """As ``torch.cuda.empty_cache``."""
        self.allocator.empty_cache()

    def note(self, reserved: int | None = None) -> None:
        """The most that was held: now, or with so much ``reserved``."""
        now = self.allocator.reserved if reserved is None else reserved
        self._lately = max(self._lately, self.pieces + now)
        self.most = max(self.most, self._lately)

    def lately(self) -> int:
        """The most that was held since this was asked last."""
        found, self._lately = max(self._lately, self.held), 0
        return found

    def _unmap_oldest(self) -> None:
        size, after = self._leaving.pop(0)
        self.spare += size
        self._unmapped += size
        self._after = max(self._after, after)

    def _drain(self, nbytes: int | None) -> int:
        """So much of what is spare goes to the driver, in whole chunks; None: all of it."""
        gone = self.spare if nbytes is None else min(self.spare, -(-max(0, nbytes) // CHUNK) * CHUNK)
        self.spare -= gone
        return gone

    def _drained(self, size: int) -> int:
        """``_over``, once what is spare and of no use for ``size`` has gone, as far as that helps."""
        over = self._over(size)
        gone = min(max(0, self.spare - size), max(0, over))
        self.spare -= gone
        return over - gone

    def _over(self, size: int) -> int:
        return 0 if self._cap is None else self.held + max(0, size - self.spare) - self._cap

    def _hold(self) -> None:
        if self._cap is None:
            self.allocator.cap = None
        else:
            slack = min(MOST, self._cap // SLACK // 2)
            self.allocator.cap = max(0, self._cap - self.pieces - slack)
