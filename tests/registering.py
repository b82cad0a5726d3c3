"""The part of CUDA that registers host memory, without a card."""

from __future__ import annotations


class Runtime:
    """Stands for CUDA's runtime: remembers what was registered, and refuses what is too much."""

    def __init__(self, room: int | None = None) -> None:
        self.registered: dict[int, int] = {}
        self.room = room

    def cudaHostRegister(self, address: int, nbytes: int, _flags: int) -> int:
        if self.room is not None and sum(self.registered.values()) + nbytes > self.room:
            return 2
        assert all(end <= address or address + nbytes <= start for start, end in self.spans())
        self.registered[address] = nbytes
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.registered[address]
        return 0

    def spans(self) -> list[tuple[int, int]]:
        return sorted((a, a + n) for a, n in self.registered.items())
