"""What a plan is asked for from Python. Imports torch only to trace, to load and to apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.cards.data import CardData
from planner.diagnostics.diagnostic import (
    Diagnostic,
    InternalError,
    PlanError,
    Severity,
    by_place,
    errors,
    finding,
)
from planner.diagnostics.ignore import apply_ignores
from planner.diagnostics.table.p0_tool import NOT_YET
from planner.diagnostics.table.p6_schedule import ALLOCATION_TOO_LITTLE
from planner.document.read import document_of
from planner.graph.activations import Predicted
from planner.loading.known import Given, known_of, own_of
from planner.lock.drift import drift
from planner.lock.known import card_of, commit_of, is_calibrated
from planner.lock.model import Lock, lock_path
from planner.lock.read import read_lock
from planner.models.match import Shipped, shipped
from planner.plan.build import build_plan
from planner.plan.model import Plan
from planner.predict.calibration import Calibration
from planner.predict.calibration import calibrated as put_in
from planner.predict.forecast import Forecast
from planner.predict.needs import expectations
from planner.schedule.card import Card, Here, Place, card_for
from planner.schedule.card import Room as CardRoom
from planner.source.text import SourceText
from planner.stages.back import Done, back, nothing_runs
from planner.stages.front import PathOrPlan
from planner.stages.front import front as front_of
from planner.stages.results import Compiled, Validation
from planner.stages.target import found_for, in_diffusers
from planner.target.catalogue import Own
from planner.target.loaded import describe
from planner.target.model import Target
from planner.translation.sequence import folder_of, is_sequence, target_of, translate_string
from planner.translation.sequence import translate as translate_target

if TYPE_CHECKING:
    import torch

    from planner.cards.kernels import Kernels
    from planner.device.protocol import Device
    from planner.predict.profile import CallProfile
    from planner.session.session import Session


def validate(
    source: PathOrPlan,
    *,
    target: Any = None,
    overrides: Sequence[str] = (),
    strict: bool = False,
    card: Place | str | None = None,
    catalogue: Given = (),
    activations: Predicted | None = None,
    call: CallProfile | None = None,
    locked: bool = False,
) -> Validation:
    """Everything that can be said of a plan without a GPU, weights, torch or the network.

    ``source``: a plan file or a ``Plan``; ``target``: a class name, a folder, a pipeline class or a loaded
    pipeline in place of the plan's own; ``overrides``: ``key=value`` as for ``--set``; ``strict``: warnings,
    and notes of what was not checked, count as errors; ``card``: whether it fits there, by a card's name
    (``rtx-4090``), its file, or its memory (``12GiB``); ``catalogue``: files that ``planner.catalogue`` made,
    or classes, for pipelines of one's own; ``activations``: what ``planner.activations`` predicted, to be
    checked beside the weights; ``call``: as for ``compile``; ``locked``: against the lock beside the plan's
    file, whose sizes and card are taken where the plan's files and the caller say none; each item that
    drifted is an error (P954). Raises nothing for a bad plan: the result is falsy.
    """
    card = card_for(card) if isinstance(card, str) else card
    front = front_of(source, overrides)
    plan, found = front.plan, front.found
    own, problems, texts = own_of(catalogue)
    if plan is not None and not problems:
        lock, wrong = read_lock(lock_path(_file(plan)), _file(plan)) if locked else (None, [])
        if lock is not None and card is None:
            card = card_of(lock)
        if lock is not None and call is None and isinstance(card, Card) and is_calibrated(lock):
            call, card = _as_calibrated(plan, card)
        done, more = back(plan, target, own, card=card, activations=activations, call=call, lock=lock)
        found = found + more + wrong
        if done is not None:
            made = _compiled(done, (), card, lock)
            if done.shipped is None or done.shipped.exact:
                found += _too_little(plan, made.forecast)
            if lock is not None:
                found += drift(lock, made.lock().content, plan)
    kept = (*problems, *by_place(apply_ignores(found, front.sources)))
    if strict:
        kept = tuple(
            d.at(Severity.ERROR) if d.severity is Severity.WARNING or d.code.strict else d for d in kept
        )
    return Validation(
        name=_name(plan or source), diagnostics=kept, sources=(*front.sources, *texts), plan=plan
    )


def _too_little(plan: Plan, forecast: Forecast | None) -> list[Diagnostic]:
    if forecast is None or forecast.fits:
        return []
    listed = ", ".join(f'"{name}"' for name in forecast.short)
    said = f"in the forecast of the call, an allocation{f' for {listed}' * bool(listed)} finds too little"
    hint = "plan fit looks for a plan in which none does; or raise budget.vram"
    return [finding(ALLOCATION_TOO_LITTLE, said, span=plan.place("/budget/vram"), hint=hint)]


def _as_calibrated(plan: Plan, card: Card) -> tuple[CallProfile | None, Card]:
    """The call that ships, with what a run of this machine measured of it on ``card``; None where there is no
    such call, or nothing was measured."""
    from planner.loading.calibrations import kept

    ships = shipping(plan, None if card.data is None else card.data.kernels)
    if ships is None or not ships.exact or ships.call is None:
        return None, card
    calibration, _ = kept(plan, ships.call, card)
    return (None, card) if calibration is None else with_calibration(ships.call, card, calibration)


def _file(plan: Plan) -> str:
    """The name of the file that a plan is in."""
    return plan.document.sources[0].name


def _name(source: PathOrPlan) -> str:
    return source.name if isinstance(source, (Plan, SourceText)) else str(source)


def load(source: PathOrPlan, *, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a file, or a plan with ``overrides`` on top of those that it has: as if its text had said
    so; its file is not read again. Raises PlanError with everything that is wrong with it by itself.
    """
    front = front_of(source, overrides)
    kept = tuple(by_place(apply_ignores(front.found, front.sources)))
    if front.plan is None or errors(kept):
        raise PlanError(kept, front.sources)
    return front.plan


