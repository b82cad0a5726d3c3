"""Plan to schedule: the target, the graph, what stays, the order of moves, and its replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from planner.diagnostics.diagnostic import Diagnostic, InternalError, Severity, errors, finding
from planner.diagnostics.table.p4_graph import UNKNOWN_WALK
from planner.graph.activations import Predicted
from planner.graph.build import build_graph
from planner.graph.model import Graph
from planner.lock.known import filled
from planner.lock.model import Lock
from planner.models.match import Shipped
from planner.passes.residency import residency
from planner.plan.adapters import check_loras
from planner.plan.model import Plan
from planner.plan.resolve import check_names
from planner.plan.run import check_run
from planner.predict.graph import as_predicted, as_traced
from planner.quantization.check import check_parts
from planner.quantization.sizes import sized
from planner.schedule.card import Place
from planner.schedule.lower import lower
from planner.schedule.model import Schedule
from planner.schedule.verify import verify
from planner.stages.shipped import as_shipped, shipped_for, still_unknown
from planner.stages.target import target_for
from planner.target.catalogue import Own
from planner.target.find import SEEN
from planner.target.model import Target

if TYPE_CHECKING:
    from planner.predict.profile import CallProfile


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a plan, and with what it was made."""

    graph: Graph
    schedule: Schedule
    call: CallProfile | None
    shipped: Shipped | None


def back(
    plan: Plan,
    target: Any,
    own: Own = (),
    *,
    budget: int | None = None,
    overhead: int = 0,
    card: Place | None = None,
    activations: Predicted | None = None,
    call: CallProfile | None = None,
    lock: Lock | None = None,
    advice: bool = True,
) -> tuple[Done | None, list[Diagnostic]]:
    """Plan to schedule, checked by the replay."""
    known, found = target_for(plan, target, own, {} if call is None else call.weights)
    if known is None or errors(found):
        return None, found
    if lock is not None:
        known, found = filled(known, plan, lock, found)
    ships = None
    if target is None and (ships := shipped_for(plan, known, card)) is not None:
        known, found = as_shipped(plan, known, ships, own, found, asked=call is None and activations is None)
    if call is not None:
        known = as_traced(known, plan, call)
        found = still_unknown(plan, known, found)
    found += check_names(plan, known)
    if known.origin != "loaded":
        found += check_loras(plan)
        found += check_run(plan, known.call, known.cls) if known.call is not None else []
    if errors(found):
        return None, found
    found += check_parts(plan, known)
    if errors(found):
        return None, found
    lowered = partial(
        _lowered,
        plan,
        budget=budget,
        overhead=overhead,
        card=card,
        activations=activations,
        lock=lock,
        shipped=ships,
        advice=advice,
    )
    if ships is None or ships.call is None or call is not None or activations is not None:
        done, more = lowered(known, call=call)
        return done, found + more
    done, more = lowered(as_traced(known, plan, ships.call), call=ships.call)
    if done is None and not ships.exact:  # it may be that the plan's call, which is another, fits
        doubts = [
            replace(
                d.at(Severity.WARNING), hint="; ".join(filter(None, (d.hint, f"activations are {ships.why}")))
            )
            for d in errors(more)
        ]
        done, more = lowered(known, call=None)
        more += [] if done is None else doubts
    return done, found + more


def _lowered(
    plan: Plan,
    known: Target,
    *,
    budget: int | None,
    overhead: int,
    card: Place | None,
    activations: Predicted | None,
    call: CallProfile | None,
    lock: Lock | None,
    shipped: Shipped | None,
    advice: bool,
) -> tuple[Done | None, list[Diagnostic]]:
    """Target to schedule. ``known``: with the sizes that were traced with ``call``."""
    found: list[Diagnostic] = []
    known = sized(plan, known)
    if lock is not None:  # sizes under rules are those of the rules that it was made with
        known, _ = filled(known, plan, lock, [])
    if card is not None:
        room, more = card.room(plan, known.bytes)
        budget, overhead = room.budget, room.overhead
        found += more
    graph, problems = build_graph(plan, known)
    found += problems
    if graph is None:
        return None, found
    graph = replace(graph, activations=activations or {})
    if call is not None:
        graph = as_predicted(graph, call, None if card is None else card.data)
    graph, notes = residency(graph, budget, overhead)
    found += notes
    schedule, problems = lower(graph, budget=budget, overhead=overhead, advice=advice)
    found += problems
    if schedule is None:
        return None, found
    if faults := verify(schedule, graph):
        raise InternalError("the compiled schedule does not hold: " + "; ".join(faults))
    return Done(graph, schedule, call, shipped), found


def nothing_runs(plan: Plan) -> Diagnostic:
    """The error of a plan whose class nothing tells of."""
    said = f'the plan has no "order" or "stages", and what runs in a "{plan.pipeline.cls}" is not known here'
    return finding(UNKNOWN_WALK, said, span=plan.pipeline.span, hint=SEEN.format(plan.pipeline.cls))
