"""Pipelines put together in shared memory: the same weights and pictures, and nothing copied but buffers."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized import picture, plan_of
from registering import Runtime
from safetensors.torch import save_file

from planner.api import attach
from planner.device import shared
from planner.device.pinned import Pins
from planner.device.shared import Shared, shared_at
from planner.forms.quantized import quantized
from planner.forms.wrapped import parts
from planner.host.layout import HostWeights
from planner.loading.apart import Inseparable, put_together, taken_apart
from planner.loading.pipeline import load_pipeline
from planner.loading.segment import from_shared, own_bytes, share
from planner.plan.model import Plan
from planner.session.checks import modules_of
from planner.target.wrapped import held
from planner.virtual.device import SimDevice

pytestmark = pytest.mark.skipif(not shared.POSSIBLE, reason="this system has no memfd")

RULES = {
    "plain": "",
    "cast": "{component: transformer, backend: layerwise_cast, storage_dtype: float8_e4m3fn}",
    "torchao": "{component: transformer, backend: torchao, type: int8_weight_only}",
    "quanto": "{component: text_encoder_2, backend: quanto, type: int8}",
}


def prepared(plan: Plan, *, read: bool = True) -> Any:
    pipe = load_pipeline(plan, read=read)
    with quantized(plan, pipe, torch.device("cpu"), keep=False):
        return pipe


def in_shared(pipe: Any, token: str = "a") -> tuple[Any, Shared]:
    pages = share(taken_apart(pipe), token)
    return from_shared(pages), pages


def bytes_of(pipe: Any) -> dict[str, list[bytes]]:
    found = {}
    for name, module in modules_of(pipe).items():
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            inside = [part.detach().contiguous().flatten() for part in held(tensor) if part.numel()]
            found[f"{name}.{path}"] = [part.view(torch.uint8).numpy().tobytes() for part in inside]
    return found


@pytest.mark.parametrize("kind", RULES)
def test_weights_and_pictures_are_the_same(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"torchao": "torchao", "quanto": "optimum.quanto"}.get(kind, "torch"))
    plan = plan_of(tmp_path, *([f"quantization: [{RULES[kind]}]"] if RULES[kind] else []))
    expected = prepared(plan)
    weights = bytes_of(expected)
    pipe, pages = in_shared(prepared(plan, read=False))
    assert bytes_of(pipe) == weights
    buffers = sum(b.nbytes for module in modules_of(pipe).values() for b in module.buffers())
    assert sum(own_bytes(pipe).values()) == buffers
    assert all(not b.data_ptr() or shared_at(b.data_ptr()) is None for b in pipe.text_encoder.buffers())
    attach(plan, expected, SimDevice(), loaded_by_us=True)
    session, _ = attach(plan, pipe, SimDevice(), loaded_by_us=True)
    assert torch.equal(picture(pipe), picture(expected))
    assert sum(own_bytes(pipe).values()) == buffers
    session.remove()
    assert bytes_of(pipe) == weights
    address = pages.address
    del pipe, session, pages
    gc.collect()
    assert shared_at(address) is None


def test_loras_come_with_it(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    generator = torch.Generator().manual_seed(0)
    name = "transformer.transformer_blocks.0.attn.to_q"
    made = {
        f"{name}.lora_A.weight": torch.randn(4, 96, generator=generator),
        f"{name}.lora_B.weight": torch.randn(96, 4, generator=generator),
    }
    save_file(made, tmp_path / "lora.safetensors")
    plan = plan_of(tmp_path, "loras: [{lora_id: ./lora.safetensors, lora_scale: 2.0}]")
    expected = prepared(plan)
    pipe, _ = in_shared(prepared(plan, read=False))
    assert any("lora_A" in path for path, _ in pipe.transformer.named_parameters())
    assert bytes_of(pipe) == bytes_of(expected)
    attach(plan, expected, SimDevice(), loaded_by_us=True)
    attach(plan, pipe, SimDevice(), loaded_by_us=True)
    assert torch.equal(picture(pipe), picture(expected))


def test_tied_tensors_stay_tied_and_views_stay_views(tmp_path: Path) -> None:
    pipe = prepared(plan_of(tmp_path))
    first, second = pipe.transformer.transformer_blocks
    second.attn.to_q.weight = first.attn.to_q.weight
    pipe.vae.decoder.conv_norm_out.bias = torch.nn.Parameter(pipe.vae.decoder.conv_norm_out.weight.detach())
    weights = bytes_of(pipe)
    again, _ = in_shared(pipe)
    assert bytes_of(again) == weights
    first, second = again.transformer.transformer_blocks
    assert second.attn.to_q.weight is first.attn.to_q.weight
    norm = again.vae.decoder.conv_norm_out
    assert norm.bias.data_ptr() == norm.weight.data_ptr()


def test_a_session_packs_and_copies_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)
    own, pipe = prepared(plan), in_shared(prepared(plan, read=False))[0]
    runtime = Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    for name, module in modules_of(pipe).items():
        before = {path: part.data_ptr() for path, part in module.named_parameters()}
        host, plain = (HostWeights(m, Pins(torch.device("cuda"))) for m in (module, modules_of(own)[name]))
        assert host.sizes == plain.sizes
        copies, others = (sum(len(b.copies) for b in h.blocks) for h in (host, plain))
        assert copies <= others + any(True for _ in module.buffers())
        assert {path: part.data_ptr() for path, part in module.named_parameters()} == before
    registered = sum(end - start for start, end in runtime.spans() if shared_at(start) is not None)
    assert registered >= sum(p.nbytes for m in modules_of(pipe).values() for p in m.parameters())


def test_what_is_written_on_the_device_comes_home_to_memory_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    pipe, pages = in_shared(prepared(plan, read=False))
    whole = pages.whole().clone()
    attach(plan, pipe, SimDevice(), loaded_by_us=True)
    norm = pipe.vae.decoder.conv_norm_out
    before = own_bytes(pipe)["vae"]
    size = norm.weight.nbytes

    def writes(module: Any, _: Any) -> None:
        with torch.no_grad():
            module.weight.fill_(0.5)

    hook = norm.register_forward_pre_hook(writes)
    picture(pipe)
    hook.remove()
    again = picture(pipe)
    assert torch.equal(pages.whole(), whole)
    assert own_bytes(pipe)["vae"] == before + size
    expected = prepared(plan)
    expected.vae.decoder.conv_norm_out.weight.data.fill_(0.5)
    attach(plan, expected, SimDevice(), loaded_by_us=True)
    assert torch.equal(again, picture(expected))


def test_what_cannot_be_shared_is_told_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = prepared(plan_of(tmp_path))
    weights = bytes_of(pipe)
    function: Callable[[], None] = lambda: None  # noqa: E731
    pipe.vae.note = function
    with pytest.raises(Inseparable, match=r"FluxPipeline cannot be pickled: .*lambda"):
        taken_apart(pipe)
    del pipe.vae.note
    changed = pipe.vae.decoder.conv_norm_out
    monkeypatch.setattr(
        type(changed), "__reduce_ex__", lambda self, _: (torch.nn.GroupNorm, (8, 16)), raising=False
    )
    with pytest.raises(Inseparable, match=r'"vae\.[a-z0-9_.]+" is not what it was'):
        taken_apart(pipe)
    monkeypatch.undo()
    assert bytes_of(pipe) == weights
    apart = taken_apart(pipe)
    again = put_together(apart.data, [one.tensor for one in apart.tensors])
    assert parts(again.vae.decoder.conv_in.weight) is not None
    assert again.vae.decoder.conv_in.weight is pipe.vae.decoder.conv_in.weight
