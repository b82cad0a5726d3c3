"""What was on the host is there when a call is over, and a removed plan leaves every object as it was found,
whatever was replaced, moved, cast or registered meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from covering import covering
from pipelines import wide  # noqa: F401 - adds the wide classes
from pipelines.all import build, run, same

import planner
from laws.policies import SD, Part, Small, mostly_wide, nothing_left, on_sim, small, tensors_on
from planner.diagnostics.diagnostic import PlanError
from planner.virtual.backend import install

MODES = ("offload", "stream", "kept", "streamed, kept", "resident")
SENT = ("offload", "stream")
EXCLUDING = (
    *("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline", "IFSuperResolutionPipeline"),
    *("IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline"),
    *("KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgCombinedPipeline"),
    *("KandinskyV22InpaintCombinedPipeline", "ShapEPipeline", "ShapEImg2ImgPipeline"),
    *("StableUnCLIPPipeline", "StableUnCLIPImg2ImgPipeline"),
)
"""Classes that exclude a component from diffusers' own offload, which leaves it on the device."""


def calling_back(pipe: Any, edit: Callable[[Any], Any]) -> Any:
    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        if step == 0:
            edit(pipe)
        return {}

    return run(pipe, SD, callback_on_step_end=callback)


def replaces(pipe: Any) -> None:
    new = torch.nn.Conv2d(8, 4, 3, padding=1).to("sim:0")
    with torch.no_grad():
        new.weight.fill_(0.01)
        new.get_parameter("bias").fill_(0.0)
    pipe.vae.decoder.conv_out = torch.nn.Sequential(pipe.vae.decoder.conv_out)
    pipe.unet.conv_out = torch.nn.Sequential(pipe.unet.conv_out)


MOVES: dict[str, Callable[[Any], Any]] = {
    "a submodule replaced": replaces,
    "a submodule to the device": lambda pipe: pipe.vae.decoder.to("sim:0"),
    "a submodule to the CPU": lambda pipe: pipe.unet.mid_block.to("cpu"),
    "a component to the device": lambda pipe: pipe.vae.to("sim:0"),
    "a component to the CPU": lambda pipe: pipe.text_encoder.to("cpu"),
    "a submodule cast to what it is": lambda pipe: pipe.unet.mid_block.float(),
    "a buffer registered": lambda pipe: pipe.unet.register_buffer("late", torch.zeros(3, device="sim:0")),
    "a weight replaced on the device": lambda pipe: setattr(
        pipe.vae.decoder.conv_in, "weight", torch.nn.Parameter(pipe.vae.decoder.conv_in.weight.to("sim:0"))
    ),
}


@pytest.mark.parametrize(("move", "mode"), covering([*MOVES], MODES))
def test_what_is_moved_in_a_callback_is_home_after_the_call(move: str, mode: str) -> None:
    expected = run(build(SD), SD)
    pipe, session, device = on_sim(mode)
    assert same(calling_back(pipe, MOVES[move]), expected)
    if mode in SENT:
        assert device.ledger.live == 0
        assert tensors_on(pipe) == []
    assert same(run(pipe, SD), run(pipe, SD))
    nothing_left(pipe, session, device)


