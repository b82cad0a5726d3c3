"""Real pipeline classes on ``sim:0``: whole, under diffusers' own offload, and under our session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pipelines.all import CASES, build, close, run, same
from pipelines.plans import as_diffusers, attached, judged, plan_for, tight
from pipelines.registry import one_a_family

from planner.diagnostics.diagnostic import Diagnostic
from planner.virtual.audit import audit, snapshot
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

OWN_TO = {"StableUnCLIPPipeline": "image_normalizer.to() makes new parameters, wherever it is sent"}
"""Classes with a component that moves itself past any session: no ledger has those bytes."""

NO_SEQUENCE = {"StableCascadeCombinedPipeline": "has no model_cpu_offload_seq of its own"}

NOT_FREED = {"LDMTextToImagePipeline": "does not call maybe_free_model_hooks: the last component stays"}
"""Classes that diffusers leaves on the device after the call. A session does not."""

OWN_OFFLOAD = {
    "KandinskyV22Img2ImgCombinedPipeline": "offloads two inner pipelines; the first frees its own",
}
"""Classes whose own ``enable_model_cpu_offload`` does more than their sequence string says."""

_whole: dict[str, tuple[torch.Tensor, ...]] = {}


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


def whole(name: str) -> tuple[torch.Tensor, ...]:
    """What the pipeline gives when all of it stands on the device."""
    if name not in _whole:
        _whole[name] = run(build(name).to("sim:0"), name)
    return _whole[name]


@pytest.mark.parametrize("name", one_a_family())
def test_a_whole_pipeline_runs_without_a_miss_and_again_the_same(name: str) -> None:
    pipe = build(name).to("sim:0")
    with audit(pipe, None) as seen:
        first = run(pipe, name)
    assert seen.verdict().ok, seen.verdict()
    assert same(first, run(pipe, name))
    # Not bit for bit: the CPU has kernels of its own for some operations, others on each processor.
    assert close(first, run(build(name), name))
    _whole[name] = first


@pytest.mark.parametrize("name", one_a_family({*OWN_TO, *NOT_FREED, *OWN_OFFLOAD, *NO_SEQUENCE}))
def test_our_session_gives_the_same_picture_with_each_component_alone(name: str) -> None:
    pipe = build(name)
    truth = snapshot(pipe)
    plan = plan_for(pipe)
    session, device = attached(plan, pipe, tight(pipe, plan))
    said = judged(session, device, pipe, name, truth)
    session.remove()
    assert same(said.outputs, whole(name))
    assert without_own_to(name, said.say) == []
    assert device.ledger.live == 0


# Of every class, tests/equivalence compares the moves by stubs.
@pytest.mark.parametrize("name", one_a_family({*OWN_TO, *NOT_FREED, *OWN_OFFLOAD}, but=NO_SEQUENCE))
def test_diffusers_semantics_move_what_diffusers_moves(name: str) -> None:
    stock = build(name)
    stock.enable_model_cpu_offload(device="sim:0")
    with moves(stock) as moved:
        expected = run(stock, name)
    assert same(expected, whole(name))

    pipe = build(name)
    truth = snapshot(pipe)
    session, device = attached(as_diffusers(pipe), pipe)
    said = judged(session, device, pipe, name, truth)
    session.remove()
    assert same(said.outputs, expected)
    assert without_own_to(name, said.say) == []
    ours = [("onload" if e[0] == "load" else "offload", e[1]) for e in said.seen.events if e[0] != "use"]
    # What is excluded is placed again after each call by diffusers, and never moves with us.
    theirs = [event for event in moved if event[1] not in session.schedule.course.fixed]
    assert name in OWN_OFFLOAD or in_call(ours)[0] == in_call(theirs)[0]
    assert name in NOT_FREED or in_call(ours)[1] == in_call(theirs)[1]


def without_own_to(name: str, found: tuple[Diagnostic, ...]) -> list[str]:
    """What was said, without what is known of a component that moves itself."""
    return [str(d) for d in found if not (name in OWN_TO and d.code.id == "P759")]


def in_call(events: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], set[tuple[str, str]]]:
    """The moves up to the last onload, in order, and what left after it, in any order."""
    last = max((i for i, event in enumerate(events) if event[0] == "onload"), default=-1)
    return events[: last + 1], set(events[last + 1 :])


@contextmanager
def moves(pipe: Any) -> Iterator[list[tuple[str, str]]]:
    """The components that change their device, as ``nn.Module.to`` moves them."""
    names = {id(m): name for name, m in reversed(pipe.components.items()) if isinstance(m, torch.nn.Module)}
    seen: list[tuple[str, str]] = []
    original = torch.nn.Module._apply
    inside: list[int] = []

    def apply(module: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
        if id(module) not in names or inside:
            return original(module, fn, recurse)
        before = place(module)
        inside.append(1)
        try:
            original(module, fn, recurse)
        finally:
            inside.pop()
        if place(module) != before:
            seen.append(("offload" if place(module) == "cpu" else "onload", names[id(module)]))
        return module

    torch.nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        torch.nn.Module._apply = original  # type: ignore[method-assign]


def place(module: torch.nn.Module) -> str:
    return next((t.device.type for t in (*module.parameters(), *module.buffers())), "cpu")


def test_the_tables_of_exceptions_name_classes_that_are_built() -> None:
    assert {*OWN_TO, *NO_SEQUENCE, *NOT_FREED, *OWN_OFFLOAD} <= set(CASES)
    assert len({case.cls for case in CASES.values()}) >= 80
    assert SimDevice().name == torch.device("sim:0")
