"""A hub's pipeline with the sizes that ship, in any dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.models.model import Model, Shapes, shapes
from planner.plan.model import Plan
from planner.target.blocks import blocks_of
from planner.target.catalogue import Catalogue, Own, versions
from planner.target.component import Reader
from planner.target.model import ComponentInfo, Target
from planner.target.tree import tree_of


def sized_as_shipped(target: Target, plan: Plan, model: Model, own: Own = ()) -> Target:
    """``target`` with the components of ``model``, as loading them in the plan's dtype would have it: bytes,
    blocks, names of modules. A component that has a source of its own, or whose class is another there, stays
    as it is; one that the repository does not have is not there."""
    # A class that only the plan tells of is of no version of diffusers.
    classes = Catalogue(target.version or versions()[0], own)
    reader = Reader(dtype=plan.pipeline.dtype or "float32", variant=None, classes=classes)
    elsewhere = {name for name, said in plan.components.items() if said.source is not None}
    components = {
        name: info
        if name in elsewhere or info.bytes is not None or not info.module
        else _once(info, model, reader, target, own)
        for name, info in target.components.items()
    }
    return replace(target, components=components, origin="shipped")


_MADE: dict[tuple[str, str, str, str], tuple[ComponentInfo, ComponentInfo]] = {}
"""By model, component, dtype and version of diffusers: of which description the last was made, and what."""


def _once(info: ComponentInfo, model: Model, reader: Reader, target: Target, own: Own) -> ComponentInfo:
    """``_component``, kept: a search compiles the same pipeline hundreds of times, and names of modules and
    their blocks are most of what that takes."""
    same = target.cls == model.cls
    if own or not same:
        return _component(info, shapes(model), reader, same=same)
    key = (model.name, info.name, reader.dtype, target.version)
    if key not in _MADE or _MADE[key][0] != info:
        _MADE[key] = info, _component(info, shapes(model), reader, same=same)
    return _MADE[key][1]


def _component(
    info: ComponentInfo, known: Mapping[str, Shapes], reader: Reader, *, same: bool
) -> ComponentInfo:
    said = known.get(info.name)
    if said is None:
        return replace(info, present=False) if info.optional else info
    if not same and info.classes and said.cls not in info.classes:
        return info
    made = reader.built_in(replace(info, classes=(said.cls,)), said.tensors, said.buffers)
    blocks = blocks_of(tree_of(made.weights or ()))
    # In which dtype the repository has them is not among the facts.
    return replace(made, present=True, bytes=blocks.bytes, blocks=blocks, converted=None)
