"""What a component weighs under its rules: exactly, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from planner.plan.model import Plan, QuantizationRule
from planner.quantization.backends import BACKENDS
from planner.quantization.formats import ITEM, Made, made_of
from planner.quantization.matrix import row_of
from planner.quantization.select import Keeps, Taken, take
from planner.target.blocks import blocks_of
from planner.target.model import Blocks, ComponentInfo, Target, device_bytes
from planner.target.parts import Part
from planner.target.tree import tree_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one rule does to a component. ``made``: each module that it changes with what it becomes;
    ``stays``: those that it takes and whose shape its format does not fit. What is quantized already is
    neither."""

    taken: Taken
    made: tuple[tuple[Part, Made], ...]
    stays: tuple[Part, ...]

    @property
    def rule(self) -> QuantizationRule:
        """The rule."""
        return self.taken.rule

    @property
    def before(self) -> int:
        """Bytes on the device, as they would lie without the rule."""
        return sum(device_bytes(part.tensors) for part, _ in self.made if not part.tied)

    @property
    def after(self) -> int:
        """Bytes on the device under the rule."""
        return sum(device_bytes(made.nbytes(part)) for part, made in self.made if not part.tied)


def keeps_of(info: ComponentInfo) -> Keeps:
    """What the component's class asks to leave alone, as far as it is known."""
    return Keeps(float32=info.keeps[0], cast=info.keeps[1])


def effects(rules: Sequence[QuantizationRule], info: ComponentInfo) -> tuple[Effect, ...] | None:
    """What each of one component's ``rules`` does to it; None where its modules are not known."""
    if info.parts is None:
        return None
    return tuple(_effect(taken) for taken in take(rules, info.parts, keeps_of(info)))


def resized(info: ComponentInfo, rules: Sequence[QuantizationRule]) -> ComponentInfo:
    """A component, not quantized yet, with the bytes and blocks that it has once its rules are executed;
    without them where a header leaves open what the rules take."""
    done = effects(rules, info)
    if done is None or info.weights is None or not all(effect.taken.sure for effect in done):
        return replace(info, bytes=None, blocks=None)
    made = {part.name: (part, it) for effect in done for part, it in effect.made}
    buffers = [
        (f"{name}.buffer{number}", size)
        for name, (_, it) in made.items()
        for number, size in enumerate(it.buffers)
    ]
    blocks = blocks_of(tree_of(_tensors(info.weights, made), buffers))
    if not all(_streams(rule) for rule in rules):
        blocks = Blocks(fixed=blocks.bytes, streamable=())
    return replace(info, bytes=blocks.bytes, blocks=blocks)


def sized(plan: Plan, target: Target) -> Target:
    """``target`` as it weighs under the plan's rules. A loaded pipeline weighs what it weighs: its rules were
    executed while it was loaded."""
    rules: dict[str, list[QuantizationRule]] = {}
    for rule in plan.quantization:
        if rule.backend == "gguf":
            continue  # what its file holds is quantized already
        rules.setdefault(rule.component, []).append(rule)
    if target.origin == "loaded" or not rules:
        return target
    components = {
        name: resized(info, rules[name]) if name in rules and not info.quantized else info
        for name, info in target.components.items()
    }
    return replace(target, components=components)


def _streams(rule: QuantizationRule) -> bool:
    row = row_of(rule.backend, BACKENDS[rule.backend].type_of(rule.options))
    return row.cells["stream"].verdict != "no"


def _effect(taken: Taken) -> Effect:
    found = [(part, made_of(taken.rule.backend, taken.rule.options, part)) for part in taken.parts]
    return Effect(
        taken=taken,
        made=tuple((part, made) for part, made in found if made is not None),
        stays=tuple(part for part, made in found if made is None and part.dtype in ITEM),
    )


def _tensors(
    weights: Sequence[tuple[str, int]], made: dict[str, tuple[Part, Made]]
) -> Iterator[tuple[str, int]]:
    """Every tensor under the rules. What a weight is made of lies in its module."""
    for name, nbytes in weights:
        module, _, leaf = name.rpartition(".")
        known = made.get(module)
        if known is None or leaf not in ("weight", "bias"):
            yield name, nbytes
        elif leaf == "weight":
            yield from ((f"{module}.weight{n}", size) for n, size in enumerate(known[1].weight))
        else:
            yield name, nbytes if known[1].bias is None else known[1].bias
