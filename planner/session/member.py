"""One component under a session: how it comes to the device, how much of it stays, and how it leaves."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch

from planner.device.pinned import Pins
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p7_session import COMPILED_WHOLE
from planner.graph.flow import quickest
from planner.graph.model import Placement
from planner.graph.split import PREFETCH, Split, split
from planner.plan.model import Policy
from planner.session.headroom import Headroom
from planner.session.host import Master
from planner.session.placed import Placed
from planner.target.blocks import compiled


class Member:
    """Holds no reference that would keep the pipeline alive. ``here``: it is on the device."""

    def __init__(
        self,
        name: str,
        module: torch.nn.Module,
        placement: Placement | None,
        *,
        fixed: bool,
        whole: bool,
        left: bool,
    ) -> None:
        """``fixed``: it stays between calls; ``whole``: it is moved with ``module.to``; ``left``: not at all.
        ``placement``: None for a component that the plan's target does not have."""
        self.name = name
        self.fixed = fixed
        self.whole = whole
        self.left = left
        self.master: Master | None = None
        self.bound: Placed | None = None
        self.here = left
        self.moving = False
        self.heedful = False
        self._placement = placement
        self._chosen: tuple[object, Split] | None = None
        self._module = weakref.ref(module)

    @property
    def module(self) -> torch.nn.Module | None:
        """The component, or None when it is gone."""
        return self._module()

    @property
    def rebuilt(self) -> bool:
        """Whether something was put into it since it was laid out."""
        module = self.module
        return module is not None and self.master is not None and self.master.rebuilt(module)

    @property
    def early(self) -> bool:
        """Some of it came early, and the rest has yet to come."""
        return self.bound is not None and self.bound.early

    @property
    def nbytes(self) -> int:
        """Bytes that are held for it on the device, where the session placed it itself."""
        return 0 if self.bound is None else self.bound.nbytes

    def prepare(self, pins: Pins) -> None:
        """Packs and registers its host memory, so that no call has to; again when its tensors are others."""
        module = self.module
        if module is None or self.whole or self.left:
            return
        if self.master is None or self.master.stale(module):
            self.master = Master(module, pins)
            self._chosen = None

    def held(self, headroom: Headroom) -> int | None:
        """Bytes on the device when it is in use, as it would be loaded now; None when that is not known."""
        if self.master is None:
            return None
        made = self._split(headroom)
        return self.master.nbytes if made is None else made.held

    def incoming(self, headroom: Headroom) -> int | None:
        """Bytes that are still to come, for it to run; None when that is not known."""
        if self.bound is None:
            return self.held(headroom)
        grown = self.held(headroom) if self.bound.grows(self._split(headroom)) else None
        return (self.bound.full if grown is None else grown) - self.bound.nbytes

    def bring(
        self,
        device: Device,
        pins: Pins,
        headroom: Headroom,
        moved: Callable[[int], None],
        entry: str = "",
        early: int | None = None,
    ) -> None:
        """To the device, to run through ``entry``; ``moved`` is told of the bytes that are copied. ``early``:
        at most so many bytes of it, and the rest by ``complete``. Raises torch's OutOfMemoryError with
        the component where it was, and PlanError for one that streams and was compiled whole."""
        module = self.module
        if module is None:
            return
        if self.whole:
            self._move(device.name)
        else:
            self.prepare(pins)
            streams = self._placement is not None and self._placement.policy is Policy.STREAM
            if streams and compiled(module):
                said = f'component "{self.name}" streams by the plan, and it was compiled whole'
                raise PlanError([finding(COMPILED_WHOLE, said)])
            assert self.master is not None
            part = self._split(headroom)
            self.bound = Placed(
                self.master,
                device,
                self.name,
                part,
                moved,
                entry=entry,
                heedful=self.heedful,
                early=early,
                grain=headroom.grain,
            )
        self.here = True

    def complete(self, headroom: Headroom) -> None:
        """The rest of it comes, and more of it stays where there is room for that by now. Raises torch's
        OutOfMemoryError with what was there as it was."""
        assert self.bound is not None
        if self.bound.grows(split := self._split(headroom)):
            self.bound.grow(split)
        if self.bound.early:
            self.bound.complete()

    def leave(self) -> None:
        """From the device. What was changed there comes home."""
        self.here = False
        if self.bound is not None:
            bound, self.bound = self.bound, None
            bound.release()
        elif self.whole:
            self._move(torch.device("cpu"))

    def heed(self) -> None:
        """All of its modules are watched from now on."""
        self.heedful = True
        if self.bound is not None:
            self.bound.heed()

    def unmoved_by(self, fn: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> bool:
        """Whether ``fn`` would return the device's tensors as they are (``vae.to(dtype=...)`` of the dtype
        that it has already)."""
        slots = self.master.slots if self.master is not None else []
        dtypes = {slot.host.dtype for batch in slots for slot in batch}
        probes = [torch.empty(0, dtype=dtype, device=device) for dtype in dtypes]
        with torch.no_grad():
            return bool(probes) and all(fn(probe) is probe for probe in probes)

    def _split(self, headroom: Headroom) -> Split | None:
        """What of it stays: as planned, or as the activations of the last call allow; made again when its
        weights are no longer those that were planned. None: all of it."""
        if self._placement is None or self.master is None:
            return None
        planned, blocks = self._placement.split, self.master.blocks
        room = headroom.room(self.name, self._placement.room)
        if room is not None:
            ahead = PREFETCH if planned is None else planned.ahead
            depths = (ahead,) if self._placement.prefetch is not None else (ahead, ahead + 1)
            pace = self.master.pace()
            asked = (room, tuple(pace.items()))
            if self._chosen is None or self._chosen[0] != asked:
                tries = (() if self.bound is None else self.bound.stays, ())
                found = (quickest(blocks, room, depths, pace, anyway) for anyway in tries)
                self._chosen = (asked, next(filter(None, found), split(blocks, 0, 0)))
            return self._chosen[1] if self._chosen[1].buffer else None
        if planned is None or not planned.buffer:
            return None
        if len(planned.stay) == len(blocks.streamable):
            return planned
        return split(blocks, planned.resident, planned.ahead)

    def _move(self, device: torch.device) -> None:
        module = self.module
        if module is None:
            return
        self.moving = True
        try:
            module.to(device)
        finally:
            self.moving = False
