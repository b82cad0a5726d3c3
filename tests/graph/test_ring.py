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

    def below(self, index: int) -> list[int]:
        return [n for n, taken in self.bytes.items() if n in self.there and taken & self.bytes[index]]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.none() | st.integers(0, 11))), max_size=40),
)
def test_who_lies_there(blocks: list[int], more: int, asked: list[tuple[int, set[int | None]]]) -> None:
    order = sorted(range(len(blocks)), key=lambda n: (n * 7) % 12)
    sizes = {n: blocks[n] for n in order}
    ring = Ring(sizes, max(blocks) + more)
    told = Asked(ring, sizes)
    assert all(place + sizes[n] <= ring.room for n, place in ring.places.items())
    for one, others in asked:
        index = one % len(blocks)
        assert ring.meets(index, others) == any(n in others for n in told.below(index))
        gone = told.below(index)
        assert ring.take(index) == gone
        told.there = told.there.difference(gone) | {index}
        assert set(ring.there) == told.there
        assert all(ring.has(n) == (n in told.there) for n in sizes)