def compile(
    source: PathOrPlan,
    target: Any = None,
    *,
    overrides: Sequence[str] = (),
    budget: int | None = None,
    overhead: int = 0,
    card: Place | str | None = None,
    catalogue: Given = (),
    activations: Predicted | None = None,
    call: CallProfile | None = None,
    lock: Lock | None = None,
    advice: bool = True,
) -> Compiled:
    """The schedule of a plan: what is loaded, used and evicted, with the bytes after each step.

    ``target`` and ``catalogue`` as for ``validate``; ``budget`` and ``overhead``: bytes that a machine
    reported (see ``planner.session.machine.room``), in place of the plan's; ``card``: where to compile for,
    which says both, as for ``validate``; ``activations``: what ``planner.activations`` predicted, which then
    decides what stays in place of a share of the budget; ``call``: a traced call (``planner.profile``),
    which says that too, and how weights split in blocks and how long each computes on ``card``; ``lock``:
    where sizes are taken from that the plan's files do not say; ``advice``: what does not fit is told with
    the least budget that would do, which takes some dozens of compilations.
    Raises PlanError, and InternalError if the replay of the schedule finds a fault, which would be ours.
    """
    card = card_for(card) if isinstance(card, str) else card
    front = front_of(source, overrides)
    found, compiled = front.found, None
    own, problems, texts = own_of(catalogue)
    if problems:
        raise PlanError(problems, texts)
    if front.plan is not None:
        compiled, more = back(
            front.plan,
            target,
            own,
            budget=budget,
            overhead=overhead,
            card=card,
            activations=activations,
            call=call,
            lock=lock,
            advice=advice,
        )
        found = found + more
        if compiled is None and not errors(found):
            found.append(nothing_runs(front.plan))
    kept = tuple(by_place(apply_ignores(found, front.sources)))
    if compiled is None or errors(kept):  # what stopped the compiler is told, ignored or not
        raise PlanError(kept if errors(kept) else found, front.sources)
    return _compiled(compiled, kept, card, lock)


