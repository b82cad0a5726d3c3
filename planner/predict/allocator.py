"""torch's caching allocator on a CUDA device, as numbers: what it holds of the device, and how much of that
is in use.

After c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h, whose sizes are the same in torch
2.11 and 2.13, with what these have by default: no ``max_split_size``, no garbage collection, no rounding to
powers of two; one stream, so that what is freed can be used at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager

ROUND = 512
"""kMinBlockSize: sizes are multiples of it, and what is smaller is not split off."""
SMALL = 1 << 20
"""kSmallSize: up to this many bytes come from the pool of small blocks."""
SMALL_SEGMENT = 2 << 20
"""kSmallBuffer: what that pool takes from the device at once."""
LARGE_SEGMENT = 20 << 20
"""kLargeBuffer: what the other pool takes for a block below ``LARGE``; the page of its expandable
segments."""
LARGE = 10 << 20
"""kMinLargeAlloc: from here on a segment is as large as its block, rounded up to ``ROUND_LARGE``."""
ROUND_LARGE = 2 << 20
"""kRoundLarge."""

_FIRST = 1 << 32
_SPACE = 1 << 44
"""Addresses of an expandable segment: more than any device has, so that it never ends."""
_SHIFT = 56
"""A free block's key is its size above so many bits of its address: best fit is the next key up."""

Segment = tuple[int, bool, tuple[tuple[int, bool, bool], ...]]
"""Its address, whether it is one for small blocks, and of each block the size, whether it is free, and
whether the device has memory there."""
State = tuple[int, tuple[Segment, ...]]
"""All that decides what an allocator does from now on, but for its cap: where a next segment would lie, and
the segments."""
UNLIMITED = 1 << 62
"""Bytes: of a cap that there is not."""


class NoRoom(Exception):
    """``size`` bytes were asked for; ``reserved`` were held of ``cap`` when all that is cached had been
    given back."""

    def __init__(self, size: int, reserved: int, cap: int) -> None:
        super().__init__(f"{size} bytes, with {reserved} reserved of {cap}")
        self.size, self.reserved, self.cap = size, reserved, cap


class Block:
    """Bytes of a segment between ``before`` and ``after``. ``mapped``: the device has memory there."""

    __slots__ = ("after", "at", "before", "free", "mapped", "pool", "size")

    def __init__(self, at: int, size: int, pool: _Pool, *, mapped: bool) -> None:
        self.at, self.size, self.pool, self.mapped = at, size, pool, mapped
        self.before: Block | None = None
        self.after: Block | None = None
        self.free = True


class _Pool:
    """``keys``: of free mapped blocks, sorted; ``unmapped``: by address, sorted (few)."""

    __slots__ = ("blocks", "keys", "small", "unmapped")

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.keys: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.unmapped: list[Block] = []

    def add(self, block: Block) -> None:
        key = block.size << _SHIFT | block.at
        insort(self.keys, key)
        self.blocks[key] = block

    def drop(self, block: Block) -> None:
        key = block.size << _SHIFT | block.at
        del self.keys[bisect_left(self.keys, key)]
        del self.blocks[key]

    def hide(self, block: Block) -> None:
        insort(self.unmapped, block, key=_address)

    def show(self, block: Block) -> None:
        del self.unmapped[bisect_left(self.unmapped, block.at, key=_address)]


