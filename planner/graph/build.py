"""Plan and target to a graph: the stages flattened, ordered, and every component placed.

The networkx DAG is over stages; the walk is the file's order among those that the DAG allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import networkx as nx

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.table.p4_graph import (
    CONTRADICTS_CLASS,
    ON_DEMAND,
    RING,
    UNKNOWN_WALK,
    UNORDERED,
)
from planner.graph.model import Graph, Node, Placement, Repeat, Run
from planner.graph.reach import Reach
from planner.plan.model import Loop, Plan, Policy, Semantics, Stage, Use
from planner.source.limits import LISTED
from planner.target.find import NAMELESS
from planner.target.model import Target, WalkStage, WalkUse

_STEPS = Loop(share=1.0, text="steps")
_READS = ("expand", "expand_as", "repeat", "unsqueeze", "view")
"""Methods of a tensor. A pipeline that calls one reads a buffer (the VAE's statistics) where it lies and
sends the copy where it is wanted: the component need not come for it, and stock offload does not see it."""

_LOOPS = {"": None, "steps": _STEPS, "times": Loop(text="times")}


def build_graph(plan: Plan, target: Target) -> tuple[Graph | None, tuple[Diagnostic, ...]]:
    """The walk of ``plan`` on ``target``. A ring or an unknown walk gives no graph."""
    stages, found = _stages(plan, target)
    found += _rings(stages)
    if errors(found):
        return None, tuple(found)
    flat = _Flat(_conditional(target))
    flat.add(_present(stages, target), prefix="")
    walk = tuple(flat.walk)
    reach = Reach([node.id for node in walk], flat.edges)
    unordered = tuple(reach.unordered())
    placements = _placements(plan, target)
    used = {run.component for node in walk for run in node.runs}
    on_demand = tuple(n for n, p in placements.items() if n not in used and not p.excluded)
    found += _contradictions(plan, target, walk)
    found += _notes(plan, target, walk, unordered, on_demand)
    graph = Graph(
        plan=plan,
        target=target,
        walk=walk,
        repeats=tuple(flat.repeats),
        edges=tuple(sorted(reach.reduced())),
        unordered=unordered,
        placements=placements,
        on_demand=on_demand,
    )
    return graph, tuple(found)


def _stages(plan: Plan, target: Target) -> tuple[tuple[Stage, ...], list[Diagnostic]]:
    """The stages to walk: the plan's, or the class's own.

    ``semantics: diffusers`` takes the class's own walk where it is known: its ``order`` says who
    evicts whom, not who runs when (``vae.encode`` runs first in img2img, and is last in the string).
    """
    if plan.stages is not None and not (plan.semantics is Semantics.DIFFUSERS and target.walk):
        return _denoiser_looped(plan, target) if plan.from_order else plan.stages, []
    if target.walk is not None:
        return _from_catalogue(target.walk, plan), []
    problem = finding(
        UNKNOWN_WALK,
        f'the plan has no "order" or "stages", and the walk of class "{target.cls}" is not known',
        span=plan.pipeline.span,
        pointer="/pipeline",
        hint=f'write one, such as order: "{" -> ".join(target.modules)}"' if target.modules else NAMELESS,
    )
    return (), [problem]


def _denoiser_looped(plan: Plan, target: Target) -> tuple[Stage, ...]:
    """In an ``order`` the denoiser loops ``steps``: what loops in the class's walk, else by its name."""
    if target.walk is not None:
        steps = [stage for stage in _flat_walk(target.walk) if stage.loop == "steps"]
        looped = {run.component for stage in steps for run in stage.runs}
    else:
        looped = {n for n in target.modules if n.startswith(("unet", "transformer", "controlnet"))}
    return tuple(
        replace(s, loop=_STEPS) if s.loop is None and s.runs[0].component in looped else s
        for s in plan.stages or ()
    )


def _from_catalogue(walk: Sequence[WalkStage], plan: Plan) -> tuple[Stage, ...]:
    span = plan.pipeline.span
    return tuple(
        Stage(
            id=name,
            runs=tuple(
                Use(component=run.component, entry=run.entry, span=span)
                for run in runs
                if run.entry.rpartition(".")[2] not in _READS
            ),
            stages=_from_catalogue(stage.stages, plan),
            loop=_LOOPS[stage.loop],
            optional=stage.optional,
            span=span,
        )
        for stage in walk
        for name, runs in _turns(stage)
    )


def _turns(stage: WalkStage) -> tuple[tuple[str, tuple[WalkUse, ...]], ...]:
    """Two denoisers in one loop (Wan 2.2's ``transformer`` and ``transformer_2``) split its steps:
    they take turns and are never needed together, so each gets a stage of its own."""
    names = {run.component for run in stage.runs}
    seconds = {name for name in names if name.removesuffix("_2") in names - {name}}
    if not stage.loop or not seconds:
        return ((stage.id, stage.runs),)
    firsts = {name.removesuffix("_2") for name in seconds}
    return (
        (stage.id, tuple(run for run in stage.runs if run.component not in seconds)),
        (f"{stage.id}_2", tuple(run for run in stage.runs if run.component not in firsts)),
    )


def _level(stages: Sequence[Stage]) -> nx.DiGraph[int]:
    """One nesting level as a graph over positions: ``after``, or else the stage above."""
    at = {stage.id: i for i, stage in enumerate(stages)}
    dag: nx.DiGraph[int] = nx.DiGraph()
    dag.add_nodes_from(range(len(stages)))
    for i, stage in enumerate(stages):
        if stage.after is None:
            dag.add_edges_from([(i - 1, i)] if i else [])
        else:
            dag.add_edges_from((at[name], i) for name, _ in stage.after if name in at)
    return dag


def _rings(stages: Sequence[Stage]) -> list[Diagnostic]:
    """One finding for each ring, printed from its first stage in the file."""
    found = []
    dag = _level(stages)
    for knot in sorted(map(sorted, nx.strongly_connected_components(dag))):
        if len(knot) > 1:
            ring = [a for a, _ in nx.find_cycle(dag.subgraph(knot), knot[0])]
            start = ring.index(min(ring))
            names = [stages[i].id for i in (*ring[start:], *ring[:start], min(ring))]
            first = stages[min(ring)]
            place = first.after[0][1] if first.after else first.span
            found.append(
                finding(RING, f"stages wait for each other in a ring: {' -> '.join(names)}", span=place)
            )
    for stage in stages:
        found += _rings(stage.stages)
    return found


def _present(stages: Sequence[Stage], target: Target) -> tuple[Stage, ...]:
    """Without the uses of what the pipeline does not have (a component that is None, an entry point that its
    own class lacks), and without empty stages; a module under two names is used under its first.

    A stage keeps its place: who followed a stage that is gone follows what that one followed.
    """
    gone = {name for name, info in target.components.items() if not info.present} | {*target.lacks}
    uncallable = {(name, entry) for name, info in target.components.items() for entry in info.lacks}
    first = {name: info.same_as for name, info in target.components.items() if info.same_as}

    def pruned(stage: Stage) -> Stage:
        return replace(
            stage,
            runs=tuple(
                replace(run, component=first.get(run.component, run.component))
                for run in stage.runs
                if run.component not in gone and (run.component, run.entry) not in uncallable
            ),
            stages=_present(stage.stages, target),
        )

    made = [pruned(stage) for stage in stages]
    empty = {s.id: s.after for s in made if not s.runs and not s.stages}
    kept = []
    for stage in made:
        if stage.id in empty:
            continue
        after = stage.after
        while after and any(name in empty for name, _ in after):
            after = tuple(
                heir
                for name, span in after
                for heir in ((empty[name] or ()) if name in empty else ((name, span),))
            )
        kept.append(replace(stage, after=after))
    return tuple(kept)


def _conditional(target: Target) -> frozenset[tuple[str, str]]:
    """Uses that the class has under a condition, in stages that it has without: a plan says of a whole stage
    whether it may not run."""
    return frozenset(
        (use.component, use.entry)
        for stage in _flat_walk(target.walk or ())
        for use in stage.runs
        if use.optional
    )


class _Flat:
    """The walk, its repeats and its edges, gathered level by level. ``conditional``: uses that are optional
    wherever they stand."""

    def __init__(self, conditional: Collection[tuple[str, str]]) -> None:
        self._conditional = conditional
        self.walk: list[Node] = []
        self.repeats: list[Repeat] = []
        self.edges: list[tuple[str, str]] = []

    def add(self, stages: Sequence[Stage], prefix: str) -> tuple[list[str], list[str]]:
        """The stages that nothing here comes before, and those that nothing here comes after: who comes
        before or after the level comes before or after these, and so all of it."""
        dag = _level(stages)
        firsts: dict[int, list[str]] = {}
        lasts: dict[int, list[str]] = {}
        for i in nx.lexicographical_topological_sort(dag):
            stage = stages[i]
            name = f"{prefix}{stage.id}"
            first = len(self.walk)
            if stage.stages:
                firsts[i], lasts[i] = self.add(stage.stages, f"{name}/")
                if stage.loop is not None and len(self.walk) > first:
                    self.repeats.append(
                        Repeat(id=name, first=first, last=len(self.walk) - 1, loop=stage.loop)
                    )
            else:
                runs = tuple(
                    Run(
                        component=u.component,
                        entry=u.entry,
                        optional=stage.optional or (u.component, u.entry) in self._conditional,
                        span=u.span,
                    )
                    for u in stage.runs
                )
                self.walk.append(Node(id=name, runs=runs, loop=stage.loop, span=stage.span))
                firsts[i] = lasts[i] = [name]
            self.edges += [(a, b) for before in dag.predecessors(i) for a in lasts[before] for b in firsts[i]]
        return (
            [name for i, names in firsts.items() if not dag.in_degree(i) for name in names],
            [name for i, names in lasts.items() if not dag.out_degree(i) for name in names],
        )


def _placements(plan: Plan, target: Target) -> dict[str, Placement]:
    """Every present component with weights: the plan's word, else ``offload``, with the reason."""
    excluded = {name.name: name for name in plan.exclude}
    made = {}
    for name in target.modules:
        if not target.components[name].present:
            continue
        said = plan.components.get(name)
        if name in excluded:
            made[name] = Placement(
                component=name,
                policy=Policy.RESIDENT,
                excluded=True,
                why="excluded: placed on the device once and left there",
                span=excluded[name].span,
            )
        elif said is not None and said.policy is not None:
            made[name] = Placement(
                component=name,
                policy=said.policy,
                excluded=False,
                why="the plan says so",
                span=said.span,
                prefetch=said.prefetch,
            )
        else:
            made[name] = Placement(
                component=name,
                policy=Policy.OFFLOAD,
                excluded=False,
                why="not named in the plan: comes when it is used, leaves when no later use needs it",
                span=said.span if said else plan.span,
            )
    return made


def _contradictions(plan: Plan, target: Target, walk: Sequence[Node]) -> list[Diagnostic]:
    """A plan whose components run in another order than the class runs them. Within one stage none is said.

    ``semantics: diffusers`` is not asked: its string says who evicts whom.
    """
    if plan.stages is None or target.walk is None or plan.semantics is Semantics.DIFFUSERS:
        return []
    mine = [(at, run) for at, node in enumerate(walk) for run in node.runs]
    uses = [run for stage in _flat_walk(target.walk) for run in stage.runs]
    entries = {(run.component, run.entry): i for i, run in enumerate(uses)}
    last = {run.component: i for i, run in enumerate(uses)}
    named = Counter(run.component for _, run in mine)
    # A bare name is all of a component's uses: its last one counts, and which it is is not known where there
    # are several. An entry point that the class does not use says nothing about order.
    alone = {component: at for component, at in last.items() if named[component] == 1}
    counted = [
        (stage, run, entries.get((run.component, run.entry), None if run.entry else alone.get(run.component)))
        for stage, run in mine
    ]
    known = [(stage, run, at) for stage, run, at in counted if at is not None]
    for (before, a, i), (stage, b, j) in pairwise(known):
        if j < i and stage != before:
            classes = " -> ".join(dict.fromkeys(map(str, uses)))
            return [
                finding(
                    CONTRADICTS_CLASS,
                    f'"{b}" stands after "{a}", but class "{target.cls}" runs it before: {classes}',
                    span=b.span,
                    pointer="/order" if plan.from_order else "/stages",
                )
            ]
    return []


def _flat_walk(walk: Sequence[WalkStage]) -> Iterator[WalkStage]:
    for stage in walk:
        yield stage
        yield from _flat_walk(stage.stages)


def _notes(
    plan: Plan,
    target: Target,
    walk: Sequence[Node],
    unordered: Sequence[tuple[str, str]],
    on_demand: Sequence[str],
) -> list[Diagnostic]:
    place = {node.id: node.span for node in walk}
    notes = [
        finding(UNORDERED, f'no path orders the stages "{a}" and "{b}": either may run first', span=place[b])
        for a, b in unordered[: LISTED.most]
    ]
    if len(unordered) > LISTED.most:
        more = f"{len(unordered) - LISTED.most:,} more pairs of stages are not ordered by any path"
        notes.append(finding(UNORDERED, more, span=place[unordered[0][0]]))
    notes += [
        finding(
            ON_DEMAND,
            f'component "{name}" is neither in the walk nor excluded: it is loaded when it is called',
            span=plan.span,
        )
        for name in on_demand
        # Of a class alone it is not known whether an optional component will be there at all.
        if not (target.origin == "catalogue" and target.components[name].optional)
    ]
    return notes