def _compiled(done: Done, found: tuple[Diagnostic, ...], card: Place | None, lock: Lock | None) -> Compiled:
    return Compiled(
        plan=done.graph.plan,
        target=done.graph.target,
        graph=done.graph,
        schedule=done.schedule,
        diagnostics=found,
        card=card if isinstance(card, Card) else None,
        commit=None if lock is None else commit_of(lock),
        call=done.call,
        data=None if card is None else card.data,
        shipped=done.shipped,
    )


def apply(
    source: PathOrPlan,
    pipe: Any,
    *,
    device: str | torch.device | None = None,
    gpu_id: int | None = None,
    budget: int | None = None,
    overrides: Sequence[str] = (),
    catalogue: Given = (),
    call: CallProfile | None = None,
) -> Session:
    """Puts a plan on a loaded pipeline, in place of ``pipe.enable_model_cpu_offload()``.

    ``device``: in place of the plan's (``sim:0`` is the virtual one); ``gpu_id``: its index. What a class of
    one's own runs is read from its source, or from ``catalogue`` (as for ``validate``). Plans on one
    device share the first one's budget: a later plan with another is an error, unless ``budget`` (bytes),
    an earlier session's, overrules it. The plan holds until ``session.remove()`` or until the pipeline is
    gone, whether or not the result is kept. Applying the same plan again changes nothing; another plan takes
    the first one's place. Rules for torchao and layerwise_cast are done to what is not quantized yet; what
    other backends should have done while the pipeline was loaded is compared with what is there. ``call``:
    as for ``compile``: the first call of this kind then has the room for activations that it needs, where it
    would have had to learn it. Raises PlanError with the pipeline as it was, but for a plan with other rules,
    which is off by then.
    """
    from planner.loading.packages import require

    require()
    plan = load(source, overrides=overrides)
    from planner.session.machine import pick_device

    if str(device or "").partition(":")[0] == "sim":
        from planner.virtual import backend

        backend.install()  # torch does not know the name before
    there = device_for(pick_device(plan, device, gpu_id))
    return attach(plan, pipe, there, budget=budget, catalogue=catalogue, call=call)[0]


def activations(source: PathOrPlan, *, overrides: Sequence[str] = ()) -> Predicted:
    """What each component's activations take in the call that the plan's ``run`` means: bytes by component,
    for ``validate`` and ``compile``. No GPU and no weights: the pipeline's own call runs on tensors without
    data, as on a Hopper card (other cards may run other attention kernels). Needs torch, and the components'
    configs in a folder or built-in. The trace is kept in the user's cache. Raises PlanError.
    """
    from planner.predict.needs import activations_of

    return dict(activations_of(profile(load(source, overrides=overrides))))


def profile(plan: Plan, *, kernels: Kernels | None = None) -> CallProfile:
    """The call that the plan's ``run`` means, traced: for ``compile``, ``validate`` and ``apply``, and what
    ``activations`` are taken from. ``kernels``: of the card (``card.data.kernels``), a Hopper's where that is
    left out. Of a well-known model's hub id as it ships, where that is the same call: nothing is traced then,
    and no torch needed; where it is another and there are no configs here, the nearest that ships (``notes``
    say so). Raises PlanError."""
    ships = shipping(plan, kernels)
    if ships is not None and ships.exact and ships.call is not None:
        return ships.call
    try:
        return _traced(plan, kernels)
    except PlanError:
        if ships is None or ships.call is None:
            raise
        return ships.call


