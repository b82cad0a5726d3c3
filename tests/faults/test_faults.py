"""A seeded sample of what ``python -m tests.faults`` runs, and the harness itself."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import islice

import pytest
from pipelines.plans import attached, plan_for
from pipelines.registry import build, run

from faults.campaign import run_case
from faults.case import ERRORS, Case
from faults.cases import cases
from faults.found import as_found, difference
from faults.lines import counting, failing, lines_of
from faults.world import Subject, World
from planner.session.component import ManagedComponent
from planner.session.device_state import DeviceState, Scope
from planner.session.residency import Use
from planner.session.states import applying, state_of
from planner.session.undo import Undo
from planner.streaming.device_weights import DeviceWeights
from planner.virtual.device import SimDevice
from planner.virtual.memory import METER

SAMPLE = {
    ("DiTPipeline", "offload"): 8,
    ("DiTPipeline", "stream"): 8,
    ("SanaPipeline", "stream-kept"): 12,
    ("DiTPipeline", "resident"): 6,
    ("DiTPipeline", "kept"): 8,
    ("DiTPipeline", "budget"): 8,
    ("StableDiffusionPipeline", "offload"): 4,
}
"""How many of the cases of which pipeline under which policy."""


@cache
def world(pipeline: str, policy: str) -> World:
    return World(pipeline, policy)


@pytest.fixture(scope="module", autouse=True)
def _worlds_alone() -> Iterator[None]:
    """What other tests still hold on the card is not counted, and the worlds end with the last test."""
    METER.restart()
    yield
    world.cache_clear()
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # as it was before them


@pytest.mark.parametrize(("pipeline", "policy"), SAMPLE)
def test_whatever_fails_leaves_nothing_behind(
    pipeline: str, policy: str, request: pytest.FixtureRequest
) -> None:
    there = world(pipeline, policy)
    count = request.config.getoption("--faults") or SAMPLE[pipeline, policy]
    phases = ("lora",) if pipeline == "StableDiffusionPipeline" else ()
    failed = {}
    for case in islice(cases(there, 0, phases), count):
        if wrong := run_case(there, case):
            failed[f"python -m tests.faults --replay {case}"] = wrong
    assert not failed


SEEN = (
    "DiTPipeline,kept,use,op:copy:after,32,KeyboardInterrupt,0,remove",
    "SanaPipeline,resident,apply,op:references:after,29,MemoryError,119,probe",
    "SanaPipeline,kept,call,op:copy:after,14,MemoryError,67,remove",
    "DiTPipeline,budget,apply,op:cap:after,1,OutOfMemoryError,0,probe",
    "DiTPipeline,stream-kept,apply-stock,op:cap:after,1,MemoryError,2,call",
    "DiTPipeline,budget-kept,second,op:bind:before,1,OutOfMemoryError,0,thread",
    "DiTPipeline,budget,remove,op:cap:before,1,KeyboardInterrupt,0,call",
    "DiTPipeline,budget,apply-stock,op:cap:after,1,KeyboardInterrupt,23,probe",
)
"""Cases that found something once: a copy queued without its event, clean-up of a failed apply that was
interrupted, the scope of a dead call that kept ``remove()`` waiting, a cap that nobody knew of."""


@pytest.mark.parametrize("key", SEEN)
def test_what_was_found_once_is_not_found_again(key: str) -> None:
    case = Case.read(key)
    assert run_case(world(case.pipeline, case.policy), case) == []


def test_no_memory_at_any_line_while_more_of_a_component_comes_to_stay() -> None:
    """What is half done is not built upon when the component's call is made once more."""
    there = world("SanaPipeline", "budget-kept")
    lines = {*lines_of(DeviceWeights.grow.__code__), *lines_of(ManagedComponent._complete.__code__)}
    sites = there.count("second").sites().keys() & {f"line:{name}:{line}" for name, line in lines}
    assert len(sites) > 12
    failed = {}
    for site in sorted(sites):
        case = Case(there.name, there.policy, "second", site, 1, "OutOfMemoryError", 0, "probe")
        if wrong := run_case(there, case):
            failed[str(case)] = wrong
    assert failed == {}


def test_a_scope_whose_call_is_dead_keeps_nobody_waiting() -> None:
    there = world("DiTPipeline", "offload")
    subject = Subject(there, seed=1)
    subject.attach()
    assert subject.session is not None
    assert subject.state is not None
    run(subject.pipe, there.name)
    subject.state.scopes.append(Scope(subject.session.applied, threading.get_ident()))
    subject.session.remove()
    assert difference(there.shape, as_found(subject.pipe), there.noise) == []
    assert subject.state.residency.components == {}


