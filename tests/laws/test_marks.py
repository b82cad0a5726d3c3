"""Nothing of ours is read by others as theirs, or travels in copies; what a plan wraps is unwrapped, however
often whatever was done."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from pipelines.all import build, run, same
from pipelines.plans import attached, plan_for

from laws.policies import POLICIES, SD, nothing_left, on_sim
from planner.diagnostics.diagnostic import PlanError
from planner.virtual.backend import install
from planner.virtual.device import SimDevice

MODES = ("offload", "stream", "kept", "resident")


def of_ours(thing: Any) -> list[str]:
    """Where a pickle names the package."""
    return ["planner"] if b"planner" in pickle.dumps(thing) else []


def copies(pipe: Any) -> dict[str, Any]:
    return {
        "deepcopy of the pipeline's components": copy.deepcopy({"unet": pipe.unet, "vae": pipe.vae}),
        "deepcopy of a component": copy.deepcopy(pipe.unet),
        "deepcopy of a submodule": copy.deepcopy(pipe.unet.mid_block),
        "pickle of a component": pickle.loads(pickle.dumps(pipe.unet)),
        "pickle of a submodule": pickle.loads(pickle.dumps(pipe.unet.mid_block)),
        "state_dict": pipe.unet.state_dict(),
    }


def plain(thing: Any) -> bool:
    """On the CPU, of its own class, with no hook."""
    modules = [
        m for m in (thing.values() if isinstance(thing, dict) else [thing]) if isinstance(m, torch.nn.Module)
    ]
    for module in modules:
        for part in module.modules():
            if "_planned_base" in vars(type(part)) or "_hf_hook" in part.__dict__:
                return False
    return not of_ours(thing)


@pytest.mark.parametrize("mode", MODES)
def test_copies_in_and_out_of_calls_carry_nothing(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    made: dict[str, Any] = {}

    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        if step == 0:
            made.update({f"{name}, in a call": one for name, one in copies(pipe).items()})
        return {}

    expected = run(pipe, SD)
    made.update(copies(pipe))
    assert same(run(pipe, SD, callback_on_step_end=callback), expected)
    wholly = [n for n in made if "submodule" not in n and "state_dict" not in n]
    assert [name for name in wholly if not plain(made[name])] == []
    assert [name for name in made if of_ours(made[name])] == []
    x, e = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)
    want = build(SD).unet(x, 1, e).sample
    for name in ("deepcopy of a component", "pickle of a component, in a call"):
        assert torch.equal(made[name](x, 1, e).sample, want)
    made.clear()
    nothing_left(pipe, session, device)


def test_what_is_saved_loads_without_the_package(tmp_path: Path) -> None:
    for mode in ("offload", "streamed, kept"):
        pipe, session, device = on_sim(mode)
        run(pipe, SD)
        pipe.unet.save_pretrained(tmp_path / mode / "unet")
        torch.save(pipe.unet.mid_block, tmp_path / mode / "block.pt")
        nothing_left(pipe, session, device)
    program = (
        "import sys, torch, diffusers, pathlib; sys.modules['planner'] = None\n"
        f"for folder in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):\n"
        "    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / 'unet')\n"
        "    block = torch.load(folder / 'block.pt', weights_only=False)\n"
        "    assert torch.equal(block.resnets[0].conv1.weight, unet.mid_block.resnets[0].conv1.weight)\n"
        "    assert block.resnets[0].conv1.weight.device.type == 'cpu'\n"
        "    print(folder.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["offload", "streamed, kept"]


@pytest.mark.parametrize("mode", POLICIES)
def test_what_pipelines_and_libraries_ask(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    assert pipe.device == device.name == pipe._execution_device
    assert type(pipe).__name__ == SD
    assert isinstance(pipe, diffusers.StableDiffusionPipeline)
    assert isinstance(pipe.unet, diffusers.UNet2DConditionModel)
    assert type(pipe.unet) == diffusers.UNet2DConditionModel  # noqa: E721  # as from_pipe compares
    assert type(pipe.unet).__module__ == diffusers.UNet2DConditionModel.__module__
    assert pipe.unet._compiled_call_impl is None
    assert not any("forward" in m.__dict__ for m in pipe.unet.modules())
    run(pipe, SD)
    assert all(m._compiled_call_impl is None for m in pipe.unet.modules())
    nothing_left(pipe, session, device)
    assert type(pipe.unet) is diffusers.UNet2DConditionModel
    assert type(pipe) is diffusers.StableDiffusionPipeline
    assert not any("_hf_hook" in m.__dict__ for m in pipe.unet.modules())


def test_another_class_of_pipeline_on_the_same_components() -> None:
    pipe, session, device = on_sim("offload")
    other = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    assert other.unet is pipe.unet
    assert not hasattr(type(other), "_planned_base")
    assert same(run(pipe, SD), run(build(SD).to("sim:0"), SD))
    nothing_left(pipe, session, device)


def test_group_offload_of_a_component_is_refused() -> None:
    pipe, session, device = on_sim("offload")
    with pytest.raises(PlanError, match="P713"):
        pipe.unet.enable_group_offload(onload_device=torch.device("sim:0"))
    run(pipe, SD)
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", MODES)
def test_ten_plans_one_after_another_leave_nothing(mode: str) -> None:
    pipe = build(SD)
    before = {name: {*part.__dict__} for name, part in pipe.unet.named_modules()}
    finalizers = len(weakref.finalize._registry)  # type: ignore[attr-defined]
    for _ in range(10):
        _, session, _device = on_sim(mode, pipe)
        session.remove()
    run(pipe, SD)
    gc.collect()
    assert {name: {*part.__dict__} for name, part in pipe.unet.named_modules()} == before
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in pipe.unet.modules())
    assert len(weakref.finalize._registry) <= finalizers + 1  # type: ignore[attr-defined]


def test_a_dropped_pipeline_does_not_hold_the_budget() -> None:
    device = SimDevice(aliases=True)
    pipe = build(SD)
    first, _ = attached(plan_for(pipe, "idle: keep"), pipe, 1 << 30, device)
    run(pipe, SD)
    del pipe, first
    gc.collect()
    pipe = build(SD)
    second, _ = attached(plan_for(pipe), pipe, 1 << 20 << 3, device)
    assert second.applied.state.residency.applied == [second.applied]
    assert run(pipe, SD)
    nothing_left(pipe, second, device)


@pytest.mark.parametrize("mode", ["offload", "stream"])
def test_a_mark_to_compile_blocks_or_the_whole_is_the_users(mode: str) -> None:
    install()
    pipe = build(SD)
    if mode == "offload":
        pipe.unet.compile(backend="eager")
    own = pipe.unet._compiled_call_impl
    _, session, _ = on_sim(mode, pipe)
    assert pipe.unet._compiled_call_impl is own
    session.remove()
    assert pipe.unet._compiled_call_impl is own
