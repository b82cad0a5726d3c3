"""A device's memory during a call, without a device: pieces of weights beside torch's allocator, under a cap.

By the rules of ``planner.device.torch_device`` on CUDA: pieces come from the driver in whole pages, what is
freed is spare until it is used again or given back, and torch's allocator may hold what the pieces leave of
the cap, in segments that expand.
"""

from __future__ import annotations

from planner.predict.allocator import Allocator

PAGE = 2 << 20
"""Bytes: the driver hands out multiples of them."""


class NoMemory(Exception):
    """Pieces of so many bytes do not fit under the cap."""


class Memory:
    """What ``planner.schedule.estimate.Memory`` asks of a device.

    ``live``, ``spare``: bytes of pieces in use, and of freed ones that were not given back; ``allocator``:
    torch's, for everything else.
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
        self._cap: int | None = None
        self.cap(cap)

    @property
    def own(self) -> int:
        """Of pieces in use."""
        return self.live

    @property
    def held(self) -> int:
        """Of the driver, now."""
        return self.live + self.spare + self.allocator.reserved

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
        if self._over(size) > 0:
            self.spare -= min(self.spare, self._over(size))
        if self._over(size) > 0:
            self.release_freed()
            self.empty_cache()
        if self._over(size) > 0:
            raise NoMemory(f"{size} bytes of weights pass the cap by {self._over(size)}")
        self.spare -= min(self.spare, size)
        self.live += size
        self._hold()
        self.note()
        return size

    def free(self, size: int) -> None:
        """A piece is spare from now on."""
        self.live -= size
        self.spare += size

    def release_freed(self, beside: int | None = None) -> int:
        """What is spare goes: all, or as much as lets the allocator come to hold ``beside`` bytes. How many
        bytes that were."""
        gone = self.spare
        if beside is not None and self._cap is not None:
            gone = min(gone, max(0, self.live + self.spare + beside - self._cap))
        self.spare -= gone
        self._hold()
        return gone

    def empty_cache(self) -> None:
        """As ``torch.cuda.empty_cache``."""
        self.allocator.empty_cache()

    def note(self, reserved: int | None = None) -> None:
        """The most that was held: now, or with so much ``reserved``."""
        now = self.allocator.reserved if reserved is None else reserved
        self.most = max(self.most, self.live + self.spare + now)

    def _over(self, size: int) -> int:
        if self._cap is None:
            return 0
        return self.held + max(0, size - self.spare) - self._cap

    def _hold(self) -> None:
        self.allocator.cap = None if self._cap is None else max(0, self._cap - self.live - self.spare)