@pytest.mark.parametrize(
    ("how", "mode"),
    covering(
        ["cpu", "half and float", "to a dtype", "to the device"], ["kept", "streamed, kept", "resident"]
    ),
)
def test_a_submodule_moved_between_calls_is_right_in_the_next(how: str, mode: str) -> None:
    pipe, session, device = on_sim(mode)
    plain = build(SD)
    run(pipe, SD)
    part = pipe.unet.mid_block
    if how == "cpu":
        part.to("cpu")
    elif how == "half and float":
        part.half().float()
        plain.unet.mid_block.half().float()
    elif how == "to a dtype":
        part.to(torch.float32)
    else:
        with pytest.raises(PlanError, match="P713"):
            part.to("sim:0")
    assert same(run(pipe, SD), run(plain.to("sim:0"), SD))
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", mostly_wide(*MODES))
def test_a_functional_call_changes_nothing_for_the_next(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    plain = build(SD).to("sim:0")
    before = [id(p) for p in build(SD).unet.parameters()]
    own = [*pipe.unet.parameters()] if mode in SENT else []
    torch.manual_seed(0)
    given = torch.randn(1, 4, 8, 8).to("sim:0"), 1, torch.randn(1, 7, 32).to("sim:0")

    def replaced(unet: Any) -> Any:
        twice = {"conv_in.weight": (unet.conv_in.weight.detach() * 2).to("sim:0")}
        return torch.func.functional_call(unet, twice, given).sample.cpu()

    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(replaced(pipe.unet), replaced(plain.unet))
            assert torch.equal(pipe.unet(*given).sample.cpu(), plain.unet(*given).sample.cpu())
    assert same(run(pipe, SD), run(plain, SD))
    nothing_left(pipe, session, device)
    assert all(a is b for a, b in zip(own, pipe.unet.parameters(), strict=False))
    assert len(before) == len([*pipe.unet.parameters()])


class Registers(Part):
    """Registers a buffer in its forward, as rotary embeddings and KV caches do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = super().forward(x)
        self.register_buffer("last", made.detach(), persistent=False)
        self.layers[0].register_buffer("seen", made.detach()[:1], persistent=False)
        return made


@pytest.mark.parametrize("mode", ["offload", "stream", "resident", "kept"])
def test_buffers_registered_in_a_forward_are_home(mode: str) -> None:
    install()
    torch.manual_seed(0)
    expected = small()()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = Small(Registers(4), Registers(8), Registers(4))
    pipe, session, device = on_sim(mode, pipe)
    for _ in range(3):
        assert torch.allclose(pipe(), expected, atol=1e-6)
        if mode in SENT:
            assert tensors_on(pipe) == []
    nothing_left(pipe, session, device)
    assert pipe.big.last.device.type == "cpu"


@pytest.mark.parametrize("mode", mostly_wide(*MODES))
def test_a_component_with_strange_buffers_comes_back_by_identity_with_its_ties(mode: str) -> None:
    pipe = build(SD)
    part, base = pipe.unet.mid_block.resnets[0], torch.arange(24.0).reshape(4, 6)
    part.register_buffer("whole", base)
    part.register_buffer("window", base[1:3, 2:])
    part.register_buffer("conjugate", torch.randn(3, dtype=torch.complex64).conj())
    part.register_buffer("negative", torch.randn(3, dtype=torch.complex64).conj().imag)
    part.register_buffer("complex", torch.randn(3, dtype=torch.complex64))
    part.register_buffer("nothing", torch.zeros(0))
    part.register_buffer("none", None)
    before = dict((*pipe.unet.named_parameters(), *pipe.unet.named_buffers()))
    expected = run(build(SD).to("cpu"), SD)
    pipe, session, device = on_sim(mode, pipe)
    assert len(run(pipe, SD)) == len(expected)
    run(pipe, SD)
    nothing_left(pipe, session, device)
    now = dict((*pipe.unet.named_parameters(), *pipe.unet.named_buffers()))
    assert [k for k in before if now[k] is not before[k]] == []
    part.whole[1, 2] = 99
    assert part.window[0, 0] == 99


@pytest.mark.parametrize("mode", ["offload", "stream"])
def test_what_was_found_on_the_device_lies_there_again(mode: str) -> None:
    install()
    pipe = build(SD).to("sim:0")
    expected = run(pipe, SD)
    pipe, session, _ = on_sim(mode, pipe)
    assert same(run(pipe, SD), expected)
    session.remove()
    assert {
        p.device.type for n in ("unet", "vae", "text_encoder") for p in getattr(pipe, n).parameters()
    } == {"sim"}
    assert same(run(pipe, SD), expected)


@pytest.mark.parametrize("mode", mostly_wide(*MODES))
def test_a_component_replaced_in_a_call_goes_home_and_the_new_one_is_under_the_plan(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    old, new = pipe.vae, build(SD).vae
    plain = run(build(SD).to("sim:0"), SD)
    assert same(calling_back(pipe, lambda pipe: setattr(pipe, "vae", new)), plain)
    assert all(t.device.type == "cpu" for t in old.parameters())
    assert same(run(pipe, SD), plain)
    nothing_left(pipe, session, device)
    gc.collect()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "StableUnCLIPPipeline" else pytest.mark.wide) for n in EXCLUDING],
)
def test_a_translated_plan_leaves_what_the_class_excludes_and_an_improved_one_nothing(name: str) -> None:
    pipe = build(name)
    excluded = {n for n in pipe._exclude_from_cpu_offload if isinstance(pipe.components[n], torch.nn.Module)}
    assert excluded
    for improve, left in ((False, excluded), (True, set())):
        session = planner.apply(planner.translate(pipe, improve=improve), pipe, device="sim:0")
        run(pipe, name)
        assert {tensor.split(".")[0] for tensor in tensors_on(pipe)} == left
        session.remove()
