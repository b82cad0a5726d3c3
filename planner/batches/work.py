"""A plan's pipeline at work on one device, for one call after the other."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from planner.api import attach
from planner.batches.foresee import Foretold
from planner.device.protocol import Device
from planner.diagnostics.diagnostic import PlanError, errors
from planner.plan.model import Plan

if TYPE_CHECKING:
    from planner.loading.call import Outcome


class Cancelled(Exception):
    """The call is not wanted any more."""


def never() -> bool:
    """Nobody stops the call."""
    return False


class Work:
    """One session, and the calls that run under it. For one thread at a time."""

    def __init__(self, plan: Plan, pipe: Any, device: Device, told: Foretold | None = None) -> None:
        """Puts ``plan`` on ``pipe``. ``told``: of the largest of its calls. Raises PlanError, with the
        pipeline as it was."""
        from planner.virtual.audit import snapshot

        self.pipe = pipe
        self._truth = snapshot(pipe) if device.name.type == "sim" else None
        call, data = (None, None) if told is None else (told.call, told.card.data)
        self.session, self.compiled = attach(plan, pipe, device, loaded_by_us=True, call=call, data=data)

    def remove(self) -> None:
        """The pipeline is as it was loaded."""
        self.session.remove()

    def call(
        self, plan: Plan, name: str, *, inline: bool = False, stops: Callable[[], bool] = never
    ) -> Outcome:
        """The call that ``plan.run`` means; where memory ran out, once more with a device that is empty.

        ``name``: what the call is called where that is told; ``inline`` as for ``call_of``; ``stops``: asked
        before each use of a component, so that a call ends within a step. Raises PlanError for whatever the
        pipeline raises and for what a simulation has against the call, Cancelled where ``stops`` said so.
        """
        outcome = self._attempted(plan, inline, stops)
        if _out_of_memory(outcome):
            print(f"{name} ran out of memory: once more, with a device that is empty", file=sys.stderr)
            del outcome  # its error holds what the call had made
            self._emptied()
            outcome = self._attempted(plan, inline, stops)
        if outcome.raised is not None:
            raise outcome.raised
        if errors(outcome.found):  # notes alone: a call that departed from the walk, and is right
            raise PlanError(outcome.found)
        return outcome

    def _attempted(self, plan: Plan, inline: bool, stops: Callable[[], bool]) -> Outcome:
        from planner.loading.call import attempt
        from planner.loading.inputs import call_of

        def stopping(what: str, name: str) -> None:
            if what == "use" and stops():
                raise Cancelled

        observers = self.session.applied.observers
        arguments = call_of(plan, self.pipe, inline=inline).arguments
        observers.append(stopping)
        try:
            outcome = attempt(self.session, plan, self.pipe, arguments, self._truth)
        finally:
            observers.remove(stopping)
        if outcome.raised is not None and isinstance(outcome.raised.__cause__, Cancelled):
            raise Cancelled
        return outcome

    def _emptied(self) -> None:
        """No weights are on the device, and the session knows what the call before took: it may leave fewer
        of them there."""
        gc.collect()
        applied = self.session.applied
        applied.state.at_home_all(applied, self.session.device.release_freed)


def _out_of_memory(outcome: Outcome) -> bool:
    import torch

    return outcome.raised is not None and isinstance(outcome.raised.__cause__, torch.OutOfMemoryError)