def _traced(plan: Plan, kernels: Kernels | None) -> CallProfile:
    from planner.loading.packages import require

    require()
    from planner.cards.kernels import HOPPER
    from planner.tracing.cached import profile as traced

    def arguments() -> dict[str, Any]:
        from planner.loading.inputs import call_of
        from planner.loading.pipeline import class_of  # it imports torch

        cls = class_of(plan)
        made = {**call_of(plan, cls.__new__(cls)).arguments}
        made.pop("generator", None)  # no values are drawn
        return made

    return traced(plan, arguments, kernels or HOPPER)


def shipping(plan: Plan, kernels: Kernels | None = None) -> Shipped | None:
    """What ships of a well-known model whose hub id the plan's source is; None of any other source.
    ``kernels`` as for ``profile``."""
    known, _ = found_for(plan, plan.pipeline.cls, None, ())
    return shipped(plan, None if known is None else known.call, kernels)


def calibrated(plan: Plan, call: CallProfile, card: Card | str) -> tuple[CallProfile, Card]:
    """``call`` and ``card`` with what ``plan apply --calibrate`` measured of such a call on such a card, for
    ``compile(plan, call=call, card=card)``; as they are where nothing was kept. Raises PlanError (P974) for a
    file of the cache that is no calibration."""
    from planner.loading.calibrations import kept

    card = card_for(card) if isinstance(card, str) else card
    calibration, found = kept(plan, call, card)
    if found:
        raise PlanError(found)
    return (call, card) if calibration is None else with_calibration(call, card, calibration)


def with_calibration(call: CallProfile, card: Card, calibration: Calibration) -> tuple[CallProfile, Card]:
    """The same with a calibration that is at hand (``planner.predict.calibration.from_json``)."""
    made, data = put_in(call, card.data, calibration)
    return made, replace(card, data=data)


def load_pipeline(
    source: PathOrPlan,
    *,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    overrides: Sequence[str] = (),
) -> Any:
    """The pipeline that a plan names, loaded by diffusers in the plan's dtype and variant, and quantized, on
    the CPU. ``apply`` does what does not outlast a session: policies, and rules for layerwise_cast.

    ``allow_pickle``: weights in pickle files may be read (they can run code); ``trust_remote_code``: code
    that comes with a hub id may be run. A plan cannot grant either. ``overrides`` as for ``load``. Raises
    PlanError.
    """
    from planner.loading.packages import require

    require()
    from planner.loading.pipeline import load_pipeline as load_it

    plan = load(source, overrides=overrides)
    return load_it(plan, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)


def translate(
    source: Any, *, improve: bool = False, cls: str | type | None = None, catalogue: Given = ()
) -> Plan:
    """A sequence string, a pipeline class, a folder or a loaded pipeline as a plan.

    Equivalent: ``semantics: diffusers``, the moves of ``enable_model_cpu_offload``. ``improve``: what the
    string meant to say, ``semantics: liveness`` over what the class really runs. ``cls``: the class that a
    string is for, which may be left out where all classes that it fits have the same plan. A class of one's
    own is given as it is, or is in a ``catalogue`` (as for ``validate``). Raises PlanError.
    """
    shown = [part for part in (source, cls) if isinstance(part, type) and not in_diffusers(part)]
    items = [catalogue] if isinstance(catalogue, (str, Path, type)) else list(catalogue)
    own, problems, texts = own_of([*shown, *items])
    if problems:
        raise PlanError(problems, texts)
    name = cls.__name__ if isinstance(cls, type) else cls
    if isinstance(source, str) and is_sequence(source, name):
        translated, wrong, string = translate_string(source, name, improve=improve, own=own)
        if translated is None:
            raise PlanError(wrong, (string,))
        made = translated
    else:
        folder = folder_of(source) if isinstance(source, str) else None
        made = translate_target(_translated(source, own), improve=improve, source=folder)
    if not made.text:
        raise PlanError(made.diagnostics)
    text = SourceText(name=f"{made.target.cls}.plan.yaml", text=made.text)
    document, found = document_of(text)
    plan, more = build_plan(document) if document is not None else (None, [])
    if plan is None:
        raise InternalError("a translated plan does not hold: " + "; ".join(map(str, (*found, *more))))
    return plan


