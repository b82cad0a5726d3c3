"""Small pipelines that never were, with a traced call: for what compares plans over many of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from planner.predict.profile import CallProfile, Operation, Section, Turn, UseProfile, Weights
from planner.target.model import Blocks, ComponentInfo, Target, WalkLoop, WalkStage, WalkUse

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """A pipeline's ``target``, its ``call``, and a plan's text without a budget; ``bytes`` of all weights."""

    target: Target
    call: CallProfile
    text: str
    bytes: int

    def plan(self, vram: int, *more: str) -> str:
        """With a budget in bytes, and further lines."""
        return "\n".join((self.text + f"budget: {{vram: {vram}B}}", *more, ""))


def random_call(seed: int, *, most: int = 3, blocks: int = 6, steps: int = 4, full: bool = False) -> Made:
    """Encoders that run once, a denoiser, at times with a helper in its loop, a decoder: at ``most`` so many
    components, with up to so many ``blocks``, of sizes and paces as real ones have them. ``full``: as many
    components as that, each with as many blocks, and no helper."""
    random = Random(seed)
    count = most if full else random.randint(2, most)
    names = [f"encoder_{n}" for n in range(count - 2)] + ["denoiser", "decoder"]
    weights, uses = {}, []
    for name in names:
        weights[name] = _weights(random, blocks if name != "decoder" or full else 0, full=full)
        uses.append(_use(random, name, weights[name]))
    helper = random.random() < 0.3 and not full
    if helper:
        weights["helper"] = _weights(random, blocks // 2)
        uses.insert(count - 2, _use(random, "helper", weights["helper"]))
        names.insert(count - 2, "helper")
    turns: list[Turn] = []
    for number, name in enumerate(names):
        if name == "helper":
            continue
        once = [number - 1, number] if helper and name == "denoiser" else [number]
        for use in once * (steps if name == "denoiser" else 1):
            turns.append(Turn(use, random.choice((0, 2 * MB)) if name != "denoiser" else 2 * MB))
    call = CallProfile(
        pipeline="XPipeline",
        arguments={"steps": steps},
        kernels="hopper",
        versions={},
        steps=steps,
        uses=tuple(uses),
        turns=tuple(turns),
        weights=weights,
    )
    sizes = {name: w.fixed + sum(n for _, n in w.blocks) for name, w in weights.items()}
    walk = [
        _stage(name, "helper" if helper and name == "denoiser" else "") for name in names if name != "helper"
    ]
    target = Target(
        cls="XPipeline",
        components={
            name: ComponentInfo(
                name=name,
                classes=("Module",),
                module=True,
                bytes=sizes[name],
                blocks=Blocks(fixed=w.fixed, streamable=tuple(n for _, n in w.blocks)),
            )
            for name, w in weights.items()
        },
        sequence="->".join(names),
        excluded=(),
        walk=tuple(walk),
        version="0.42.1",
        origin="catalogue",
    )
    return Made(target, call, "version: 1\nname: x\npipeline: {class: XPipeline}\n", sum(sizes.values()))


def _weights(random: Random, blocks: int, *, full: bool = False) -> Weights:
    count = blocks if full else random.randint(blocks // 2, blocks)
    size = random.choice((40, 150, 400)) * MB
    parts = tuple((f"blocks.{n}", size * random.choice((1, 1, 1, 2)) // 512 * 512) for n in range(count))
    fixed = random.choice((5, 60, 300)) * MB // 512 * 512
    return Weights(fixed=fixed, blocks=parts, tensors=(4, *(random.choice((4, 16)) for _ in parts)))


def _use(random: Random, name: str, weights: Weights) -> UseProfile:
    """Each block's pace is around that of the link, so that some plans wait and others do not."""
    operations, sections = [], []
    for block, nbytes in (("", weights.fixed), *weights.blocks):
        work = int(nbytes / 55e9 * random.choice((0.2, 0.7, 1.5, 4.0)) * 4e12)
        operations.append(Operation("memory", "bfloat16", 0, max(work, MB)))
        sections.append(Section(block, ((len(operations) - 1, random.choice((1, 8))),)))
    takes = random.choice((10, 80, 300)) * MB // 512 * 512
    return UseProfile(
        component=name,
        signature=name,
        output=MB // 512 * 512,
        room=takes + 40 * MB,
        events=(takes, -1, MB // 512 * 512),
        operations=tuple(operations),
        sections=tuple(sections),
    )


def _stage(name: str, helper: str) -> WalkStage:
    runs = tuple(WalkUse(component=one) for one in (helper, name) if one)
    loop: WalkLoop = "steps" if name == "denoiser" else ""
    return WalkStage(id=name, runs=runs, loop=loop)
