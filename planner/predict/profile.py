"""A call as it was traced: what each use of a component allocates and computes. No weights, no device.

A profile depends on the components' configs, the arguments of the call, the versions of torch and diffusers,
and on the kernels that a card's generation runs (which attention, which scratch); not on a card's speed or
size, nor on a plan's policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from planner.predict.replay import rooms

Kind = Literal["matmul", "conv", "attention", "memory"]
"""Classes of operations by what bounds them: ``memory`` are those that read and write and compute little."""


@dataclass(frozen=True, slots=True)
class Operation:
    """``flops``: a multiplication and an addition count two; ``bytes``: read and written on the device;
    ``shape``: by which a card's table of measured rates may know it (a matmul's batch, m, n, k; an
    attention's batch, heads, queries, keys, head size; a convolution's batch, channels in and out, positions
    of its output, kernel volume; a group norm's, which is ``memory``, batch, channels, positions)."""

    kind: Kind
    dtype: str
    flops: int
    bytes: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a use. ``block``: the path of the module in which it runs, one of those whose weights may
    come and go, "" outside of them all; ``work``: indices into the use's ``operations`` and how often each
    runs."""

    block: str
    work: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A component's weights on the device, in bytes. ``fixed``: there whenever it is in use; ``blocks``: path
    and bytes of each block that may come and go, as ``planner.target.model.Blocks`` has them; ``tensors``:
    how many there are in what is fixed, and in each block."""

    fixed: int
    blocks: tuple[tuple[str, int], ...] = ()
    tensors: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UseProfile:
    """One distinct use: a component's entry ("" for ``forward``) with inputs of certain shapes.

    ``inputs``: bytes of the tensors that it is given, on the device; ``output``: bytes that stay when it is
    over; ``room``: bytes that torch's allocator must be let have for it, beside what is held already, in
    segments that expand. ``weights``: the component's, where the pipeline had cast them before (SDXL's VAE to
    float32); None while they are as loaded. ``events``: positive numbers allocate so many bytes (multiples of
    512, as torch's allocator rounds), ``-k`` frees the allocation made ``k`` allocations before (1: the
    latest); inputs are no events.
    ``scratch``: which allocations, by number from 0, a library can do without where memory is short (it takes
    another kernel).
    ``signature``: by which a run knows whether its first use is this one, "" where that is not known;
    ``notes``: what had to be assumed, in words. ``pace``: a factor on the seconds that a card's rates give
    it; ``measured``: what of it is as a run measured it (``planner.predict.calibration``). Neither is stored.
    """

    component: str
    entry: str = ""
    signature: str = ""
    inputs: int = 0
    output: int = 0
    room: int = 0
    events: tuple[int, ...] = ()
    scratch: frozenset[int] = frozenset()
    operations: tuple[Operation, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    weights: Weights | None = None
    pace: float = 1.0
    measured: frozenset[str] = frozenset()

    def live(self, *, scratch: bool = True) -> Iterator[int]:
        """Bytes allocated after each event, without inputs. ``scratch``: with what could be done without."""
        sizes: list[int] = []
        now = 0
        for event in self.events:
            if event > 0:
                size = event if scratch or len(sizes) not in self.scratch else 0
                sizes.append(size)
                now += size
            else:
                now -= sizes[event]
                sizes[event] = 0
            yield now

    def peak(self, *, scratch: bool = True) -> int:
        """The most bytes allocated at once beside weights and inputs."""
        return self._peaks[0] if scratch else self._peaks[1]

    @cached_property
    def _peaks(self) -> tuple[int, int]:
        return max(self.live(), default=0), max(self.live(scratch=False), default=0)


@dataclass(frozen=True, slots=True)
class Turn:
    """One use in the order of the call. ``use``: index into the profile's ``uses``; ``held``: bytes on the
    device that the pipeline itself keeps when the use begins (latents, embeddings), its inputs among them,
    and what a call before it left there (a scheduler's state, tables that modules keep). ``glue``: how it
    comes to be there, from the end of the use before, whose outputs come first: positive numbers allocate so
    many bytes, ``-k`` frees the allocation made ``k`` allocations before, in this turn's or an earlier one's
    events (1: the latest)."""

    use: int
    held: int
    glue: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CallProfile:
    """A whole call. ``steps``: how many denoising steps were traced (few: they are alike); ``arguments``:
    of the call, as far as they decide shapes; ``kernels``: by whose rules (a card's ``kernels``);
    ``weights``: of each component that has any, quantized ones as if they were not; ``workspace``: bytes that
    libraries allocate at their first call and keep. ``calibration``: the digest of what was measured of it
    (``planner.predict.calibration``), "" where nothing was; it is not stored."""

    pipeline: str
    arguments: Mapping[str, object]
    kernels: str
    versions: Mapping[str, str]
    steps: int
    uses: tuple[UseProfile, ...]
    turns: tuple[Turn, ...]
    weights: Mapping[str, Weights] = field(default_factory=dict)
    workspace: int = 0
    notes: tuple[str, ...] = ()
    calibration: str = ""

    @cached_property
    def rooms(self) -> Mapping[str, int]:
        """Of each component, the bytes that torch's allocator asks for while its uses follow each other, with
        what the pipeline itself has on the device."""
        turns = [(turn, self.uses[turn.use].component, self.uses[turn.use]) for turn in self.turns]
        return rooms(turns, self.workspace)
