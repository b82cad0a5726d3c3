"""A session from apply to remove: what a user does with the pipeline in between."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from pipelines.all import arguments, build, run, same
from pipelines.plans import as_diffusers, attached, judged, plan_for, schedule_for
from torch.utils._python_dispatch import TorchDispatchMode

from planner import api
from planner.diagnostics.diagnostic import PlanError
from planner.session.component import ManagedComponent
from planner.session.pipeline_class import PlanWarning, session_of
from planner.virtual.audit import snapshot
from planner.virtual.backend import install
from planner.virtual.device import SimDevice
from planner.virtual.piece import SimPiece
from planner.virtual.tensor import SimTensor

SD = "StableDiffusionPipeline"
XL = "StableDiffusionXLPipeline"


@pytest.fixture(autouse=True, scope="module")
def _sim() -> None:
    install()


@pytest.fixture
def sd() -> Any:
    return build(SD)


def codes(error: pytest.ExceptionInfo[PlanError]) -> list[str]:
    return [d.code.id for d in error.value.diagnostics if d.severity.value == "error"]


# -- before and after


def state(pipe: Any) -> dict[str, Any]:
    """Identities of all that a session may touch."""
    found: dict[str, Any] = {"class": pipe.__class__, "keys": set(pipe.__dict__)}
    for name, component in pipe.components.items():
        if not isinstance(component, torch.nn.Module):
            continue
        for path, module in component.named_modules():
            key = f"{name}.{path}"
            found[key] = (
                set(module.__dict__),
                {k: id(v) for k, v in (*module._parameters.items(), *module._buffers.items())},
                tuple(module._forward_pre_hooks),
                tuple(module._forward_hooks),
                "forward" in module.__dict__,
            )
    return found


@pytest.mark.parametrize(
    "lines", [(), ("idle: keep",), ("exclude: [vae]",), ("components: {unet: resident}",)]
)
def test_remove_gives_back_every_object_and_every_key(sd: Any, lines: tuple[str, ...]) -> None:
    expected = run(sd, SD)
    before = state(sd)
    session, device = attached(plan_for(sd, *lines), sd)
    assert type(sd).__name__ == before["class"].__name__
    assert sd.__class__ is not before["class"]
    run(sd, SD)
    session.remove()
    session.remove()
    assert state(sd) == before
    assert device.ledger.live == 0
    assert same(run(sd, SD), expected)


def test_a_session_is_a_context_manager(sd: Any) -> None:
    before = state(sd)
    with attached(plan_for(sd), sd)[0]:
        assert session_of(sd) is not None
    assert state(sd) == before


def test_a_failed_apply_leaves_the_pipeline_as_it_was(sd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(sd)
    calls = iter(range(10))

    def fails(*_: Any) -> None:
        if next(calls) == 2:
            raise MemoryError("no more")

    monkeypatch.setattr(ManagedComponent, "prepare", fails)
    with pytest.raises(MemoryError):
        attached(plan_for(sd), sd)
    assert state(sd) == before


# -- calls


def test_a_second_call_and_applying_again(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    plan, device = plan_for(sd), SimDevice()
    first, _ = api.attach(plan, sd, device)
    assert same(run(sd, SD), expected)
    assert same(run(sd, SD), expected)
    again, _ = api.attach(plan, sd, device)
    assert again is first
    other, _ = api.attach(plan_for(sd, "idle: keep"), sd, device)
    assert first.applied.removed
    assert session_of(sd) is other
    assert same(run(sd, SD), expected)
    other.remove()
    assert session_of(sd) is None


class Stop(Exception):
    pass


def fails(*_: Any, **__: Any) -> Any:
    raise Stop


@contextmanager
def broken(owner: Any, name: str) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, fails)
    try:
        yield
    finally:
        setattr(owner, name, original)


@pytest.mark.parametrize("where", ["unet", "scheduler", "callback", "interrupt"])
def test_an_exception_leaves_nothing_on_the_device_and_the_next_call_is_right(sd: Any, where: str) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    truth = snapshot(sd)
    session, device = attached(plan_for(sd), sd)
    if where == "callback":
        with pytest.raises(Stop):
            run(sd, SD, callback_on_step_end=fails)
    elif where == "scheduler":
        with broken(sd.scheduler, "step"), pytest.raises(Stop):
            run(sd, SD)
    elif where == "unet":
        with broken(sd.unet.mid_block, "forward"), pytest.raises(Stop):
            run(sd, SD)
        del sd.unet.mid_block.__dict__["forward"]
    else:
        handle = sd.unet.mid_block.register_forward_pre_hook(interrupts)
        with pytest.raises(KeyboardInterrupt):
            run(sd, SD)
        handle.remove()
    assert device.ledger.live == 0
    assert session.resident() == ()
    assert all(p.device.type == "cpu" for p in sd.unet.parameters())
    said = judged(session, device, sd, SD, truth)
    assert same(said.outputs, expected)
    assert said.bad == []


def interrupts(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_preview_decode_in_a_callback_is_a_note_and_right(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    truth = snapshot(sd)
    previews: list[torch.Tensor] = []

    def preview(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        previews.append(pipe.vae.decode(tensors["latents"]).sample.cpu())
        return tensors

    session, device = attached(plan_for(sd), sd)
    said = judged(session, device, sd, SD, truth, callback_on_step_end=preview)
    assert same(said.outputs, expected)
    assert len(previews) == 2
    assert all(p.isfinite().all() for p in previews)
    assert said.bad == []
    assert any(d.code.id == "P761" for d in said.say)


def test_uses_outside_of_a_call(sd: Any) -> None:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        text, image = sd.encode_prompt("a cat", "cpu", 1, False)[0], sd.vae.decode(latents).sample
    session, device = attached(plan_for(sd), sd)
    with torch.no_grad():
        ours = sd.encode_prompt("a cat", "sim:0", 1, False)[0]
        assert same((ours.cpu(),), (text,))
        assert same((sd.vae.decode(latents).sample.cpu(),), (image,))
    assert device.ledger.live == 0
    assert device.faults == ()
    assert session.resident() == ()


def test_threads_wait_for_each_other(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    _, device = attached(plan_for(sd), sd)
    results: list[Any] = []

    def work() -> None:
        with torch.no_grad():
            results.append(sd(**arguments(SD))[0].cpu())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert all(same((r,), expected) for r in results)
    assert device.ledger.live == 0


class HomewardCopies(TorchDispatchMode):
    """Counts copies of weights from the device to the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for value in args:
            if isinstance(value, SimTensor) and isinstance(value.block.owner, SimPiece):
                device = getattr(out, "device", None)
                self.count += (
                    device is not None and device.type == "cpu" and func._schema.name != "aten::detach"
                )
        return out


