"""A component that is cast inside of a call and back: as without a plan, and nothing is laid out twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from covering import covering
from pipelines.all import build, run, same

from laws.policies import mostly_wide, nothing_left, on_sim
from planner.session import component
from planner.session.casts import change_of
from planner.virtual.backend import install

SDXL = "StableDiffusionXLPipeline"
MODES = ("offload", "stream", "streamed, kept", "resident", "tight, kept")


def upcasting() -> Any:
    """Its VAE decodes in float32 and is in float16 else."""
    pipe = build(SDXL)
    pipe.vae.half()
    pipe.vae.register_to_config(force_upcast=True)
    return pipe


def writes(vae: Any, factor: float = 1.2) -> None:
    with torch.no_grad():
        for weight in vae.decoder.parameters():
            weight.mul_(factor)


def writes_in_float32(vae: Any) -> None:
    vae.float()
    writes(vae)
    vae.half()


def replaces_data(vae: Any) -> None:
    weight = vae.decoder.conv_out.weight
    weight.data = weight.data * 1.5


def replaces_data_in_float32(vae: Any) -> None:
    vae.to(torch.float32)
    replaces_data(vae)
    vae.to(torch.float16)


def replaces_a_layer(vae: Any) -> None:
    before = vae.decoder.conv_out.weight
    layer = torch.nn.Conv2d(before.shape[1], before.shape[0], 3, padding=1)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.fill_(0.01)
    vae.decoder.conv_out = layer.to(before.device, before.dtype)


EDITS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda vae: None,
    "written": writes,
    "written in float32": writes_in_float32,
    "data replaced": replaces_data,
    "data replaced in float32": replaces_data_in_float32,
    "a layer replaced": replaces_a_layer,
    "loaded": lambda vae: vae.load_state_dict({k: v.cpu() * 1.02 for k, v in vae.state_dict().items()}),
    "a part in float32 and back": lambda vae: vae.decoder.mid_block.float().half(),
    "to float32 and back": lambda vae: vae.float().half(),
    "to bfloat16 and back": lambda vae: vae.bfloat16().half(),
    "to float64 and back": lambda vae: vae.to(torch.float64).to(torch.float16),
}


def made(pipe: Any, edit: Callable[[Any], Any]) -> list[Any]:
    """Pictures of three calls as they are, with an edit in a callback, after another, and once more."""

    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        if step == 0:
            edit(pipe.vae)
        return {}

    pictures = [run(pipe, SDXL), run(pipe, SDXL), run(pipe, SDXL, callback_on_step_end=callback)]
    edit(pipe.vae)
    return [*pictures, run(pipe, SDXL), run(pipe, SDXL)]


WHOLE: dict[str, tuple[list[Any], dict[str, torch.Tensor]]] = {}


def of_the_whole(edit: str) -> tuple[list[Any], dict[str, torch.Tensor]]:
    if edit not in WHOLE:
        install()
        pipe = upcasting().to("sim:0")
        pictures = made(pipe, EDITS[edit])
        WHOLE[edit] = pictures, {key: value.cpu() for key, value in pipe.vae.state_dict().items()}
    return WHOLE[edit]


@pytest.mark.parametrize(("edit", "mode"), covering([*EDITS], MODES, start=1, one_in=2))
def test_pictures_and_weights_are_as_without_a_plan(edit: str, mode: str) -> None:
    expected, weights = of_the_whole(edit)
    pipe = upcasting()
    own = [*pipe.vae.parameters()]  # the host's: under a plan, what is resident has the device's
    pipe, session, device = on_sim(mode, pipe, seed=len(edit))
    pictures = made(pipe, EDITS[edit])
    assert [same(a, b) for a, b in zip(pictures, expected, strict=True)] == [True] * 5
    nothing_left(pipe, session, device)
    found = pipe.vae.state_dict()
    assert {key: value.dtype for key, value in found.items()} == {k: v.dtype for k, v in weights.items()}
    assert [key for key in weights if not torch.equal(weights[key], found[key])] == []
    if edit != "a layer replaced":
        assert [id(p) for p in pipe.vae.parameters()] == [*map(id, own)]


@pytest.mark.parametrize("mode", mostly_wide(*MODES))
def test_nothing_is_cast_or_laid_out_after_the_first_call(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, session, device = on_sim(mode, upcasting())
    pictures = [run(pipe, SDXL)]
    lies = [weight.data_ptr() for weight in pipe.vae.parameters()]
    laid: list[str] = []
    monkeypatch.setattr(component, "HostWeights", lambda module, pins: laid.append(type(module).__name__))
    pictures += [run(pipe, SDXL) for _ in range(2)]
    assert laid == []
    assert [weight.data_ptr() for weight in pipe.vae.parameters()] == lies
    assert [same(pictures[0], picture) for picture in pictures] == [True] * 3
    monkeypatch.undo()
    nothing_left(pipe, session, device)


def test_a_cast_outside_of_a_call_leaves_one_copy() -> None:
    pipe, session, device = on_sim("offload", upcasting())
    run(pipe, SDXL)
    managed = session.applied.components["vae"]
    assert len([*managed.layouts]) == 2
    pipe.vae.to(torch.bfloat16)
    assert len([*managed.layouts]) <= 1
    nothing_left(pipe, session, device)


APPLIED: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "to(dtype)": (lambda m: m.to(torch.float32), True),
    "half": (lambda m: m.half(), True),
    "bfloat16": (lambda m: m.bfloat16(), True),
    "type": (lambda m: m.type(torch.float64), True),
    "channels_last": (lambda m: m.to(memory_format=torch.channels_last), False),
    "both": (lambda m: m.to(torch.float64, memory_format=torch.channels_last), False),
    "to_empty": (lambda m: m.to_empty(device="cpu"), False),
    "a user's": (lambda m: m._apply(lambda tensor: tensor.double()), False),
    "another value": (lambda m: m._apply(lambda tensor: tensor.double() * 2), False),
}


@pytest.mark.parametrize("how", APPLIED)
def test_what_is_a_cast(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    def record(self: torch.nn.Module, function: Any, recurse: bool = True) -> torch.nn.Module:
        found.append(change_of(self, function) is not None)
        return self

    monkeypatch.setattr(torch.nn.Module, "_apply", record)
    apply, expected = APPLIED[how]
    apply(torch.nn.Conv2d(2, 2, 1))
    assert found == [expected]
