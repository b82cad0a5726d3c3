"""Tiling and slicing of a pipeline's components, set as a plan says and taken back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_session import VAE_OPTION_UNSUPPORTED
from planner.plan.model import Component, Plan
from planner.session.undo import Undo


def has_option(component: Any, option: str) -> bool:
    """Whether it can be set: a class may inherit ``enable_tiling`` from diffusers' mixin, which refuses where
    the class has no ``use_tiling``."""
    return hasattr(component, f"enable_{option}") and hasattr(component, f"use_{option}")


def set_option(component: Any, option: str, on: bool) -> None:
    """``enable_tiling()`` or ``disable_tiling()`` of a component that has it."""
    getattr(component, f"enable_{option}" if on else f"disable_{option}")()


def lacking(said: Component, component: Any) -> Iterator[Diagnostic]:
    """P719 for each option that the plan wants of ``component``, which has it not."""
    for option, on in said.vae_options.items():
        if on and component is not None and not has_option(component, option):
            what = f'component "{said.name}" ({type(component).__name__}) has no {option}'
            yield finding(VAE_OPTION_UNSUPPORTED, what, span=said.spans[option])


def set_options(plan: Plan, pipe: Any, component: Any, undo: Undo) -> list[Diagnostic]:
    """Sets what ``plan`` says of ``component``, by whatever names ``pipe`` has it; P719 for what it lacks.
    ``undo`` is given the steps that set it as it was, and keeps it no longer than others do."""
    found: list[Diagnostic] = []
    for name, said in plan.components.items():
        if pipe.components.get(name) is not component:
            continue
        found += lacking(said, component)
        for option, on in said.vae_options.items():
            if has_option(component, option) and getattr(component, f"use_{option}") != on:
                undo.add(partial(_back, weakref.ref(component), option, not on))
                set_option(component, option, on)
    return found


def _back(held: weakref.ref[Any], option: str, on: bool) -> None:
    if (component := held()) is not None:
        set_option(component, option, on)
