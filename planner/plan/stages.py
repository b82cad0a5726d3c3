"""``order`` and ``stages`` to the plan's stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p3_plan import (
    AFTER_ITSELF,
    BAD_SIZE,
    STATED_TWICE,
    TOO_DEEP,
    TOO_MANY_STAGES,
    UNKNOWN_STAGE,
)
from planner.document.document import Document
from planner.plan.model import Loop, Stage, Use
from planner.plan.order import use, uses_in
from planner.plan.units import loop
from planner.source.limits import LISTED, NESTED, STAGES


def read_order(said: str | list[str], document: Document) -> tuple[tuple[Stage, ...], list[Diagnostic]]:
    """A stage for each name, in order. Which of them loops is the graph's to say: it knows the class."""
    if isinstance(said, str):
        span = document.spans["/order"]
        source = next((text for text in document.sources if text.name == span.file), None)
        uses, found = uses_in(said, span, source)
    else:
        uses = [use(name, document.spans[f"/order/{i}"]) for i, name in enumerate(said)]
        found = []
    return tuple(_named(uses)), found


def _named(uses: Sequence[Use]) -> list[Stage]:
    """Stages called as their uses; one that comes again gets a number."""
    made: list[Stage] = []
    taken: dict[str, int] = {}
    for each in uses:
        name = str(each)
        taken[name] = taken.get(name, 0) + 1
        id = name if taken[name] == 1 else f"{name}-{taken[name]}"
        made.append(Stage(id=id, runs=(each,), span=each.span))
    return made


def read_stages(
    said: Sequence[Any], document: Document, pointer: str = "/stages", depth: int = 1
) -> tuple[tuple[Stage, ...], list[Diagnostic]]:
    """One level of stages, and what is in them."""
    found: list[Diagnostic] = []
    if depth == 1 and (count := _count(said)) > STAGES.most:
        problem = f"the plan has {count:,} stages: at most {STAGES}"
        return (), [finding(TOO_MANY_STAGES, problem, span=document.spans[pointer], pointer=pointer)]
    strange = 0

    def say(code: Code, message: str, at: str, hint: str = "") -> None:
        found.append(finding(code, message, span=document.spans[at], pointer=at, hint=hint))

    made = []
    ids = [stage["id"] for stage in said]
    first = {id: i for i, id in reversed([*enumerate(ids)])}
    for i, stage in enumerate(said):
        here = f"{pointer}/{i}"
        if first[stage["id"]] != i:
            say(STATED_TWICE, f'a stage "{stage["id"]}" stands above already', f"{here}/id")
        seen: set[str] = set()
        for j, name in enumerate(stage.get("after", ())):
            if name in seen:
                say(STATED_TWICE, f'"{name}" stands here twice', f"{here}/after/{j}")
            elif name == stage["id"]:
                say(AFTER_ITSELF, f'stage "{name}" waits for itself', f"{here}/after/{j}")
            elif name not in first:
                strange += 1
                others = [other for other in ids if other != stage["id"]]
                # Many are no slip of the pen, and each is compared with every stage.
                hint = did_you_mean(name, others) if strange <= LISTED.most else ""
                say(UNKNOWN_STAGE, f'no stage "{name}" on this level', f"{here}/after/{j}", hint)
            seen.add(name)
        inside: tuple[Stage, ...] = ()
        if "stages" in stage:
            if depth == NESTED.most:
                say(TOO_DEEP, f"stages are nested more than {NESTED.most} deep", f"{here}/stages")
            else:
                inside, more = read_stages(stage["stages"], document, f"{here}/stages", depth + 1)
                found += more
        times: Loop | None = None
        if "loop" in stage:
            times = loop(stage["loop"])
            if times is None:
                say(BAD_SIZE, f'"{stage["loop"]}" is out of range: more than 0, at most 100%', f"{here}/loop")
        after = stage.get("after")
        made.append(
            Stage(
                id=stage["id"],
                runs=tuple(
                    use(name, document.spans[f"{here}/runs/{j}"])
                    for j, name in enumerate(stage.get("runs", ()))
                ),
                stages=inside,
                loop=times,
                after=None
                if after is None
                else tuple((name, document.spans[f"{here}/after/{j}"]) for j, name in enumerate(after)),
                optional=stage.get("optional", False),
                span=document.spans[f"{here}/id"],
            )
        )
    return tuple(made), found


def _count(stages: Sequence[Any]) -> int:
    return sum(1 + _count(stage.get("stages", ())) for stage in stages)