def test_evicted_weights_are_not_copied_back(sd: Any) -> None:
    session, device = attached(plan_for(sd), sd)
    with HomewardCopies() as homeward:
        run(sd, SD)
    session.remove()
    assert homeward.count == 0
    assert device.ledger.moved > 0


def test_the_counter_of_copies_home_counts() -> None:
    device = SimDevice()
    piece = device.alloc(512, "x")
    bound = device.bind(piece, 0, torch.zeros(4))
    with HomewardCopies() as homeward:
        bound.to("cpu")
    assert homeward.count == 1


# -- components


def test_none_excluded_and_on_demand_components() -> None:
    pipe = build("StableDiffusionControlNetPipeline")
    assert pipe.safety_checker is None
    name = "StableDiffusionControlNetPipeline"
    expected = run(build(name).to("sim:0"), name)
    truth = snapshot(pipe)
    session, device = attached(plan_for(pipe, "order: text_encoder -> unet", "exclude: [vae]"), pipe)
    assert device.ledger.by_label.keys() == {"vae"}
    assert session.schedule.course.on_demand == ("controlnet",)
    said = judged(session, device, pipe, name, truth)
    assert same(said.outputs, expected)
    assert said.bad == []
    assert device.ledger.by_label.keys() == {"vae"}
    session.remove()
    assert device.ledger.live == 0


