"""What lies in a ring, and what is written over, as by asking of every two blocks whether they meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from planner.graph.ring import Ring


class Asked:
    """A ring's bytes one by one: who was written there last."""

    def __init__(self, ring: Ring, sizes: dict[int, int]) -> None:
        self.bytes = {n: set(range(ring.places[n], ring.places[n] + size)) for n, size in sizes.items()}
        self.there: set[int] = set()
        self.ahead: set[int] = set()

    def meets(self, index: int) -> list[int]:
        return [n for n, taken in self.bytes.items() if n in self.there and taken & self.bytes[index]]

    def free(self, index: int, current: int | None) -> bool:
        return not any(n in self.ahead or n == current for n in self.meets(index))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.integers(0, 11)), max_size=40),
)
def test_who_lies_there(blocks: list[int], more: int, asked: list[tuple[int, bool, int]]) -> None:
    order = sorted(range(len(blocks)), key=lambda n: (n * 7) % 12)
    sizes = {n: blocks[n] for n in order}
    ring = Ring(sizes, max(blocks) + more)
    told = Asked(ring, sizes)
    assert all(place + sizes[n] <= ring.room for n, place in ring.places.items())
    for one, ahead, other in asked:
        index, current = one % len(blocks), None if other >= len(blocks) else other
        assert ring.free(index, current) == told.free(index, current)
        gone = told.meets(index)
        assert ring.take(index, ahead=ahead) == gone
        told.there = told.there.difference(gone) | {index}
        told.ahead = told.ahead.difference(gone) | ({index} if ahead else set())
        assert set(ring.there) == told.there
        assert all(ring.has(n) == (n in told.there) for n in sizes)
        if current is not None:
            ring.runs(current)
            told.ahead.discard(current)
