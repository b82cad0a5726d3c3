"""A session with a fault in it is found out by the simulation, wherever the fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import planner
from planner.api import attach
from planner.diagnostics.diagnostic import errors
from planner.loading.call import call
from planner.loading.inputs import call_of
from planner.session.applied import Applied
from planner.session.component import State
from planner.session.device_state import DeviceState
from planner.session.residency import Residency
from planner.streaming.binding import Binding
from planner.streaming.device_weights import DeviceWeights
from planner.virtual.audit import snapshot
from planner.virtual.device import SimDevice

Patch = Callable[[pytest.MonkeyPatch], None]


class Nth:
    """True at the ``n``-th time that it is asked, from 0."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left == -1


def dropped_evict(n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, evict = Nth(n), Residency.evict

        def mutant(self: Residency, applied: Applied, name: str, stage: str = "") -> None:
            if now:
                component = applied.components[name]
                component.weights = None  # it believes that the component left
                component._become(State.AWAY)
                return
            evict(self, applied, name, stage)

        monkeypatch.setattr(Residency, "evict", mutant)

    return patch


def ignored_evict(n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, evict = Nth(n), Residency.evict
        monkeypatch.setattr(
            Residency,
            "evict",
            lambda self, applied, name, stage="": None if now else evict(self, applied, name, stage),
        )

    return patch


def dropped_wait(lane: str, n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, wait = Nth(n), SimDevice.wait

        def mutant(self: SimDevice, which: Any, event: Any) -> None:
            if which == lane and now:
                return
            wait(self, which, event)

        monkeypatch.setattr(SimDevice, "wait", mutant)

    return patch


def every_second_wait(lane: str) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        count, wait = iter(range(10**9)), SimDevice.wait

        def mutant(self: SimDevice, which: Any, event: Any) -> None:
            if which != lane or next(count) % 2:
                wait(self, which, event)

        monkeypatch.setattr(SimDevice, "wait", mutant)

    return patch


def no_waits(lane: str) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        wait = SimDevice.wait

        def mutant(self: SimDevice, which: Any, event: Any) -> None:
            if which != lane:
                wait(self, which, event)

        monkeypatch.setattr(SimDevice, "wait", mutant)

    return patch


def dropped_load(n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, load = Nth(n), Residency.load

        def mutant(self: Residency, applied: Applied, name: str, stage: str, entry: str = "") -> None:
            if now:
                return
            load(self, applied, name, stage, entry)

        monkeypatch.setattr(Residency, "load", mutant)

    return patch


def early_load(n: int) -> Patch:
    """The component after the next comes with the ``n``-th."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, load = Nth(n), Residency.load

        def mutant(self: Residency, applied: Applied, name: str, stage: str, entry: str = "") -> None:
            load(self, applied, name, stage, entry)
            if now:
                load(self, applied, other(applied, name), stage)

        monkeypatch.setattr(Residency, "load", mutant)

    return patch


def swapped_load(n: int) -> Patch:
    """Another component comes in the place of the ``n``-th."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, load = Nth(n), Residency.load

        def mutant(self: Residency, applied: Applied, name: str, stage: str, entry: str = "") -> None:
            load(self, applied, other(applied, name) if now else name, stage, entry)

        monkeypatch.setattr(Residency, "load", mutant)

    return patch


def other(applied: Applied, name: str) -> str:
    """The one that is needed last, of those that are not there."""
    away = (n for n in ("vae", *applied.components) if n != name and not applied.components[n].on_device)
    return next(away)


def twice_loaded(n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, load = Nth(n), Residency.load

        def mutant(self: Residency, applied: Applied, name: str, stage: str, entry: str = "") -> None:
            load(self, applied, name, stage, entry)
            if now:
                self.evict(applied, name, stage)
                load(self, applied, name, stage, entry)

        monkeypatch.setattr(Residency, "load", mutant)

    return patch


def wrong_piece(n: int) -> Patch:
    """One copy brings other bytes of the host."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, copy = Nth(n), SimDevice.copy

        def mutant(self: SimDevice, piece: Any, offset: int, source: torch.Tensor) -> None:
            copy(self, piece, offset, source.flip(0) if now else source)

        monkeypatch.setattr(SimDevice, "copy", mutant)

    return patch


def wrong_place(n: int) -> Patch:
    """One tensor is bound 512 bytes off."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, bind = Nth(n), SimDevice.bind

        def mutant(self: SimDevice, piece: Any, offset: int, *more: Any) -> torch.Tensor:
            return bind(self, piece, offset - 512 if now else offset, *more)

        monkeypatch.setattr(SimDevice, "bind", mutant)

    return patch


def missed_copy(n: int) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, copy = Nth(n), SimDevice.copy

        def mutant(self: SimDevice, piece: Any, offset: int, source: torch.Tensor) -> None:
            if not now:
                copy(self, piece, offset, source)

        monkeypatch.setattr(SimDevice, "copy", mutant)

    return patch


def freed_early(n: int) -> Patch:
    """A piece is given back before the tensors over it are unbound."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, start = Nth(n), DeviceWeights.start_forward

        def mutant(self: DeviceWeights, entry: str, **more: Any) -> None:
            start(self, entry, **more)
            if now:
                memory = self._memory
                memory._device.free(memory.where(next(iter(memory.pieces.offsets))).piece)

        monkeypatch.setattr(DeviceWeights, "start_forward", mutant)

    return patch


def kept_binding(n: int) -> Patch:
    """The host's tensors are not bound again when a component leaves."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        now, unbind = Nth(n), Binding.unbind_all
        monkeypatch.setattr(Binding, "unbind_all", lambda self: None if now else unbind(self))

    return patch


def unseen(name: str) -> Patch:
    """The device's state is not told that a component runs."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        use, touch = DeviceState.use, DeviceState.touch

        def mutant(self: DeviceState, component: Any, entry: str, given: Any, function: Any) -> Any:
            if component.label.startswith(name):
                return function()
            return use(self, component, entry, given, function)

        monkeypatch.setattr(DeviceState, "use", mutant)
        monkeypatch.setattr(
            DeviceState,
            "touch",
            lambda self, c, entry="": None if c.label.startswith(name) else touch(self, c, entry),
        )

    return patch


PLANS = Path(__file__).parents[2] / "plans"
PIPELINES = ("quickstart", "tiny-flux", "tiny-wan")
MUTANTS: dict[str, Patch] = {
    "the first evict believed and not done": dropped_evict(0),
    "the last evict believed and not done": dropped_evict(2),
    "the first evict dropped": ignored_evict(0),
    "the second evict dropped": ignored_evict(1),
    "every second wait for a copy dropped": every_second_wait("compute"),
    "the fourth wait for a copy dropped": dropped_wait("compute", 3),
    "no copy is waited for": no_waits("compute"),
    "the first wait for readers dropped": dropped_wait("copy", 0),
    "the third wait for readers dropped": dropped_wait("copy", 2),
    "the first load dropped": dropped_load(0),
    "the last load dropped": dropped_load(2),
    "a load moved earlier": early_load(0),
    "a later load moved earlier": early_load(1),
    "a load onto another component": swapped_load(1),
    "a component loaded twice": twice_loaded(1),
    "the wrong bytes in the first copy": wrong_piece(0),
    "the wrong bytes in a later copy": wrong_piece(5),
    "a tensor bound off its place": wrong_place(8),
    "a copy left out": missed_copy(4),
    "a piece freed under its reader": freed_early(1),
    "tensors left bound to a freed piece": kept_binding(0),
    "a use that nobody sees": unseen("text_encoder"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_an_honest_session_has_nothing_said_against_it(name: str) -> None:
    assert found(name) == []


def mutants() -> Iterator[Any]:
    """Every second one on one pipeline, by turns; the others, and on the others, in ``pytest -m wide``: they
    take the same way."""
    for number, mutant in enumerate(MUTANTS):
        for at, name in enumerate(PIPELINES):
            usual = number % 2 == 0 and at == number // 2 % len(PIPELINES)
            yield pytest.param(mutant, name, marks=() if usual else pytest.mark.wide)


@pytest.mark.parametrize(("mutant", "name"), mutants())
def test_a_mutant_is_caught(mutant: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(name, MUTANTS[mutant], monkeypatch)


def found(name: str, patch: Patch | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> list[str]:
    """What ``plan apply --simulate`` holds against its call; an exception in the call counts as found."""
    plan = planner.load(PLANS / f"{name}.plan.yaml")
    pipe = planner.load_pipeline(plan)
    truth = snapshot(pipe)
    session, _ = attach(plan, pipe, SimDevice(), loaded_by_us=True)
    if patch is not None and monkeypatch is not None:
        patch(monkeypatch)
    try:
        outcome = call(session, plan, pipe, call_of(plan, pipe).arguments, truth)
    except Exception as error:  # a crash is found by anybody
        causes = (error, error.__cause__)
        # But a mutant that cannot even be called is none.
        assert not any(isinstance(cause, (TypeError, AttributeError)) for cause in causes), causes
        return [f"{type(error).__name__}: {error}"]
    return [str(d) for d in errors(outcome.found)]
