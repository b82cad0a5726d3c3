"""Numbers of a plan that contradict each other: shares of one whole, parts of one memory, LoRAs twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_plan import (
    BAD_SIZE,
    MORE_PINNED,
    NOTHING_LEFT,
    SHARES_OVER_WHOLE,
    TWO_LORAS,
)
from planner.plan.model import Amount, Budget, Lora, Plan, Stage
from planner.source.text import Span


def inconsistencies(plan: Plan) -> Iterator[Diagnostic]:
    """What cannot hold at once, whatever the pipeline and the machine."""
    yield from _budget(plan.budget)
    yield from _loops(plan, plan.stages or ())
    yield from _loras(plan.loras)


def _budget(budget: Budget) -> Iterator[Diagnostic]:
    vram, left = _share(budget.vram), _share(budget.leave_free)
    if budget.leave_free is not None and left >= 1:
        said = f'"{budget.leave_free.text}" of the card is left free: nothing is left for the plan'
        yield finding(NOTHING_LEFT, said, span=budget.leave_free.span, pointer="/budget/leave_free")
    elif budget.vram is not None and budget.leave_free is not None and left and vram + left > 1:
        said = f"{budget.vram.text} of the card for the plan and {budget.leave_free.text} left free"
        said += f" are {_percent(vram + left)} of it"
        yield finding(SHARES_OVER_WHOLE, said, span=budget.leave_free.span, pointer="/budget/leave_free")
    ram, pinned = budget.ram, budget.pinned
    if ram is not None and pinned is not None and (pinned.bytes or 0) > (ram.bytes or 0):
        said = f"{pinned.text} may be registered of {ram.text}: at most all of it will be"
        yield finding(MORE_PINNED, said, span=pinned.span, pointer="/budget/pinned")


def _loops(plan: Plan, stages: Sequence[Stage]) -> Iterator[Diagnostic]:
    """Stages of one level split the steps between them, in their order; once all are given away, another
    loop begins. A group that does not repeat is no level of its own."""
    given = Fraction()
    for stage in _level(stages):
        share = _fraction(stage.loop.text) if stage.loop is not None else None
        if share is not None and share < 1:
            given += share
            if given > 1:
                said = f'with "{stage.id}" the stages that split a loop run {_percent(given)} of its steps'
                left = 1 - (given - share)
                hint = f"{_percent(left)} are left for it"
                yield finding(SHARES_OVER_WHOLE, said, span=_loop_span(plan, stage), hint=hint)
                given = Fraction()
            elif given == 1:
                given = Fraction()
        if stage.loop is not None:
            yield from _loops(plan, stage.stages)


def _level(stages: Sequence[Stage]) -> Iterator[Stage]:
    for stage in stages:
        if stage.stages and stage.loop is None:
            yield from _level(stage.stages)
        else:
            yield stage


def _loras(loras: Sequence[Lora]) -> Iterator[Diagnostic]:
    files: dict[tuple[str, str | None], Lora] = {}
    names: dict[str, Lora] = {}
    for lora in loras:
        if not math.isfinite(lora.lora_scale):
            yield finding(BAD_SIZE, f'"lora_scale" is {lora.lora_scale}: no finite number', span=lora.span)
        if (first := files.setdefault((lora.lora_id, lora.weight_name), lora)) is not lora:
            said = f'"{lora.lora_id}" is loaded in line {first.span.line} already'
            yield finding(TWO_LORAS, said, span=lora.span, hint="lora_scale says how much of it there is")
        elif lora.adapter_name is not None and lora.adapter_name in names:
            line = names[lora.adapter_name].span.line
            said = f'two LoRAs are called "{lora.adapter_name}", the first in line {line}'
            yield finding(TWO_LORAS, said, span=lora.span)
        if lora.adapter_name is not None:
            names.setdefault(lora.adapter_name, lora)


def _share(amount: Amount | None) -> Fraction:
    return (_fraction(amount.text) or Fraction()) if amount is not None else Fraction()


def _fraction(text: str) -> Fraction | None:
    """``12.5%``, exactly: sums of floats pass 1 where those of the text do not."""
    return Fraction(text.removesuffix("%").strip()) / 100 if text.endswith("%") else None


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):g}%"


def _loop_span(plan: Plan, stage: Stage) -> Span:
    """Where the plan says how often ``stage`` runs."""
    spans = plan.document.spans
    own = (at.removesuffix("/id") for at, span in spans.items() if at.endswith("/id") and span == stage.span)
    return spans.get(f"{next(own, '')}/loop", stage.span)