def catalogue(*classes: type, out: str | Path | None = None) -> str:
    """A catalogue of pipeline classes of one's own, as ``plan catalogue`` writes it, for ``catalogue=`` and
    ``--catalogue``: with it plans are checked where neither the classes nor torch are.

    The same classes and versions give the same text. ``out``: a file that it is written to (OSError). Raises
    PlanError for what is no class of a pipeline.
    """
    from planner.generate.own import catalogue_of
    from planner.generate.write import to_text

    text = to_text(catalogue_of(classes))
    if out is not None:
        from planner.loading.written import written_text

        written_text(Path(out).resolve(), text, replace=True)
    return text


def _translated(source: Any, own: Own) -> Target:
    if not isinstance(source, (str, type)):
        return source if isinstance(source, Target) else describe(source, known_of(source, own))
    target, problems = target_of(source if isinstance(source, str) else source.__name__, own=own)
    if target is None or errors(problems):
        raise PlanError(problems)
    return target


def simulate(source: PathOrPlan) -> Validation:
    """A plan run without weights. Not made yet: raises PlanError (P001)."""
    hint = "planner.apply(plan, pipe, device='sim:0') runs a loaded pipeline without a GPU"
    raise PlanError([finding(NOT_YET, '"planner.simulate" is not made yet', hint=hint)])


def device_for(name: torch.device) -> Device:
    """The way to a device: the virtual one for ``sim``, torch's own for the others; one for all sessions."""
    from planner.session.states import device_of

    if (found := device_of(name)) is not None:
        return found
    if name.type == "sim":
        from planner.virtual.device import SimDevice

        return SimDevice()
    from planner.device.torch_device import TorchDevice

    return TorchDevice(name)


def attach(
    plan: Plan,
    pipe: Any,
    device: Device,
    *,
    budget: int | None = None,
    loaded_by_us: bool = False,
    catalogue: Given = (),
    call: CallProfile | None = None,
    data: CardData | None = None,
) -> tuple[Session, Compiled]:
    """``apply`` on a device that is chosen already. ``data``: its card's, where more is known of it than what
    ships."""
    from planner.forms.quantized import quantized, same_rules
    from planner.session.attach import attach_schedule
    from planner.session.budget import agreed, watch_overhead
    from planner.session.checks import check_pipeline, excluded_by
    from planner.session.machine import card_data, room
    from planner.session.pipeline_class import session_of
    from planner.target.loaded import pipeline_bytes

    notes = check_pipeline(plan, pipe, device, loaded_by_us=loaded_by_us)
    if errors(notes):
        raise PlanError(notes, plan.document.sources)
    plan, heard = excluded_by(pipe, plan)
    there, lowered = agreed(plan, pipe, device, budget) or room(plan, device.name)
    there = there.beside(pipeline_bytes(pipe))
    rates = data or (card_data(device.name) if call is not None else None)
    where = Here(CardRoom(there.budget, there.overhead), rates)
    before = session_of(pipe)
    if before is not None and before.device.name == device.name and same_rules(before.plan, plan):
        compiled = compile(plan, pipe, card=where, catalogue=catalogue, call=call)
        if before.schedule == compiled.schedule:
            return before, compiled
    if before is not None:
        before.remove()
    with quantized(plan, pipe, device.name, keep=not loaded_by_us) as undo:
        compiled = compile(plan, pipe, card=where, catalogue=catalogue, call=call)
        notes = (*compiled.diagnostics, *notes, *heard, *lowered)
        expected = {} if call is None else expectations(call)
        session = attach_schedule(plan, compiled.schedule, pipe, device, notes, undo, expected)
    session.applied.budget = there.budget
    watch_overhead(device, there.overhead)
    return session, compiled
