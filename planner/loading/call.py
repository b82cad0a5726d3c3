"""One call of a pipeline under a plan, with a progress bar, measured, and watched where it is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p0_tool import RUN_FAILED
from planner.loading.meter import Meter
from planner.loading.progress import progress
from planner.plan.model import Plan
from planner.report.model import Measured
from planner.session.session import Session
from planner.session.verdict import judge
from planner.virtual.audit import Snapshot, audit
from planner.virtual.device import SimDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the pipeline returned, what the memory did, and what a simulation holds against it.

    ``found`` is what the simulation has against the call; empty on a real device.
    """

    result: Any
    measured: Measured
    found: tuple[Diagnostic, ...]


def call(
    session: Session, plan: Plan, pipe: Any, arguments: Mapping[str, Any], truth: Snapshot | None = None
) -> Outcome:
    """Runs ``pipe(**arguments)``. ``truth``: the weights before the session, to compare with.

    Raises PlanError for whatever the pipeline raises, with that as its cause; the memory is released.
    """
    meter = Meter(session.device)
    watched = session.device if isinstance(session.device, SimDevice) else None
    with ExitStack() as stack:
        stack.enter_context(progress(session, plan, pipe))
        seen = stack.enter_context(audit(pipe, watched, before=truth)) if watched else None
        session.observers.append(meter.observe)
        stack.callback(session.observers.remove, meter.observe)
        meter.start()
        try:
            result = pipe(**arguments)
        except PlanError:
            raise
        except Exception as error:
            notes = "; ".join(getattr(error, "__notes__", ()))
            said = f"the pipeline raised {type(error).__name__}: {error}"
            raise PlanError([finding(RUN_FAILED, said, span=plan.span, hint=notes)]) from error
        meter.stop()
    last = session.last
    assert last is not None
    measured = Measured(
        peak_weights=last.peak if seen is None else seen.peak,
        peak_allocated=meter.allocated,
        peak_reserved=meter.reserved,
        moved=last.moved,
        seconds=last.seconds,
        total=last.total,
        departures=tuple(last.departures),
        misses=None if seen is None else tuple(str(miss) for miss in seen.misses),
    )
    return Outcome(result=result, measured=measured, found=() if seen is None else judge(session, seen))
