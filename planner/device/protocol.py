"""The only way from a session to an accelerator: pieces of its memory, two lanes, and who refers to what.

The *compute* lane is the caller's current stream; the *copy* lane carries weights. A copy may only
start when the copy lane has waited for the compute lane's event recorded after ``alloc`` (the memory
may still be read by kernels queued earlier), and its bytes may only be read when the compute lane
has waited for an event recorded on the copy lane after it. ``planner.virtual.device`` punishes
whoever forgets either; ``planner.device.torch_device`` makes both plain stream waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

Lane = Literal["compute", "copy"]

Region = tuple[int, int, int]
"""Bytes of a piece for which references are counted: from, to, and a number for what lies there, since others
may lie there at other times."""


class Piece(Protocol):
    """One allocation. ``lasting``: while it is freed its addresses are nobody's, and what was bound over it
    is valid again when ``alloc`` gives the same piece. ``freed``: it has no memory."""

    @property
    def lasting(self) -> bool:
        """As above."""

    @property
    def freed(self) -> bool:
        """As above."""


class Device(Protocol):
    """An accelerator that a session moves weights to."""

    @property
    def name(self) -> torch.device:
        """With its index: ``cuda:0``, ``sim:0``."""

    def alloc(self, nbytes: int, label: str, owned: list[Any] | None = None) -> Any:
        """A piece of ``nbytes`` bytes for the component ``label``: a new one, or one that it had. Raises
        torch's OutOfMemoryError. It is appended to ``owned`` before it gets memory: after an
        interrupt, wherever it falls, what has to be freed is found there."""

    def free(self, piece: Any) -> None:
        """Give the piece back. Nothing bound from it may be used until ``alloc`` gives it again. A backend
        may keep its memory for the next ``alloc``, until ``release_freed``."""

    def abandon(self, piece: Any) -> None:
        """In place of ``free``, for a piece that others refer to: its memory is not given back or written
        before the last of them is gone. It counts in ``own`` until then."""

    def references(self, piece: Any, region: Region) -> int:
        """Tensors over a region: all that ``bind`` made for it, and whatever was made of those."""

    def storage_of(self, tensor: torch.Tensor) -> int:
        """What tells the storages of this device's tensors apart while they live: one for each region."""

    def release_freed(self, beside: int | None = None) -> bool:
        """What was given back goes to the driver: all, or as much as lets torch's allocator come to hold the
        bytes ``beside`` under the cap. Whether there was any."""

    def copy(self, piece: Any, offset: int, source: torch.Tensor) -> None:
        """Queue, on the copy lane, the bytes of ``source`` (1-d uint8 on the host) to ``piece[offset:]``."""

    def record(self, lane: Lane) -> Any:
        """An event after everything queued on ``lane`` so far."""

    def wait(self, lane: Lane, event: Any) -> None:
        """``lane`` goes on only after ``event``; the host does not wait."""

    def mark(self, lane: Lane = "compute") -> Any:
        """A point in time on a lane; None where the backend keeps none."""

    def passed(self, mark: Any) -> bool:
        """Whether the device has."""

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two marks; the host waits for the second."""

    def bind(self, piece: Any, offset: int, like: torch.Tensor, region: Region | None = None) -> torch.Tensor:
        """A tensor over ``piece[offset:]`` with the dtype, shape and strides of ``like``. ``region``: for
        which ``references`` will be asked; all of the piece where it is left out."""

    @property
    def own(self) -> int:
        """Bytes of the pieces in use, as the driver rounds them, and of the abandoned ones that are left."""

    @property
    def abandoned(self) -> int:
        """Bytes of pieces that are not ours any more, and that others still refer to."""

    @property
    def uncounted(self) -> int:
        """Bytes of pieces, in use or not released yet, that are in no counter of torch's allocator."""

    def allocator_reserved(self) -> int:
        """Bytes that torch's allocator holds beside the pieces: activations, and what it keeps for reuse."""

    def beyond(self) -> int:
        """Bytes of the device that are in use and neither pieces nor torch's allocator's: this process's
        context with the kernels that are loaded, and what others have there. 0 where the backend does not
        say."""

    def empty_cache(self) -> None:
        """What torch's allocator keeps for reuse goes back to the driver."""

    def oom_count(self) -> int:
        """How often torch's allocator had nothing to give, whether or not an error said so."""

    def retry_count(self) -> int:
        """How often it found room only once what it kept for reuse was given back."""

    def cap(self, nbytes: int | None) -> bool:
        """Pieces and what is beside them stay under ``nbytes`` from now on: who asks for more gets torch's
        OutOfMemoryError. None: no longer. False where the backend cannot hold its allocator to it."""

    def reserved(self) -> int:
        """Bytes that this process's allocator holds on the device, weights and activations together."""