def test_a_use_that_an_interrupt_left_is_over_at_the_next_entry() -> None:
    there = world("DiTPipeline", "offload")
    subject = Subject(there, seed=1)
    subject.attach()
    assert subject.session is not None
    assert subject.state is not None
    state, component = subject.state, subject.session.applied.components["transformer"]
    with state.lock:
        state.begin(Use(component, ""))
    assert subject.device.ledger.live
    with state.lock:
        state.recover()
    assert not state.residency.running
    assert subject.device.ledger.live == 0
    subject.end()


@pytest.mark.parametrize("error", ERRORS.values())
def test_a_step_of_clean_up_that_fails_once_is_taken_again_at_once(error: type[BaseException]) -> None:
    state, taken, fails = DeviceState(SimDevice()), [], [True]

    def step() -> None:
        taken.append("step")
        if fails:
            fails.clear()
            raise error("injected")

    state.closing += [lambda: taken.append("another"), step]
    with pytest.raises(error):
        state.finish()
    assert taken == ["step", "step", "another"]
    assert state.closing == []


def test_a_key_reads_as_the_case_that_it_names() -> None:
    case = Case("DiTPipeline", "stream", "call", "line:session/use.py:32", 2, "MemoryError", 0, "probe")
    assert Case.read(str(case)) == case
    with pytest.raises(ValueError, match="8 fields"):
        Case.read("DiTPipeline,stream")


def test_the_same_seed_gives_the_same_cases_and_all_kinds() -> None:
    there = world("DiTPipeline", "offload")
    some = [*islice(cases(there, 5), 200)]
    assert some == [*islice(cases(there, 5), 200)]
    assert some != [*islice(cases(there, 6), 200)]
    assert {case.error for case in some} == {*ERRORS}
    assert {case.phase for case in some} == {*there.phases}
    kinds = Counter(case.kind for case in some)
    assert {"op", "line", "forward", "op+interrupt"} <= kinds.keys()


def test_a_line_fails_at_the_hit_that_was_asked_for() -> None:
    undo, taken = Undo(), []
    undo.add(lambda: taken.append(1))
    undo.add(lambda: taken.append(2))
    counts: Counter[tuple[str, int]] = Counter()
    with counting(counts):
        bool(undo)
    assert [name for name, _ in counts] == ["session/undo.py"]
    looped = next(
        line for name, line in sorted(lines_of(Undo.close.__code__)) if _hits(Undo.close, name, line) == 2
    )
    with pytest.raises(KeyboardInterrupt), failing(("session/undo.py", looped), 2, KeyboardInterrupt):
        undo.close()
    assert taken == [2]
    undo.close()
    assert taken == [2, 1]


def _hits(function: object, name: str, line: int) -> int:
    """In a ``close`` of two steps."""
    undo = Undo()
    undo.add(int)
    undo.add(int)
    counts: Counter[tuple[str, int]] = Counter()
    with counting(counts):
        undo.close()
    return counts[name, line]


def test_an_undo_that_was_interrupted_goes_on_and_forgets_no_step() -> None:
    for first in ("RuntimeError", "KeyboardInterrupt"):
        undo, fails = Undo(), [True]
        taken: list[int] = []

        def step(taken: list[int] = taken, fails: list[bool] = fails, first: str = first) -> None:
            if fails and fails.pop():
                raise ERRORS[first]("injected")
            taken.append(2)

        undo.add(partial(taken.append, 1))
        undo.add(step)
        undo.add(partial(taken.append, 3))
        with pytest.raises(ERRORS[first]):
            undo.close()
        assert undo
        undo.close()
        assert sorted(taken) == [1, 2, 3]
        assert not undo


def test_the_next_apply_on_any_device_undoes_one_that_failed_and_whose_undoing_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = SimDevice()
    pipe = build("DiTPipeline")
    pipe.enable_model_cpu_offload(device="sim:0")

    def interrupted(state: DeviceState) -> None:
        if state.closing:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("planner.session.attach._adopt", _raise(MemoryError))
        patched.setattr(DeviceState, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attached(plan_for(pipe), pipe)
    gc.collect()
    assert not hasattr(pipe.vae, "_hf_hook")
    state_of(other)
    assert type(pipe.vae._hf_hook).__name__ == "CpuOffload"
    assert not applying
    pipe.remove_all_hooks()


def _raise(error: type[BaseException]) -> Callable[..., None]:
    def raises(*_: object) -> None:
        raise error

    return raises
