"""Does each stage fit the budget: what it must hold at once, against the bytes there are for weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p6_schedule import (
    ACTIVATIONS_TOO_LARGE,
    COMPONENT_TOO_LARGE,
    DIFFUSERS_TOO_LARGE,
    HOST_TOO_SMALL,
    NOT_CHECKED,
    STAGE_TOO_LARGE,
    UNORDERED_TOO_LARGE,
)
from planner.graph.activations import needed
from planner.graph.model import Graph, Node, Run
from planner.graph.split import split
from planner.plan.model import Plan, Policy, Semantics
from planner.plan.run import count
from planner.schedule.guide import Guide
from planner.schedule.model import Course
from planner.source.limits import LISTED
from planner.source.text import Span
from planner.target.vae_options import may_have


def gib(nbytes: int) -> str:
    """Bytes for people: ``10.58 GiB``; small ones in MiB or KiB."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} B"


def fit_findings(
    graph: Graph, course: Course, would_fit: Callable[[], str] = lambda: ""
) -> Iterator[Diagnostic]:
    """Every stage that does not fit, with the shortfall and what ``would_fit``; a note on what is not
    known."""
    sizes = [graph.target.components[name].bytes for name in graph.placements]
    yield from host_findings(graph.plan, sizes)
    unknown = [name for name, size in course.sizes.items() if size is None]
    # A target without any size was told of when it was looked for.
    if len(unknown) < len(course.sizes) and (course.budget is None or unknown):
        what = []
        if course.budget is None:
            what.append("the budget is not known here")
        if unknown:
            what.append(f"sizes are not known for {', '.join(unknown)}")
        yield finding(NOT_CHECKED, f"fit not checked: {'; '.join(what)}", span=graph.plan.place("/budget"))
    if course.budget is None:
        return
    alone = [name for name in course.sizes if _least(graph, course, name) > course.budget]
    for name in alone:
        placement = graph.placements[name]
        span = placement.span if placement.span != graph.plan.span else graph.plan.place("/budget/vram")
        yield finding(
            COMPONENT_TOO_LARGE,
            f"{_whom(course, name)} needs {_needs(graph, course, name)}, "
            f"and the budget leaves {gib(course.budget)} for weights",
            span=span,
            hint=would_fit(),
        )
    if alone:
        return
    yield from _stages(graph, course, would_fit)
    if course.semantics is Semantics.DIFFUSERS:
        yield from _diffusers(graph, course, would_fit)
    else:
        yield from _unordered(graph, course, would_fit)
        yield from _activations(graph, course, would_fit)


def _activations(graph: Graph, course: Course, would_fit: Callable[[], str]) -> Iterator[Diagnostic]:
    """What runs and fits by its weights, and not with the activations that are predicted for it."""
    budget, always = course.budget, {*course.fixed, *course.on_demand}
    told: set[str] = set()
    for node in course.walk:
        for run in node.runs:
            held = {run.component, *always, *(node.components if node.loop is not None else ())}
            weights, takes = _total(course, held), needed(course.activations, run.component)
            short = weights + takes - (budget or 0)
            if budget is None or not takes or weights > budget or short <= 0 or run.component in told:
                continue
            told.add(run.component)
            yield _short_of_activations(graph, node, run, weights, takes, short, would_fit())


def _short_of_activations(
    graph: Graph, node: Node, run: Run, weights: int, takes: int, short: int, would_fit: str
) -> Diagnostic:
    less = _options(graph, run) if run.entry in ("decode", "encode") else ()
    return finding(
        ACTIVATIONS_TOO_LARGE,
        f'"{run}" of stage "{node.id}" needs {gib(takes)} for activations beside {gib(weights)} of weights: '
        f"{gib(short)} more than there are",
        span=_place(graph, run.span),
        hint="; ".join(filter(None, (would_fit, *less, "smaller pictures or fewer at once take less"))),
    )


def _options(graph: Graph, run: Run) -> Iterator[str]:
    """Of a VAE, what it could do with less and the plan does not say."""
    said, classes = graph.plan.components.get(run.component), graph.target.components[run.component].classes
    for option, effect in (("slicing", "may round otherwise"), ("tiling", "changes the image")):
        helps = option == "tiling" or count(graph.plan.run) > 1
        if helps and may_have(option, classes) and (said is None or option not in said.vae_options):
            yield f"components.{run.component}.{option}: on takes less and {effect}"


def _whom(course: Course, name: str) -> str:
    stage = next((node.id for node in course.walk if name in node.components), None)
    return f'component "{name}"' + (
        f' of stage "{stage}"' if stage is not None else ", which is in no stage,"
    )


def _needs(graph: Graph, course: Course, name: str) -> str:
    """What it takes, under the policy that somebody wrote or under the best that there is."""
    said, placement = graph.plan.components.get(name), graph.placements[name]
    size = gib(course.size(name))
    if placement.excluded:
        return f"{size}, and is excluded, so it never leaves"
    if said is not None and said.policy is not None:
        return f"{size} under policy: {placement.policy.value}"
    if (least := _least(graph, course, name)) < course.size(name):
        return f"{gib(least)} even streamed"
    return f"{size}, and has no blocks that could be streamed"


def _least(graph: Graph, course: Course, name: str) -> int:
    """The bytes that it holds however little there is: streamed where the plan leaves that open."""
    said, blocks = graph.plan.components.get(name), graph.target.components[name].blocks
    placement = graph.placements[name]
    free = placement.policy is Policy.OFFLOAD and (said is None or said.policy is None)
    if blocks is None or not free or course.semantics is Semantics.DIFFUSERS:
        return course.size(name)
    return min(course.size(name), split(blocks, 0, 0).held)


