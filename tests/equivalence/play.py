"""Plays the call scripts of classes under one of the two offloads and writes down what moved.

``python -m equivalence.play stock|ours all|few OUT [CLASS ...]``: one offload a process, so that neither
meets the other's hooks. ``OUT`` becomes JSON: class -> script -> ``on`` (enabling; only where the components
change), ``call``, ``lost`` (uses in it that moved nothing because no hook saw them), ``end`` (of the
call) and ``freed`` (by hand, after a call that did not free itself).
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakMethod

import diffusers
import torch
from pipelines.plans import attached

from equivalence.recorder import Recorder
from equivalence.scripts import Script, first_of_alike, frees, is_usual, scripts
from equivalence.stubs import UNSEEN, known, pipeline, real_class, seen, sizes_of
from equivalence.translated import translated
from planner.target import catalogue
from planner.target.model import WalkUse
from planner.virtual.backend import install

Played = dict[str, dict[str, list[str]]]


class Halt(Exception):
    """Raised in the middle of a call."""


def classes() -> tuple[str, ...]:
    """Every class that has a sequence."""
    return tuple(n for n in catalogue.names() if known(n).sequence is not None)


def play(name: str, offload: str, *, few: bool = False) -> Played:
    """All scripts of one class, or ``few``."""
    found: Played = {}
    with Recorder(sizes_of(name)) as recorder:
        played: Any = None
        for script in (one for one in scripts(name) if not few or is_usual(name, one)):
            said: dict[str, list[str]] = {}
            if played is None or played.absent != script.absent:
                played = None  # its memory goes before anything is written down
                gc.collect()
                recorder.cut()
                played = _Pipeline(name, script.absent, offload, recorder)
                said["on"] = recorder.cut()
            played.run(script, said)
            found[script.name] = said
    return found


class _Pipeline:
    """A pipeline of stubs under an offload."""

    def __init__(self, name: str, absent: frozenset[str], offload: str, recorder: Recorder) -> None:
        self.absent = absent
        self._frees = frees(name)
        self._recorder = recorder
        self._pipe = pipeline(name, _bound(WeakMethod(self._call)), absent)
        if offload == "stock":
            self._pipe.enable_model_cpu_offload(device="sim:0")
        else:
            attached(translated(self._pipe), self._pipe)

    def run(self, script: Script, said: dict[str, list[str]]) -> None:
        """One call, and what a careful user does after one that did not free its hooks."""
        with suppress(Halt):
            self._pipe(script, said)
        said["end"] = self._recorder.cut()
        if script.fails or not self._frees:
            self._pipe.maybe_free_model_hooks()
        said["freed"] = self._recorder.cut()

    def _call(self, pipe: Any, script: Script, said: dict[str, list[str]]) -> None:
        """In the place of the class's ``__call__``."""
        try:
            for step in script.steps:
                if lost(pipe, step):
                    said.setdefault("lost", []).append(str(step))
                use(pipe, step)
            if script.fails:
                raise Halt
        finally:
            said["call"] = self._recorder.cut()
        if self._frees:
            pipe.maybe_free_model_hooks()


def lost(pipe: Any, step: WalkUse) -> bool:
    """Whether diffusers' hooks would do something here, could they see this use: bring the component, or
    send its predecessor away."""
    name = type(pipe).__name__
    if getattr(pipe, step.component) is None or seen(name, step.component, step.entry) not in UNSEEN:
        return False
    chain = [n for n in pipe.model_cpu_offload_seq.split("->") if getattr(pipe, n, None) is not None]
    before = dict(pairwise(reversed(dict.fromkeys(chain)))).get(step.component)
    return not _there(pipe, step.component) or (before is not None and _there(pipe, before))


def _there(pipe: Any, component: str) -> bool:
    return bool(getattr(pipe, component).device.type != "cpu")


def _bound(method: WeakMethod[Any]) -> Any:
    """Held weakly: a class whose ``__call__`` holds its one instance is never collected while a plan that is
    on that instance holds the class, and each collection then walks through all that were played."""
    return lambda pipe, script, said: method()(pipe, script, said)  # type: ignore[misc]


def use(pipe: Any, step: WalkUse) -> None:
    """Calls the component's entry point, if the pipeline has the component."""
    part = getattr(pipe, step.component)
    if part is None:
        return
    for name in filter(None, step.entry.split(".")):
        part = getattr(part, name)
    tensor = seen(type(pipe).__name__, step.component, step.entry) == "tensor"
    part(*(_ARGUMENTS[step.entry.rpartition(".")[2]] if tensor else ()))


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "view": (0,),
    "unsqueeze": (0,),
    "expand": (0,),
    "expand_as": (torch.zeros(0),),
    "repeat": (1,),
}
"""What a method of an empty tensor is called with."""


def main(offload: str, which: str, out: str, *names: str) -> None:
    """Plays all scripts of ``names`` or of all classes, or a few of those that are not alike."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    diffusers.logging.set_verbosity_error()
    install()
    wanted = names or (first_of_alike(classes()) if which == "few" else classes())
    for name in wanted:
        real_class(name)
    gc.collect()
    gc.freeze()  # what is imported stays: the collections between pipelines look at pipelines only
    played = {name: play(name, offload, few=which == "few") for name in wanted}
    Path(out).write_text(json.dumps(played, indent=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
