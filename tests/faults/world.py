"""One pipeline under one policy: what can be done with it, and what holds after a fault."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pipelines.wide  # noqa: F401  (the smallest classes are there)
import torch
from pipelines.plans import plan_for, schedule_for, tight
from pipelines.registry import build, run, same
from torch.utils._pytree import tree_map_only

from faults.case import Case
from faults.found import Shape, as_found, difference, modules_of, on_device
from faults.lines import ROOT
from faults.sites import Callback, Counts, counted, struck
from planner.session import moves, states
from planner.session.attach import attach_schedule
from planner.session.component import State
from planner.session.device_state import DeviceState
from planner.session.session import Session
from planner.virtual.device import SimDevice
from planner.virtual.memory import METER

PIPELINES = ("SanaPipeline", "DiTPipeline", "StableDiffusionPipeline")

POLICIES: dict[str, tuple[str, bool]] = {
    "offload": ("", False),
    "kept": ("", True),
    "stream": ("{policy: stream, prefetch: 1}", False),
    "stream-kept": ("{policy: stream, resident: 40%, prefetch: 1}", True),
    "resident": ("resident", False),
    "budget": ("", False),
    "budget-kept": ("", True),
}
"""What is said of each component, and whether what fits stays between calls."""

PHASES = (
    *("apply", "apply-stock", "call", "second", "use", "scope"),
    *("copy", "cast", "upcast", "remove", "lora"),
)

CHANGING = ("lora", "apply-stock", "upcast")
"""Phases after which the pipeline is made anew: it is another one by then."""

FACTORS = (2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0)
"""Budgets, as so many of the weights of the largest stage: the first one in which a call fits."""

_apply = torch.nn.Module._apply

Picture = tuple[torch.Tensor, ...]


class World:
    """``pipe`` is as it was found between two cases."""

    def __init__(self, name: str, policy: str) -> None:
        self.name = name
        self.policy = policy
        self.counts: dict[str, Counts] = {}
        for self.factor in FACTORS:
            self._build()
            try:
                self.reference = self._reference()
                break
            except torch.OutOfMemoryError:
                gc.collect()
        gc.collect()
        gc.freeze()  # or each case would walk through torch and transformers

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that there are for this pipeline."""
        absent = set() if self.name == "StableDiffusionPipeline" else {"lora"}
        if self.policy.startswith("budget"):
            absent.add("upcast")  # twice the weights: no budget of theirs has room
        return tuple(phase for phase in PHASES if phase not in absent)

    def count(self, phase: str) -> Counts:
        """What a whole run of ``phase`` does."""
        if phase not in self.counts:
            subject = Subject(self, seed=0)
            subject.prepare(phase)
            with counted(subject.pipe, subject.device) as (counts, callback):
                subject.do(phase, callback)
            subject.end()
            if phase in CHANGING:
                self._build()
            self.counts[phase] = counts
        return self.counts[phase]

    def run(self, case: Case) -> list[str]:
        """What is wrong after ``case``."""
        subject = Subject(self, seed=crc32(str(case).encode()))
        try:
            subject.prepare(case.phase)
            wrong = subject.strike(case)
        finally:
            if case.phase in CHANGING:
                self._build()
        if wrong:
            subject.abandon()
            self._build()
        return wrong

    def schedule(self) -> tuple[Any, Any, int | None]:
        """Plan, schedule and budget of the policy."""
        said, keeps = POLICIES[self.policy]
        names = [*modules_of(self.pipe)]
        lines = ["components: {" + ", ".join(f"{name}: {said}" for name in names) + "}"] if said else []
        plan = plan_for(self.pipe, *lines, *(["idle: keep"] if keeps else []))
        budget = 1 << 30 if keeps else None
        if self.policy.startswith("budget"):
            budget = round(tight(self.pipe, plan) * self.factor)
        return plan, schedule_for(plan, self.pipe, budget), budget

    def device(self, seed: int) -> SimDevice:
        """A new one. Copies land by the seed; every second keeps its addresses, as CUDA does."""
        return SimDevice(capped=self.policy.startswith("budget"), lasting=bool(seed % 2), seed=seed)

    def _build(self) -> None:
        torch.nn.Module._apply = _apply  # type: ignore[method-assign]
        self.pipe = build(self.name)
        self.uses = self._record_uses()
        before = as_found(self.pipe)
        run(self.pipe, self.name)
        self.noise = frozenset(difference(before, as_found(self.pipe)))
        self.shape: Shape = as_found(self.pipe)
        self.planned = self.schedule()

    def _record_uses(self) -> dict[str, tuple[str, Any, Any]]:
        """By component, how it is used outside of a call: its method and what it is given."""
        found: dict[str, tuple[str, Any, Any]] = {}
        handles = []
        for name, part in modules_of(self.pipe).items():

            def hook(module: Any, args: Any, kwargs: Any, name: str = name) -> None:
                found.setdefault(name, ("__call__", args, kwargs))

            handles.append(part.register_forward_pre_hook(hook, with_kwargs=True))
        vae = self.pipe.vae
        decode = vae.decode

        def decodes(*args: Any, **kwargs: Any) -> Any:
            found["vae"] = ("decode", args, kwargs)
            return decode(*args, **kwargs)

        vae.__dict__["decode"] = decodes
        run(self.pipe, self.name)
        del vae.__dict__["decode"]
        for handle in handles:
            handle.remove()
        return found

    def _reference(self) -> Picture:
        subject = Subject(self, seed=0)
        subject.attach()
        first, second = run(self.pipe, self.name), run(self.pipe, self.name)
        assert same(first, second), "two calls of this pipeline are not the same"
        subject.end()
        return second


