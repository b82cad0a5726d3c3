"""``planner.fit``: the best plan for a memory, as a file's text with its reasons and what is proven of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.api import calibrated, compile, load, profile, shipping, validate
from planner.cards.kernels import Kernels
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, finding
from planner.diagnostics.table.p3_target import BROKEN_FOLDER
from planner.diagnostics.table.p9_fit import NO_RATES, NO_SOLVER, NOT_CHOSEN_FROM, SOLVER_FAILED, TIGHT
from planner.fitting.draft import Draft, as_meant, draft_of, edited, settings_for
from planner.fitting.edit import with_comment, with_head
from planner.fitting.helps import Change, helps
from planner.fitting.pictures import WORTH, Variant, variants
from planner.fitting.price import Objective
from planner.fitting.refusal import host_too, refusal
from planner.fitting.search import NothingFits
from planner.fitting.solution import Solution, Task, least_cost, solve_task
from planner.fitting.solver import SolverFailed, installed
from planner.fitting.solver import name as solver_name
from planner.fitting.watch import NOBODY, Watch
from planner.fitting.words import RETRIED, certificate, reasons
from planner.fitting.wrote import marks_of
from planner.loading.known import Given
from planner.plan.model import Idle, Plan
from planner.predict.profile import CallProfile
from planner.report.image import picture_words
from planner.schedule.card import Card, card_for
from planner.source.ends import as_in
from planner.source.text import SourceText
from planner.stages.results import Compiled

FEW = 32
"""So many plans are compared at most for each way to change the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """``text``: the plan's file, with the ends of lines and the mark of UTF-8 of the one that was fitted;
    ``plan``: as it reads; ``solution``: what it does, and what is proven; ``certificate``: in words;
    ``reasons``: a line for each that was open; ``diagnostics``: notes of what was not tried; ``task``: what
    was solved, with what changes the picture chosen."""

    text: str
    plan: Plan
    solution: Solution
    certificate: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]
    diagnostics: tuple[Diagnostic, ...]
    task: Task

    @property
    def seconds(self) -> float:
        """Predicted, of the call that was asked about."""
        return self.solution.price.cost / 1e6

    @property
    def bound(self) -> float:
        """Seconds that no plan for this call in this memory is faster than, by the same cost model."""
        return self.solution.bound / 1e6

    @property
    def compiled(self) -> Compiled:
        """The plan, compiled for the card."""
        return self.solution.price.compiled

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Writes ``text`` to ``path``, or to what a link leads to, whole or not at all. Raises OSError
        (FileExistsError without ``replace``)."""
        from planner.loading.written import written_text

        if not replace and Path(path).exists():
            raise FileExistsError(path)
        written_text(Path(path).resolve(), self.text, replace=replace)
        return Path(path)


def fit(
    source: str | Path | SourceText | Plan,
    *,
    vram: str | int | None = None,
    ram: str | int | None = None,
    pinned: str | int | None = None,
    card: str | Card,
    run: Mapping[str, object] | None = None,
    allow: Sequence[str] = (),
    idle: str | None = None,
    objective: Objective = "steady",
    overrides: Sequence[str] = (),
    catalogue: Given = (),
    watch: Watch = NOBODY,
) -> Fitted:
    """The plan that takes the least time in ``vram``, searched over all that the plan leaves open.

    ``source``: a plan, whose words, comments and layout are kept; or a class, folder, built-in or hub id, for
    which one is written. ``vram``, ``ram``, ``pinned``: as under ``budget``, a number in bytes. ``card``: the
    name of one that ships, a card's file, or a ``Card`` with rates. ``run``: arguments of the call on top of
    the plan's. ``allow``: what may change the picture, of ``slicing``, ``tiling``, ``quantization`` and
    ``dtype``. ``idle``: ``keep`` or ``release``; left out, and unsaid in the plan, the better one.
    ``objective``: ``steady`` calls or the ``first``. ``overrides``: other keys, written into the plan.
    ``watch``: is told what is being done.

    Needs torch and the components' configs, as ``planner.profile`` does. Raises PlanError: of the plan; P991
    where nothing fits; P992 for a card without rates; P994.
    """
    here = card_for(card) if isinstance(card, str) else card
    if here.data is None:
        hint = "a card that ships, such as rtx-4090, or a file of plan doctor --measure"
        raise PlanError([finding(NO_RATES, f"the rates of {here.name} are not known", hint=hint)])
    draft = draft_of(source, settings_for(vram, ram, pinned, idle, run, overrides))
    rates = here.data
    notes: list[Diagnostic] = []
    tasks: dict[Variant, Task | None] = {}
    if not installed():
        notes.append(finding(NO_SOLVER, "without HiGHS the bound is weaker", hint=NO_SOLVER.help))

    def task_of(variant: Variant) -> Task:
        plan = _with(draft.plan, variant.settings)
        watch.begins("tracing the call" + _said(variant))
        return made(plan, profile(plan, kernels=rates.kernels))

    def tried(variant: Variant) -> Task | None:
        """None, with a note, for one whose call cannot be traced here: the others may do."""
        if any({*other.settings} <= {*variant.settings} for other, task in tasks.items() if task is None):
            return None  # it was said of what it has in it
        if variant not in tasks:
            try:
                tasks[variant] = task_of(variant).alike(most=FEW)
            except PlanError as error:
                tasks[variant] = None
                said = f"{', '.join(variant.said)}: not tried: {error.first.message}"
                notes.append(finding(NOT_CHOSEN_FROM, said, hint=error.first.hint))
        return tasks[variant]

    def made(plan: Plan, call: CallProfile) -> Task:
        call, card = calibrated(plan, call, here)
        assert card.data is not None
        return Task(
            plan=plan,
            call=call,
            card=card,
            data=card.data,
            objective=objective,
            idle=_idle(plan, idle),
            catalogue=catalogue,
            watch=watch,
        )

    def changed(change: Change) -> Task | None:
        plan = _with(draft.plan, change.settings)
        call = _exactly(plan, rates.kernels) if change.other else first.call
        return None if call is None else made(plan, call).alike(tight=change.tight)

    try:
        try:
            first = task_of(Variant(()))
        except PlanError as error:  # a name that is wrong has no call, and configs would not help
            raise _of_the_plan(draft.plan, catalogue) or error from error
        try:
            ways, more = variants(draft.plan, first.unbounded.target, tuple(allow))
        except PlanError as error:
            raise host_too(error, first, changed) from error
        try:
            task, variant, solution = _best(ways, first, tried, watch)
        except NothingFits:
            first = first.alike(tight=True)
            try:
                task, variant, solution = _best(ways[:1], first, tried, watch)
            except NothingFits as error:
                others = [other for way in ways[1:] if (other := tried(way)) is not None]
                would = helps(first, allow, ways[-1].settings, changed)
                why = refusal((first, *others), would)
                raise PlanError([*why.diagnostics, *notes], why.sources) from error
            if not solution.price.outcome.fits:
                notes.append(finding(TIGHT, RETRIED))
    except SolverFailed as error:
        raise PlanError([finding(SOLVER_FAILED, str(error))]) from error
    return _fitted(draft, task, variant, solution, [*notes, *more])


def _of_the_plan(plan: Plan, catalogue: Given) -> PlanError | None:
    """What is wrong with the plan itself; fitting is for what does not fit, and needs no weights."""
    checked = validate(plan, catalogue=catalogue)
    found = [
        one for one in checked.errors if one.code is not BROKEN_FOLDER and not one.code.id.startswith("P6")
    ]
    return PlanError(found, checked.sources) if found else None


def _exactly(plan: Plan, kernels: Kernels) -> CallProfile | None:
    """The very call of the plan, None where it cannot be traced here."""
    ships = shipping(plan, kernels)
    try:
        found = profile(plan, kernels=kernels)
    except PlanError:
        return None
    return None if ships is not None and not ships.exact and found == ships.call else found


def _idle(plan: Plan, asked: str | None) -> tuple[Idle, ...]:
    if asked is not None or "idle" in plan.document.values:
        return (plan.idle,)
    return (Idle.RELEASE, Idle.KEEP)


def _with(plan: Plan, settings: Sequence[tuple[str, str]]) -> Plan:
    return load(plan, overrides=[f"{key}={value}" for key, value in settings]) if settings else plan


def _best(
    ways: Sequence[Variant], first: Task, tried: Callable[[Variant], Task | None], watch: Watch
) -> tuple[Task, Variant, Solution]:
    """The fastest, where each change of the picture has to be worth it. Raises NothingFits."""
    best: tuple[Task, Variant, Solution] | None = None
    nothing: NothingFits | None = None
    for variant in ways:
        if (task := tried(variant) if variant.settings else first) is None:
            continue
        if best is not None and least_cost(task) >= best[2].price.cost * (1 - WORTH):
            continue
        watch.begins("searching" + _said(variant))
        try:
            found = solve_task(task)
        except NothingFits as error:
            nothing = nothing or error
            continue
        if best is None or found.price.cost < best[2].price.cost * (1 - WORTH):
            best = task, variant, found
    if best is None:
        assert nothing is not None
        raise nothing
    return best


def _said(variant: Variant) -> str:
    return f": {', '.join(variant.said)}" if variant.said else ""


def _fitted(
    draft: Draft, task: Task, variant: Variant, solution: Solution, notes: list[Diagnostic]
) -> Fitted:
    lines = tuple(reasons(solution))
    said = dict(lines)
    why = {key: f"changes the picture: {', '.join(variant.said)}" for key, _ in variant.settings}
    settings = [*variant.settings]
    written: set[str] = set()
    for choice in solution.found.choices:
        for key, value in choice.settings:
            if choice.subject not in written:
                why[key] = f"{choice.subject}: {said[choice.subject]}"
            settings.append((key, value))
            written.add(choice.subject)
    made = edited(draft.text, tuple(settings), _with(draft.plan, settings), why)
    text, name = made.document.sources[0].text, made.document.sources[0].name
    for choice in solution.found.choices:
        if choice.subject not in written and choice.subject != "idle":
            text = with_comment(
                text, ("components", choice.subject), f"{choice.subject}: {said[choice.subject]}"
            )
    card = f"{task.data.name} ({task.data.source})"
    proven = certificate(solution, card, f"offload-planner, {solver_name()}", task.objective)
    plan = as_meant(SourceText(name=name, text=text), made)
    unsaid = [f"idle: {said['idle']}"] if "idle" in said and "idle" not in written else []
    wrote = marks_of(draft.text.text, tuple(settings))
    text = with_head(text, (*proven, *unsaid, f"picture {picture_words(plan)}", *wrote))
    plan = as_meant(SourceText(name=name, text=text), made)
    notes += _warnings(plan, task)
    return Fitted(
        text=as_in(text, draft.given),
        plan=plan,
        solution=solution,
        certificate=proven,
        reasons=lines,
        diagnostics=tuple(notes),
        task=task,
    )


def _warnings(plan: Plan, task: Task) -> list[Diagnostic]:
    """What should be looked at in it, as ``validate`` says for the card."""
    compiled = compile(plan, card=task.card, catalogue=task.catalogue, call=task.call, advice=False)
    return [one for one in compiled.diagnostics if one.severity is Severity.WARNING]