def test_idle_keep_keeps_and_the_second_call_moves_less(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    truth = snapshot(sd)
    session, device = attached(plan_for(sd, "idle: keep"), sd, 1 << 30)
    first = judged(session, device, sd, SD, truth)
    moved = device.ledger.moved
    kept = session.resident()
    assert kept
    second = judged(session, device, sd, SD, truth)
    assert same(second.outputs, expected)
    assert first.bad == second.bad == []
    assert device.ledger.moved == moved
    session.remove()
    assert device.ledger.live == 0


def test_a_component_replaced_after_apply_is_adopted(sd: Any) -> None:
    _, device = attached(plan_for(sd), sd)
    run(sd, SD)
    other = build(SD).unet
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    sd.unet = other
    changed = build(SD)
    changed.unet = other_copy = copy.deepcopy(build(SD).unet)
    with torch.no_grad():
        for p in other_copy.parameters():
            p.mul_(0.5)
    assert same(run(sd, SD), run(changed.to("sim:0"), SD))
    assert device.ledger.live == 0


def test_shared_components_of_from_pipe_are_refused_under_a_plan_on_another_device(sd: Any) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    session, _ = attached(plan_for(sd), sd)
    other = StableDiffusionImg2ImgPipeline.from_pipe(sd)
    other.set_progress_bar_config(disable=True)
    assert other.unet is sd.unet
    with pytest.raises(PlanError) as caught:
        api.attach(plan_for(other), other, SimDevice())
    assert "is shared with a pipeline that is under a plan on another device" in str(caught.value)
    # it runs all the same: each use is a scope of one use
    name = "StableDiffusionImg2ImgPipeline"
    assert same(run(other, name), run(build(name).to("sim:0"), name))
    session.remove()


# -- hooks of others, and diffusers' own


def test_hooks_of_others_are_kept_and_called(sd: Any) -> None:
    called: list[str] = []

    class Counting(ModelHook):
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            called.append("accelerate")
            return args, kwargs

    hook = Counting()
    add_hook_to_module(sd.text_encoder, hook)
    sd.unet.register_forward_pre_hook(lambda *_: called.append("pre"))
    sd.unet.register_forward_hook(lambda *_: called.append("post"))
    expected = run(sd, SD)
    once, called[:] = list(called), []
    session, _ = attached(plan_for(sd), sd)
    assert same(run(sd, SD), expected)
    assert {*called} == {*once} == {"accelerate", "pre", "post"}
    assert called.count("pre") == once.count("pre")
    session.remove()
    assert sd.text_encoder._hf_hook is hook


def test_a_pipeline_under_stock_offload_is_freed_of_it_with_a_note(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    sd.enable_model_cpu_offload(device="sim:0")
    run(sd, SD)
    truth = snapshot(sd)
    session, device = attached(plan_for(sd), sd)
    assert any("diffusers' own offload" in d.message for d in session.notes)
    said = judged(session, device, sd, SD, truth)
    assert same(said.outputs, expected)
    assert said.bad == []
    session.remove()
    assert same(run(sd.to("sim:0"), SD), expected)


def test_calls_that_scripts_make_by_habit_warn_once_and_do_nothing(sd: Any) -> None:
    expected = run(build(SD).to("sim:0"), SD)
    attached(plan_for(sd), sd)
    with pytest.warns(PlanWarning, match="does nothing"):
        sd.enable_model_cpu_offload()
    with pytest.warns(PlanWarning, match="does nothing"):
        assert sd.to("sim:0") is sd
    assert same(run(sd, SD), expected)


def test_a_component_is_not_moved_from_outside(sd: Any) -> None:
    attached(plan_for(sd), sd)
    with pytest.raises(PlanError, match="asked to move"):
        sd.unet.to("sim:0")


# -- devices and refusals


def test_the_device_is_refused_where_it_must_be(sd: Any) -> None:
    plan = plan_for(sd)
    from planner.session.machine import pick_device

    assert pick_device(plan, "sim") == torch.device("sim", 0)
    assert pick_device(plan, "sim", 0) == torch.device("sim", 0)
    for device, gpu_id in (("sim:0", 0), ("cpu", None), ("sim:7", None), ("sim", 3)):
        with pytest.raises(PlanError) as caught:
            pick_device(plan, device, gpu_id)
        assert len(codes(caught)) == 1


@pytest.mark.parametrize(
    ("how", "undo"), [("group", "enable_group_offload"), ("map", "reset_device_map"), ("kind", "pipeline")]
)
def test_what_moves_weights_itself_is_refused_with_how_to_undo_it(sd: Any, how: str, undo: str) -> None:
    target: Any = sd
    if how == "group":
        sd.unet.enable_group_offload(torch.device("sim:0"), offload_type="leaf_level")
    elif how == "map":
        sd.hf_device_map = {"unet": 0, "vae": "cpu"}
    else:
        target = torch.nn.Linear(2, 2)
    plan = plan_for(sd)
    with pytest.raises(PlanError) as caught:
        api.attach(plan, target, SimDevice())
    assert len(codes(caught)) == 1
    assert undo in "".join(d.message + d.hint for d in caught.value.diagnostics)
    assert session_of(target) is None


def test_out_of_memory_names_the_stage_and_what_is_there(sd: Any) -> None:
    device = SimDevice(capacity=1000)
    attached(plan_for(sd), sd, device=device)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        run(sd, SD)
    assert any("out of memory in stage" in note for note in caught.value.__notes__)
    assert device.ledger.live == 0


# -- what leaves the process


def test_saving_copying_and_pickling_a_pipeline_under_a_plan(sd: Any, tmp_path: Path) -> None:
    expected = run(build(SD), SD)
    session, _ = attached(plan_for(sd), sd)
    run(sd, SD)
    sd.save_pretrained(tmp_path / "sd")
    loaded = type(build(SD)).from_pretrained(tmp_path / "sd")
    loaded.set_progress_bar_config(disable=True)
    assert same(run(loaded, SD), expected)
    sd.unet.save_pretrained(tmp_path / "unet")
    session.remove()
    twin = pickle.loads(pickle.dumps(sd.vae))
    assert torch.equal(next(twin.parameters()), next(sd.vae.parameters()))


def test_a_copy_of_a_pipeline_is_a_plain_pipeline(sd: Any) -> None:
    base = type(sd)
    attached(plan_for(sd), sd)
    twin = copy.copy(sd)
    assert type(twin) is base
    assert session_of(twin) is None


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_a_deep_copy_under_a_plan_is_a_plain_pipeline(sd: Any, way: Any) -> None:
    expected = run(sd, SD)
    attached(plan_for(sd), sd)
    twin = way(sd)
    assert session_of(twin) is None
    assert same(run(twin, SD), expected)


def test_the_pipeline_is_collected_while_the_session_lives(sd: Any) -> None:
    session, _ = attached(plan_for(sd), sd)
    run(sd, SD)
    pipe = build(SD)
    kept, _ = attached(plan_for(pipe), pipe)
    run(pipe, SD)
    gone = weakref.ref(pipe), weakref.ref(pipe.unet), weakref.ref(next(pipe.unet.parameters()))
    del pipe
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]
    kept.remove()
    session.remove()


def test_diffusers_semantics_compile_from_the_class_string() -> None:
    pipe = build(XL)
    schedule = schedule_for(as_diffusers(pipe), pipe)
    assert schedule.course.predecessor == {
        "text_encoder_2": "text_encoder",
        "unet": "text_encoder_2",
        "vae": "unet",
    }