def host_findings(plan: Plan, sizes: Iterable[int | None]) -> Iterator[Diagnostic]:
    """Weights of ``sizes`` bytes against the plan's ``budget.ram``; what is not known counts nothing."""
    ram, total = plan.budget.ram, sum(size or 0 for size in sizes)
    if ram is None or ram.bytes is None or total <= ram.bytes:
        return
    yield finding(
        HOST_TOO_SMALL,
        f"the weights take {gib(total)} of host memory, {gib(total - ram.bytes)} more than budget.ram",
        span=ram.span,
        pointer="/budget/ram",
        hint=f"--set budget.ram={fitting(total)} would hold them",
    )


def fitting(nbytes: int) -> str:
    """The smallest whole size, as a plan writes it, that holds ``nbytes``."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= 4 * size:
            return f"{-(-nbytes // size)}{unit}"
    return f"{nbytes}B"


def _stages(graph: Graph, course: Course, would_fit: Callable[[], str]) -> Iterator[Diagnostic]:
    always = {*course.fixed, *course.on_demand}
    for node in course.walk:
        held = max(_holds(course, node), key=lambda names: _total(course, names), default=frozenset())
        if course.budget is None or _total(course, held | always) <= course.budget:
            continue
        sizes = {name: _least(graph, course, name) for name in sorted(held | always)}
        if sum(sizes.values()) <= course.budget:  # streamed alone each would fit, and not so together
            sizes = {name: course.size(name) for name in sizes}
        total = sum(sizes.values())
        listed = " + ".join(
            f"{n} {gib(size)}" + " streamed" * (size < course.size(n)) for n, size in sizes.items()
        )
        yield finding(
            STAGE_TOO_LARGE,
            f'stage "{node.id}" holds {listed} at once, {gib(total)}: '
            f"{gib(total - course.budget)} more than the {gib(course.budget)} there are for weights",
            span=_place(graph, node.span),
            hint=would_fit(),
        )


def _unordered(graph: Graph, course: Course, would_fit: Callable[[], str]) -> Iterator[Diagnostic]:
    """One finding for each stage that cannot share the budget with one that no path orders: with the heaviest
    of those, and how many there are. Pairs grow as the square of the stages."""
    budget, always = course.budget, {*course.fixed, *course.on_demand}
    if budget is None:
        return
    holds = {node.id: _holds(course, node) for node in course.walk}
    alone = {name: max((_total(course, x) for x in held), default=0) for name, held in holds.items()}
    fixed = _total(course, always)
    worst: dict[str, list[tuple[int, str]]] = {}
    for a, b in graph.unordered:
        if alone[a] + alone[b] + fixed <= budget:
            continue  # together they hold no more than the sum
        total = max((_total(course, x | y | always) for x in holds[a] for y in holds[b]), default=0)
        if total > budget:
            worst.setdefault(b, []).append((total, a))
    nodes = [node for node in course.walk if node.id in worst]
    for node in nodes[: LISTED.most]:
        (total, a), others = max(worst[node.id], key=lambda pair: pair[0]), len(worst[node.id]) - 1
        more = f", and {others} more such" if others else ""
        yield finding(
            UNORDERED_TOO_LARGE,
            f'no path orders the stages "{a}" and "{node.id}"{more}, and together they hold {gib(total)}: '
            f"{gib(total - budget)} more than the {gib(budget)} there are for weights",
            span=_place(graph, node.span),
            hint="; or ".join(filter(None, (f'write after: [{a}] in "{node.id}"', would_fit()))),
        )
    if len(nodes) > LISTED.most:
        more = f"{len(nodes) - LISTED.most:,} more stages do not fit beside one that no path orders"
        yield finding(
            UNORDERED_TOO_LARGE, more, span=_place(graph, nodes[LISTED.most].span), hint=would_fit()
        )


def _diffusers(graph: Graph, course: Course, would_fit: Callable[[], str]) -> Iterator[Diagnostic]:
    """The moves are fixed, so they are played: the first use at which too much lies on the device."""
    guide, resident = Guide(course), list(course.fixed)
    for stage, node in enumerate(course.walk):
        for number, run in enumerate(node.runs):
            for name in guide.enter_planned(stage, number, resident).evict:
                resident.remove(name)
            if run.component not in resident:
                resident.append(run.component)
            total = _total(course, {*resident, *course.on_demand})
            if course.budget is not None and total > course.budget:
                yield finding(
                    DIFFUSERS_TOO_LARGE,
                    f'at "{run}" the moves of enable_model_cpu_offload leave {", ".join(resident)} on the '
                    f"device, {gib(total)}: {gib(total - course.budget)} more than the budget",
                    span=_place(graph, run.span),
                    hint="; or ".join(
                        filter(None, ("semantics: liveness evicts what no later use needs", would_fit()))
                    ),
                )
                return


def _holds(course: Course, node: Node) -> list[frozenset[str]]:
    """What a stage holds at once: all of a looped stage, or each use alone."""
    if node.loop is not None:
        return [frozenset(node.components)]
    return [frozenset({run.component}) for run in _runs(node)]


def _runs(node: Node) -> Iterable[Run]:
    return node.runs


def _total(course: Course, names: Iterable[str]) -> int:
    return sum(map(course.size, names))


def _place(graph: Graph, span: Span) -> Span:
    """The stage's line; the budget's, when the stage came from the catalogue and has none of its own."""
    return graph.plan.place("/budget/vram") if span == graph.plan.pipeline.span else span
