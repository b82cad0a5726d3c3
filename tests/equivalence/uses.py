"""Which entry points of which components a call runs, in order; and whether a class's walk says so.

Recorded from outside, without any session: forward hooks and wrapped methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any

import torch

from planner.session.component_class import GENERIC
from planner.target.loaded import describe
from planner.target.model import WalkStage

Uses = list[str]


@contextmanager
def recorded(pipe: Any) -> Iterator[Uses]:
    """``component.entry`` of each outermost use, as it begins."""
    found: Uses = []
    with ExitStack() as undo:
        for name, info in describe(pipe).components.items():
            module = pipe.components.get(name)
            if isinstance(module, torch.nn.Module):
                _Watch(name, module, found, undo).entries((*info.entries, *GENERIC, *_hooked(module)))
        yield found


class _Watch:
    def __init__(self, name: str, module: torch.nn.Module, found: Uses, undo: ExitStack) -> None:
        self._name = name
        self._module = module
        self._found = found
        self._undo = undo
        self._depth = 0
        self._forward("", module)

    def entries(self, names: Sequence[str]) -> None:
        """Watches these too, where the component has them. A tensor's methods are no uses."""
        for entry in dict.fromkeys(names):
            *path, last = entry.split(".")
            owner: Any = self._module
            for name in path:
                owner = getattr(owner, name, None)
            part = getattr(owner, last, None)
            if isinstance(part, torch.nn.Module):
                self._forward(entry, part)
            elif isinstance(owner, torch.nn.Module) and callable(part):
                owner.__dict__[last] = self._wrapped(entry, part)
                self._undo.callback(owner.__dict__.pop, last, None)

    def _forward(self, entry: str, module: torch.nn.Module) -> None:
        before = module.register_forward_pre_hook(lambda *_: self._enter(entry))
        after = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
        self._undo.callback(before.remove)
        self._undo.callback(after.remove)

    def _wrapped(self, entry: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._enter(entry)
            try:
                return method(*args, **kwargs)
            finally:
                self._leave()

        return call

    def _enter(self, entry: str) -> None:
        if not self._depth:
            self._found.append(f"{self._name}.{entry}" if entry else self._name)
        self._depth += 1

    def _leave(self) -> None:
        self._depth -= 1


def follows(walk: Sequence[WalkStage], uses: Uses) -> bool:
    """Whether a call that made ``uses`` is one that ``walk`` tells.

    Stages come in order; an optional stage may leave out any of its uses, another one those that are
    optional in it; a stage may be passed over again (a negative prompt), with the same uses in the same
    order; two denoisers take turns.
    """
    letters = {use: chr(0x4E00 + i) for i, use in enumerate(dict.fromkeys((*tells(walk), *uses)))}
    return re.fullmatch(_pattern(walk, letters), "".join(letters[use] for use in uses)) is not None


def tells(walk: Sequence[WalkStage]) -> Iterator[str]:
    """The uses in a walk."""
    for stage in walk:
        yield from (str(run) for run in stage.runs if not _reads(run.entry))
        yield from tells(stage.stages)


def _pattern(walk: Sequence[WalkStage], letters: dict[str, str]) -> str:
    return "".join(_stage(stage, letters) for stage in walk)


def _stage(stage: WalkStage, letters: dict[str, str]) -> str:
    again = "?" if stage.optional else ""
    if stage.stages:
        inner = _pattern(stage.stages, letters)
        return f"(?:(?:{inner})+){again}" if stage.loop else f"(?:{inner}){again}"
    there = [run for run in stage.runs if not _reads(run.entry)]
    runs = [letters[str(run)] for run in there]
    certain = {letters[str(run)] for run in there if not run.optional}
    if not runs:
        return ""
    firsts = {run.component for run in stage.runs}
    twins = stage.loop and any(name.removesuffix("_2") in firsts - {name} for name in firsts)
    if not (stage.optional or twins or len(certain) < len(runs)):
        return _passes(runs)
    any_of = set() if stage.optional or twins else certain
    some = [
        _passes(chosen)
        for n in range(len(runs), 0, -1)
        for chosen in combinations(runs, n)
        if any_of <= {*chosen}
    ]
    return f"(?:{'|'.join(some)}){'*' if twins else '' if any_of else '?'}"


def _passes(runs: Sequence[str]) -> str:
    if len(runs) == 1:
        return f"{runs[0]}+"
    return f"(?:{''.join(f'{run}+' for run in runs)})+"


def _reads(entry: str) -> bool:
    return "." in entry and hasattr(torch.Tensor, entry.rpartition(".")[2])


def _hooked(module: torch.nn.Module) -> Iterator[str]:
    """Methods that diffusers decorates with ``apply_forward_hook``."""
    for cls in type(module).__mro__:
        for name, member in vars(cls).items():
            if getattr(getattr(member, "__code__", None), "co_qualname", "").startswith(
                "apply_forward_hook."
            ):
                yield name