class Subject:
    """One pipeline while a case goes on."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.pipe = world.pipe
        self.device = world.device(seed)
        self.session: Session | None = None
        self.state: DeviceState | None = None

    # -- what is done

    def prepare(self, phase: str) -> None:
        """What must be there before ``phase`` begins."""
        if phase == "apply-stock":
            self.pipe.enable_model_cpu_offload(device="sim:0")
        elif phase != "apply":
            self.attach()
        if phase in ("second", "remove", "copy", "cast", "lora"):
            run(self.pipe, self.world.name)

    def do(self, phase: str, callback: Callback) -> Picture | None:
        """``phase`` itself; the picture where it gives one."""
        match phase:
            case "apply" | "apply-stock":
                self.attach()
            case "call" | "second":
                hears = "callback_on_step_end" in self.pipe.__call__.__code__.co_varnames or hasattr(
                    self.pipe, "_callback_tensor_inputs"
                )
                return run(
                    self.pipe, self.world.name, **({"callback_on_step_end": callback} if hears else {})
                )
            case "use":
                self._use()
            case "scope":
                assert self.session is not None
                with self.session.call():
                    self._use()
                    self._use()
            case "copy":
                for part in modules_of(self.pipe).values():
                    copy.deepcopy(part)
                    part.state_dict()
            case "cast":
                self._to(torch.float32)
            case "upcast":
                assert self.session is not None
                with self.session.call():
                    for _ in range(2):
                        self._to(torch.float64)
                        self._use(torch.float64)
                        self._to(torch.float32)
            case "remove":
                assert self.session is not None
                self.session.remove()
            case "lora":
                from reliability.world import lora

                self.pipe.load_lora_weights(lora(1), adapter_name="one")
        return None

    def _use(self, dtype: torch.dtype | None = None) -> None:
        with torch.no_grad():
            for name, (method, *given) in self.world.uses.items():
                args, kwargs = tree_map_only(torch.Tensor, lambda t: _in(t, dtype), given)
                getattr(self.pipe.components[name], method)(*args, **kwargs)

    def _to(self, dtype: torch.dtype) -> None:
        for part in modules_of(self.pipe).values():
            part.to(dtype)

    def attach(self) -> None:
        """The plan comes."""
        plan, schedule, _ = self.world.planned
        self.session = attach_schedule(plan, schedule, self.pipe, self.device)
        self.state = self.session.applied.state

    def end(self) -> None:
        """The plan goes."""
        if self.session is not None:
            self.session.remove()

    def abandon(self) -> None:
        """Whatever is left is dropped, so that the next case begins with nothing."""
        self.session = self.state = None
        METER.limit = None
        moves._guarded.clear()
        torch.nn.Module._apply = _apply  # type: ignore[method-assign]

    # -- the fault, and what must hold

    def strike(self, case: Case) -> list[str]:
        """What is wrong, in words."""
        wrong, hit = self._fail(case)
        gc.collect()
        if not hit:
            self.finish_if_there()
            return wrong
        if case.phase.startswith("apply") and self.session is None:
            return wrong + self._after_apply(case)
        assert self.session is not None
        if case.then == "remove" or case.phase in ("remove", "lora"):
            return wrong + self._after_remove(case)
        if case.then == "probe":
            wrong += self._probe()
            wrong += self._resting("after another thread entered")
        for number in ("first", "second"):
            in_thread = case.then == "thread" and number == "first"
            wrong += self._call(f"the {number} call afterwards", in_thread)
        wrong += self._probe()
        wrong += self._resting("after the next calls")
        return wrong + self._after_remove(case)

    def finish_if_there(self) -> None:
        self.end()

    def _fail(self, case: Case) -> tuple[list[str], bool]:
        """``case`` happens; whether its fault was met."""
        wrong: list[str] = []
        made: Picture | None = None
        with struck(case, self.pipe, self.device) as (found, callback):
            try:
                made = self.do(case.phase, callback)
            except BaseException as error:
                if not found.yes:
                    raise
                # SanaPipeline catches an out-of-memory of its VAE, and then has no image.
                theirs = case.error == "OutOfMemoryError" and not _raised_by_us(error)
                if not theirs and not any(error is raised for raised in found.raised):
                    wrong.append(f"became {type(error).__name__}: {str(error)[:120]}")
            else:
                if found.yes and case.error != "OutOfMemoryError":
                    wrong.append("the error was swallowed")
                if made and not same(made, self.world.reference):
                    wrong.append("a wrong picture from the call that met it")
        if case.phase == "upcast":
            self._to(torch.float32)  # as a pipeline's user would
        hit = found.yes
        found.raised.clear()  # with the frames that they hold
        return wrong, hit

    def _probe(self) -> list[str]:
        """Another thread enters."""
        assert self.state is not None
        state, wrong = self.state, []

        def enter() -> None:
            for name, lock in (("call_lock", state.call_lock), ("lock", state.lock)):
                if not lock.acquire(timeout=5):
                    wrong.append(f"{name} is held")
                    continue
                try:
                    if name == "lock":
                        state.recover()
                except BaseException as error:
                    wrong.append(f"recover raised {type(error).__name__}: {str(error)[:120]}")
                finally:
                    lock.release()

        _in_thread(enter)
        return wrong

    def _call(self, what: str, in_thread: bool) -> list[str]:
        wrong: list[str] = []

        def call() -> None:
            try:
                if not same(run(self.pipe, self.world.name), self.world.reference):
                    wrong.append(f"{what}: a wrong picture")
            except BaseException as error:
                wrong.append(f"{what} raised {type(error).__name__}: {str(error)[:160]}")

        if in_thread:
            if not _in_thread(call):
                wrong.append(f"{what} hangs in another thread")
        else:
            call()
        return wrong

    def _resting(self, when: str) -> list[str]:
        """Nothing runs: what is on the device is what the plan wants there."""
        state, session = self.state, self.session
        if state is None or session is None:
            return []
        wrong = []
        residency = state.residency
        lists = {"running": residency.running, "scopes": state.scopes, "closing": state.closing}
        for name, left in lists.items():
            if left:
                wrong.append(f"{when}: {name} is not empty")
        held = 0
        for component in residency.components.values():
            if component.unfinished or component.state is State.RUNNING:
                wrong.append(
                    f"{when}: {component.label} is {component.state}, unfinished {component.unfinished}"
                )
            held += component.nbytes or 0
        if held != self.device.ledger.live:
            wrong.append(f"{when}: the ledger has {self.device.ledger.live} bytes, components {held}")
        if self.device.abandoned:
            wrong.append(f"{when}: {self.device.abandoned} bytes are abandoned")
        applied = session.applied
        extra = {*applied.resident()} - {*applied.schedule.course.fixed}
        if extra and not applied.keeps:
            wrong.append(f"{when}: on the device without need: {', '.join(sorted(extra))}")
        if not (applied.resident()) and (left := on_device(self.pipe)):
            wrong.append(f"{when}: tensors on the device: {left[:3]}")
        return wrong + self._faults()

    def _faults(self) -> list[str]:
        return [f"fault of the device: {fault}" for fault in self.device.faults[:2]]

    def _after_remove(self, case: Case) -> list[str]:
        assert self.session is not None
        wrong = []
        try:
            self.session.remove()
        except BaseException as error:
            wrong.append(f"remove() raised {type(error).__name__}: {str(error)[:160]}")
        wrong += self._probe()
        return wrong + self._gone(case)

    def _gone(self, case: Case) -> list[str]:
        """No plan any more: as it was found."""
        wrong = self._faults()
        if self.device.ledger.live:
            wrong.append(f"without a plan: {self.device.ledger.live} bytes on the device")
        if left := on_device(self.pipe):
            wrong.append(f"without a plan: tensors on the device: {left[:3]}")
        if METER.limit is not None:
            wrong.append("without a plan: the device is capped")
        if torch.nn.Module._apply is not _apply and not moves._guarded:
            wrong.append("without a plan: Module._apply is ours")
        held = None if self.state is None else self.state.residency
        if held is not None and (held.components or held.applied):
            wrong.append("without a plan: the device's state has components or plans")
        if case.phase not in ("lora", "apply-stock"):
            found = difference(self.world.shape, as_found(self.pipe), self.world.noise)
            if case.phase == "upcast":  # torch makes other buffers in a cast
                found = [place for place in found if "._buffers." not in place]
            if found:
                wrong.append(f"without a plan: {len(found)} places are not as found: {found[:3]}")
        elif case.phase == "lora":
            wrong += self._marks()
        return wrong

    def _marks(self) -> list[str]:
        """Classes and hooks of ours."""
        parts = [part for top in modules_of(self.pipe).values() for part in top.modules()]
        ours = [part for part in parts if "_planned_base" in vars(type(part)) or "_hf_hook" in vars(part)]
        return [f"without a plan: {len(ours)} modules have marks of ours"] if ours else []

    def _after_apply(self, case: Case) -> list[str]:
        """Applying failed."""
        self.state = states._states.get(id(self.device))
        wrong = self._probe() if self.state is not None else []
        wrong += self._gone(case)
        if case.phase == "apply-stock":
            hooks = {name: part.__dict__.get("_hf_hook") for name, part in modules_of(self.pipe).items()}
            lost = [name for name, hook in hooks.items() if type(hook).__name__ != "CpuOffload"]
            if lost or not self.pipe._all_hooks:
                wrong.append(f"stock offload is lost: {lost}, {len(self.pipe._all_hooks)} hooks")
            if not same(run(self.pipe, self.world.name), self.world.reference):
                wrong.append("stock offload afterwards: a wrong picture")
            self.pipe.remove_all_hooks()
            self.pipe.to("cpu")
        self.attach()  # the device can be used again
        wrong += self._call("the call of a plan applied afterwards", in_thread=False)
        wrong += self._resting("after a plan was applied again")
        return wrong + self._after_remove(case)


def _raised_by_us(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(ROOT)


def _in(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _in_thread(work: Callable[[], None]) -> bool:
    """Whether it ended."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()