class Allocator:
    """All figures are bytes.

    ``expandable``: as under ``expandable_segments:True``. ``cap``: the most that may be reserved, as
    ``torch.cuda.set_per_process_memory_fraction`` says it; None: no limit. ``allocated``, ``reserved``:
    now; ``peak_allocated``, ``peak_reserved``: at most since the last ``reset_peak``; ``peak_asked``: the
    least ``cap`` under which all went well since then: torch compares with it what is reserved and a whole
    new segment, where segments expand and a part would do, too; ``retries``: how
    often the cache was given back because an allocation found no room. ``sufficed``, ``lacked``: what was
    done since the last ``reset_peak`` goes as it went under any cap from the former to below the latter.
    """

    def __init__(self, *, expandable: bool = False, cap: int | None = None) -> None:
        self.expandable, self.cap = expandable, cap
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = self.retries = 0
        self.peak_asked = 0
        self.sufficed, self.lacked = 0, UNLIMITED + 1
        self._small, self._large = _Pool(small=True), _Pool(small=False)
        self._heads: dict[int, Block] = {}
        self._top = _FIRST  # segments never meet; the device's own order only breaks ties

    def alloc(self, size: int) -> Block:
        """A block of at least ``size`` bytes. Raises ``NoRoom`` where the cap leaves none, with nothing
        changed but the cache, which is given back then.
        """
        size = (size + ROUND - 1) // ROUND * ROUND or ROUND
        pool = self._small if size <= SMALL else self._large
        block = self._fit(pool, size) or self._new(pool, size)
        rest = block.size - size
        if rest > SMALL or (rest >= ROUND and (pool.small or self.expandable)):
            left = Block(block.at + size, rest, pool, mapped=True)
            left.before, left.after, block.after = block, block.after, left
            if left.after is not None:
                left.after.before = left
            block.size = size
            pool.add(left)
        block.free = False
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def free(self, block: Block) -> None:
        """Back into the cache. Raises ValueError for a block that is free already."""
        if block.free:
            raise ValueError("freed twice")
        self.allocated -= block.size
        block.free = True
        block.pool.add(_joined(block))

    def empty_cache(self) -> None:
        """``torch.cuda.empty_cache``: gives back the segments, and the pages of expandable ones, that
        nothing is in."""
        for pool in (self._large, self._small):
            for block in list(pool.blocks.values()):
                if self.expandable:
                    self._unmap(pool, block)
                elif block.before is None and block.after is None:
                    pool.drop(block)
                    del self._heads[block.at]
                    self.reserved -= block.size

    def reset_peak(self) -> None:
        """Peaks from now on."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved
        self.peak_asked = self.reserved
        self.sufficed, self.lacked = 0, UNLIMITED + 1

    @contextmanager
    def uncapped(self) -> Iterator[None]:
        """Without its cap, for a while."""
        cap, self.cap = self.cap, None
        try:
            yield
        finally:
            self.cap = cap

    @property
    def state(self) -> State:
        """As it is now."""
        return self._top, tuple(
            (head.at, head.pool.small, tuple((b.size, b.free, b.mapped) for b in _from(head)))
            for head in self._heads.values()
        )

    def become(self, state: State) -> dict[int, Block]:
        """As ``state`` was, which is of an allocator whose segments expand if this one's do. What is in use
        now and there too stays the same block. The blocks in use, by address."""
        before = {block.at: block for block in self.blocks() if not block.free}
        self._small, self._large = _Pool(small=True), _Pool(small=False)
        self._heads, self._top = {}, state[0]
        self.allocated = self.reserved = 0
        used: dict[int, Block] = {}
        for start, small, blocks in state[1]:
            at, last, pool = start, None, self._small if small else self._large
            for size, free, mapped in blocks:
                block = None if free else before.get(at)
                if block is None:
                    block = Block(at, size, pool, mapped=mapped)
                block.size, block.pool, block.mapped, block.free = size, pool, mapped, free
                block.before, block.after = last, None
                if last is None:
                    self._heads[at] = block
                else:
                    last.after = block
                if not free:
                    used[at] = block
                    self.allocated += size
                elif mapped:
                    pool.add(block)
                else:
                    pool.hide(block)
                self.reserved += size * mapped
                at, last = at + size, block
        return used

    def blocks(self) -> Iterator[Block]:
        """All there are, segment by segment, in the order of their addresses there."""
        for head in self._heads.values():
            yield from _from(head)

    def _fit(self, pool: _Pool, size: int) -> Block | None:
        keys = pool.keys
        i = bisect_left(keys, size << _SHIFT)
        if i == len(keys):
            return None
        if self.expandable:  # a block that could grow counts as what it could grow to
            while i + 1 < len(keys) and _reach(pool.blocks[keys[i + 1]]) < _reach(pool.blocks[keys[i]]):
                i += 1
        return pool.blocks.pop(keys.pop(i))

    def _new(self, pool: _Pool, size: int) -> Block:
        if pool.small:
            segment = SMALL_SEGMENT
        else:
            segment = LARGE_SEGMENT if size < LARGE else -(-size // ROUND_LARGE) * ROUND_LARGE
        self.peak_asked = max(self.peak_asked, self.reserved + segment)
        if self._lacks(segment):
            self.retries += 1
            self.empty_cache()
            if self._lacks(segment):
                assert self.cap is not None
                raise NoRoom(size, self.reserved, self.cap)
        if self.expandable:
            return self._expand(pool, size)
        self.reserved += segment
        self._note()
        return self._segment(pool, segment, mapped=True)

    def _lacks(self, segment: int) -> bool:
        """Whether the cap leaves no room for so many bytes more."""
        held = self.reserved + segment
        if self.cap is not None and held > self.cap:
            self.lacked = min(self.lacked, held)
            return True
        self.sufficed = max(self.sufficed, held)
        return False

    def _segment(self, pool: _Pool, size: int, *, mapped: bool) -> Block:
        block = Block(self._top, size, pool, mapped=mapped)
        self._top += size
        self._heads[block.at] = block
        return block

    def _note(self) -> None:
        if self.reserved > self.peak_reserved:
            self.peak_reserved = self.reserved

    def _expand(self, pool: _Pool, size: int) -> Block:
        """The lowest addresses where free and unmapped blocks are enough, mapped."""
        block = next((b for b in map(_with_free, pool.unmapped) if _enough(b, size)), None)
        if block is None:
            block = self._segment(pool, _SPACE, mapped=False)
            pool.hide(block)
        if not block.mapped:
            block = self._map(pool, block, min(block.size, size))
        while block.size < size:
            assert block.after is not None  # there is room: _enough
            block = self._map(pool, block.after, min(size - block.size, block.after.size))
        pool.drop(block)
        return block

    def _map(self, pool: _Pool, block: Block, size: int) -> Block:
        """Memory for the first ``size`` bytes of an unmapped block, in whole pages; what is free beside it
        joins."""
        page = SMALL_SEGMENT if pool.small else LARGE_SEGMENT
        size = min(-(-size // page) * page, block.size)
        pool.show(block)
        if size < block.size:
            pool.hide(_split(block, size, mapped=False))
        block.mapped = True
        self.reserved += size
        self._note()
        block = _joined(block)
        pool.add(block)
        return block

    def _unmap(self, pool: _Pool, block: Block) -> None:
        """Takes memory from the whole pages of a free block."""
        page = SMALL_SEGMENT if pool.small else LARGE_SEGMENT
        base = self._base(block)
        start = -(-(block.at - base) // page) * page + base
        end = (block.at + block.size - base) // page * page + base
        if end <= start:
            return
        pool.drop(block)
        self.reserved -= end - start
        if block.at + block.size > end:
            pool.add(_split(block, end - block.at, mapped=True))
        if start > block.at:
            whole = _split(block, start - block.at, mapped=True)
            pool.add(block)
            block = whole
        block.mapped = False
        pool.hide(_joined(block))

    @staticmethod
    def _base(block: Block) -> int:
        """Where its segment begins: expandable ones are all of one size."""
        return (block.at - _FIRST) // _SPACE * _SPACE + _FIRST


def _from(head: Block) -> Iterator[Block]:
    at: Block | None = head
    while at is not None:
        yield at
        at = at.after


def _joined(block: Block) -> Block:
    """``block``, free and in no list, with free neighbours of its kind taken from theirs: the first of them
    is what remains."""
    before, after = block.before, block.after
    if before is not None and before.free and before.mapped is block.mapped:
        _take(before)
        before.size += block.size
        before.after = after
        if after is not None:
            after.before = before
        block = before
    if after is not None and after.free and after.mapped is block.mapped:
        _take(after)
        block.size += after.size
        block.after = after.after
        if after.after is not None:
            after.after.before = block
    return block


def _take(block: Block) -> None:
    if block.mapped:
        block.pool.drop(block)
    else:
        block.pool.show(block)


def _split(block: Block, size: int, *, mapped: bool) -> Block:
    """Leaves ``block`` its first ``size`` bytes; gives what follows, in no list yet."""
    rest = Block(block.at + size, block.size - size, block.pool, mapped=mapped)
    rest.before, rest.after, block.after = block, block.after, rest
    if rest.after is not None:
        rest.after.before = rest
    block.size = size
    return rest


def _address(block: Block) -> int:
    return block.at


def _reach(block: Block) -> int:
    after = block.after
    return block.size + (after.size if after is not None and not after.mapped else 0)


def _with_free(block: Block) -> Block:
    """The unmapped ``block``, or the free one before it that can grow into it."""
    return block.before if block.before is not None and block.before.free else block


def _enough(block: Block, size: int) -> bool:
    at: Block | None = block
    while at is not None and at.free and size > 0:
        size -= at.size
        at = at.after
    return size <= 0
