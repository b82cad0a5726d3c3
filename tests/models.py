"""Plans and targets written as Python, for the stages that start from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.document.document import Document
from planner.plan.model import (
    Amount,
    Budget,
    Component,
    Idle,
    Loop,
    Name,
    PipelineRef,
    Plan,
    Policy,
    Semantics,
    Stage,
    Use,
)
from planner.source.text import SourceText, Span
from planner.target.model import Blocks, ComponentInfo, Target, WalkLoop, WalkStage, WalkUse

MIB = 1 << 20


def at(line: int = 1) -> Span:
    return Span(file="x.plan.yaml", line=line, column=1, width=1)


def use(text: str, line: int = 1) -> Use:
    component, _, entry = text.partition(".")
    return Use(component=component, entry=entry, span=at(line))


def stage(
    id: str,
    runs: str | Sequence[Stage],
    *,
    loop: str | None = None,
    after: Sequence[str] | None = None,
    optional: bool = False,
    line: int = 1,
) -> Stage:
    """``runs`` is ``"a b.encode"``, or nested stages."""
    uses = tuple(use(name, line) for name in runs.split()) if isinstance(runs, str) else ()
    return Stage(
        id=id,
        runs=uses,
        stages=() if isinstance(runs, str) else tuple(runs),
        loop=None
        if loop is None
        else Loop(share=1.0, text=loop)
        if loop == "steps"
        else Loop(count=int(loop), text=loop),
        after=None if after is None else tuple((name, at(line)) for name in after),
        optional=optional,
        span=at(line),
    )


def ordered(text: str) -> tuple[Stage, ...]:
    """The stages that ``order: a -> b.encode`` means."""
    return tuple(stage(name, name) for name in text.replace("->", " ").split())


def plan(
    stages: Sequence[Stage] | str | None = None,
    *,
    vram: int | None = None,
    policies: Mapping[str, Policy] | None = None,
    exclude: Sequence[str] = (),
    semantics: str = "liveness",
    idle: str = "release",
) -> Plan:
    """``stages`` may be an order string; ``vram`` is in MiB."""
    amount = None if vram is None else Amount(bytes=vram * MIB, text=f"{vram}MiB", span=at(3))
    text = SourceText(name="x.plan.yaml", text="version: 1\n")
    none: dict[str, Any] = {}
    return Plan(
        name="x",
        pipeline=PipelineRef(cls="XPipeline", span=at(2), spans=none),
        device="auto",
        budget=Budget(vram=amount),
        components={
            name: Component(name=name, policy=policy, options=none, spans=none, span=at(4))
            for name, policy in (policies or {}).items()
        },
        stages=ordered(stages) if isinstance(stages, str) else None if stages is None else tuple(stages),
        from_order=isinstance(stages, str),
        exclude=tuple(Name(name=name, span=at(5)) for name in exclude),
        quantization=(),
        loras=(),
        semantics=Semantics(semantics),
        idle=Idle(idle),
        run=none,
        workload=none,
        requires={},
        span=at(),
        document=Document(values=none, spans={"/budget/vram": at(3)}, key_spans=none, sources=(text,)),
    )


def target(
    sizes: Mapping[str, int | None],
    *,
    walk: Sequence[str] | None = None,
    none: Sequence[str] = (),
    others: Sequence[str] = ("scheduler", "tokenizer"),
    in_blocks: Sequence[str] = (),
) -> Target:
    """``sizes`` in MiB; ``walk`` is ``["text_encoder+vae.encode~", "unet*", "vae?"]``: ``*`` loops, ``?`` may
    not be, nor ``~`` where the others of its stage are.
    ``in_blocks``: components whose every MiB but the first is a block that may leave."""
    components = {
        name: ComponentInfo(
            name=name,
            classes=("Module",),
            module=True,
            optional=name in none,
            present=name not in none,
            bytes=None if size is None else size * MIB,
            blocks=Blocks(fixed=MIB, streamable=(MIB,) * (size - 1)) if size and name in in_blocks else None,
            entries=(),
        )
        for name, size in sizes.items()
    }
    components |= {name: ComponentInfo(name=name, classes=("Other",), module=False) for name in others}
    return Target(
        cls="XPipeline",
        components=components,
        sequence="->".join(sizes),
        excluded=(),
        walk=None if walk is None else tuple(map(_walk_stage, walk)),
        version="0.42.1",
        origin="catalogue",
    )


def _walk_stage(text: str) -> WalkStage:
    names = text.rstrip("*?").split("+")
    runs = []
    for name in names:
        component, _, entry = name.rstrip("~").partition(".")
        runs.append(WalkUse(component=component, entry=entry, optional=name.endswith("~")))
    loop: WalkLoop = "steps" if "*" in text else ""
    return WalkStage(id="+".join(names).replace("~", ""), runs=tuple(runs), loop=loop, optional="?" in text)


def told(use: WalkUse) -> str:
    """``vae.encode?`` where it may not happen."""
    return f"{use}{'?' if use.optional else ''}"


def stages(walk: Sequence[WalkStage]) -> str:
    """A walk on a line: ``*`` loops steps, ``+`` loops otherwise, ``?`` is optional, a stage or one use."""
    marks = {"": "", "steps": "*", "times": "+"}
    made = []
    for stage in walk:
        inside = stages(stage.stages) if stage.stages else " ".join(map(told, stage.runs))
        made.append(f"({inside}){marks[stage.loop]}{'?' if stage.optional else ''}")
    return " ".join(made)
