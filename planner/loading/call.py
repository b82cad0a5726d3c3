"""One call of a pipeline under a plan, with a progress bar, measured, and watched where it is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p0_tool import RUN_FAILED
from planner.loading.lacking import lacking
from planner.loading.meter import Meter
from planner.loading.progress import progress
from planner.loading.recorder import Recorder
from planner.plan.model import Plan
from planner.predict.forecast import Forecast
from planner.report.model import Ended, Measured
from planner.schedule.card import Card
from planner.session.session import Session
from planner.session.verdict import judge
from planner.virtual.audit import Audit, Snapshot, audit
from planner.virtual.device import SimDevice

ENDED = {"interrupted": "was interrupted", "failed": "failed", "done": "ended"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the pipeline returned, what the memory did, and what a simulation holds against it.

    ``found`` is what the simulation has against the call; empty on a real device. ``raised``: what the call
    ended with in place of a ``result``; ``measured`` is then of what ran, None where nothing did.
    ``over_time``: the call as it went, where that was asked for.
    """

    result: Any
    measured: Measured | None
    found: tuple[Diagnostic, ...]
    raised: BaseException | None = None
    over_time: Forecast | None = None


def call(
    session: Session, plan: Plan, pipe: Any, arguments: Mapping[str, Any], truth: Snapshot | None = None
) -> Outcome:
    """``attempt``, which must succeed. Raises PlanError for whatever the pipeline raises, with that as its
    cause."""
    outcome = attempt(session, plan, pipe, arguments, truth)
    if outcome.raised is not None:
        raise outcome.raised
    return outcome


def attempt(
    session: Session,
    plan: Plan,
    pipe: Any,
    arguments: Mapping[str, Any],
    truth: Snapshot | None = None,
    *,
    over_time: bool = False,
    card: Card | None = None,
) -> Outcome:
    """Runs ``pipe(**arguments)``. ``truth``: the weights before the session, to compare with; ``over_time``:
    the call is recorded, on a device that was ``card`` before.

    Whatever the pipeline raises is in the outcome, an interrupt too: PlanError with that as its cause for an
    exception; the memory is released. Raises nothing of the pipeline's.
    """
    meter = Meter(session.device)
    recorder = Recorder(session, meter, card) if over_time else None
    watched = session.device if isinstance(session.device, SimDevice) else None
    result, seen = None, None
    raised: BaseException | None = None
    try:
        with ExitStack() as stack:
            stack.enter_context(progress(session, plan, pipe))
            seen = stack.enter_context(audit(pipe, watched, before=truth)) if watched else None
            session.applied.observers.append(meter.observe)
            stack.callback(session.applied.observers.remove, meter.observe)
            meter.start()
            if recorder is not None:
                stack.enter_context(recorder.recording())
            result = pipe(**arguments)
            meter.stop()
    except (PlanError, KeyboardInterrupt) as error:
        raised = error
    except Exception as error:
        raised = _failed(plan, pipe, arguments, error)
        raised.__cause__ = error
    if raised is None:
        found = () if seen is None else judge(session, seen)
        return Outcome(
            result=result,
            measured=_measured(session, meter, seen, "done"),
            found=found,
            over_time=recorder.forecast() if recorder is not None else None,
        )
    ended: Ended = "interrupted" if isinstance(raised, KeyboardInterrupt) else "failed"
    # What the audit saw is judged at its end only: the ledger of a call that broke off is no promise's.
    measured = _measured(session, meter, None, ended) if session.applied.last is not None else None
    course = _until_then(recorder, ended) if recorder is not None and measured is not None else None
    return Outcome(result=None, measured=measured, found=(), raised=raised, over_time=course)


def _until_then(recorder: Recorder, ended: Ended) -> Forecast | None:
    """Of a call that broke off; None where the device does not answer any more."""
    try:
        course = recorder.forecast()
    except RuntimeError:
        return None
    return replace(course, notes=(f"the call {ENDED[ended]}: this is what ran", *course.notes))


def _measured(session: Session, meter: Meter, seen: Audit | None, ended: Ended) -> Measured:
    last = session.applied.last
    assert last is not None
    return Measured(
        peak_weights=last.peak if seen is None else seen.peak,
        peak_allocated=meter.allocated,
        peak_reserved=meter.reserved,
        moved=last.moved,
        seconds=last.seconds,
        total=last.total,
        departures=tuple(last.departures),
        misses=None if seen is None else tuple(str(miss) for miss in seen.misses),
        ended=ended,
    )


def _failed(plan: Plan, pipe: Any, arguments: Mapping[str, Any], error: Exception) -> PlanError:
    notes = "; ".join(getattr(error, "__notes__", ()))
    # What a class raises for an argument that it needs and takes None for by default, in its own words.
    missed = lacking(type(pipe), arguments) if isinstance(error, (TypeError, ValueError)) else ""
    said = f"the pipeline raised {type(error).__name__}: {error}"
    return PlanError([finding(RUN_FAILED, said, span=plan.span, hint=notes or missed)])
