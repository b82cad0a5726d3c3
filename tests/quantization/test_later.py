"""torchao and layerwise_cast on a loaded pipeline: the picture is that of the same by hand, moved whole,
under every policy, and what is removed leaves the pipeline as it was."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import covering
from quantized import by_cast, by_torchao, formats, linears, picture, plain, plan_of, refused

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.forms.cast import Cast
from planner.forms.formats import named
from planner.quantization.backends import CAST_SKIPS
from planner.session import states
from planner.session.remove import remove
from planner.target.parts import parts_of
from planner.virtual.device import SimDevice

POLICIES = ["resident", "offload", "stream"]


CELLS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "int8_weight_only": ("torchao, type: int8_weight_only", partial(by_torchao, "Int8WeightOnlyConfig")),
    "int8_dynamic": (
        "torchao, type: int8_dynamic",
        partial(by_torchao, "Int8DynamicActivationInt8WeightConfig"),
    ),
    "float8_weight_only": (
        "torchao, type: float8_weight_only",
        partial(by_torchao, "Float8WeightOnlyConfig"),
    ),
    "float8_e4m3fn": ("layerwise_cast, storage_dtype: float8_e4m3fn", partial(by_cast, torch.float8_e4m3fn)),
    "float8_e5m2": ("layerwise_cast, storage_dtype: float8_e5m2", partial(by_cast, torch.float8_e5m2)),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, lora: Path) -> Callable[[str, bool], torch.Tensor]:
    """The picture by hand, on the device as a whole; each made once."""
    SimDevice()
    folder, known = tmp_path_factory.mktemp("hand"), {}

    def make(cell: str, adapted: bool) -> torch.Tensor:
        if (cell, adapted) not in known:
            pipe = plain(folder)
            if CELLS[cell][0].startswith("torchao"):  # adapters go on top of what is quantized
                CELLS[cell][1](pipe)
            if adapted:
                pipe.load_lora_weights(str(lora), adapter_name="lora_0")
                pipe.set_adapters(["lora_0"], [0.5])
            if not CELLS[cell][0].startswith("torchao"):
                CELLS[cell][1](pipe)
            known[cell, adapted] = picture(pipe.to("sim:0"))
        return known[cell, adapted]

    return make


@pytest.fixture(autouse=True)
def no_other_plans() -> None:
    """What other tests left under a plan would share its budget."""
    gc.collect()
    for state in [*states._states.values()]:
        for applied in [*state.residency.applied]:
            remove(applied)


@pytest.mark.parametrize("adapted", [False, True], ids=["alone", "lora"])
@pytest.mark.parametrize(("cell", "policy"), covering([*CELLS], POLICIES, one_in=2))
def test_the_picture_is_that_of_the_same_by_hand(
    cell: str, policy: str, adapted: bool, expected: Any, lora: Path, tmp_path: Path
) -> None:
    lines = [
        f"components: {{transformer: {policy}}}",
        f"quantization: [{{component: transformer, backend: {CELLS[cell][0]}}}]",
        *([f"loras: [{{lora_id: '{lora}', lora_scale: 0.5}}]"] if adapted else []),
    ]
    backend, columns = CELLS[cell][0].partition(",")[0], [policy, "sim", *(["lora"] if adapted else [])]
    if refused(tmp_path, backend, cell, columns, *lines):
        return
    plan = plan_of(tmp_path, *lines)
    pipe = planner.load_pipeline(plan)
    with planner.apply(plan, pipe, device="sim:0") as session:
        assert set(formats(pipe.transformer).values()) == {(backend, cell)}
        assert pipe.transformer.dtype is torch.bfloat16
        assert torch.equal(picture(pipe), expected(cell, adapted))
        assert torch.equal(picture(pipe), expected(cell, adapted))
        assert planner.apply(plan, pipe, device="sim:0") is session


@pytest.mark.parametrize("cell", CELLS)
def test_removing_gives_back_the_very_parameters(cell: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"quantization: [{{component: transformer, backend: {CELLS[cell][0]}}}]")
    SimDevice()
    pipe = plain(tmp_path)
    before = picture(pipe)
    weights = {name: part.get_parameter("weight") for name, part in linears(pipe.transformer)}
    values = {name: weight.clone() for name, weight in weights.items()}
    shown = repr(pipe.transformer)
    session = planner.apply(plan, pipe, device="sim:0")
    taken = formats(pipe.transformer)
    assert taken
    picture(pipe)
    session.remove()
    assert not formats(pipe.transformer)
    for name in taken:
        part = named(pipe.transformer)[name]
        assert part.weight is weights[name]
        assert torch.equal(part.get_parameter("weight"), values[name])
        assert not part._state_dict_hooks
    assert repr(pipe.transformer) == shown
    assert torch.equal(picture(pipe), before)


def test_a_cast_component_weighs_half(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    rule = "quantization: [{component: transformer, backend: layerwise_cast}]"
    whole = planner.compile(plan_of(tmp_path), pipe).schedule.course.size("transformer")
    saved = sum(
        weight.numel()
        for part in parts_of(pipe.transformer)
        if not any(re.search(p, part.name) for p in CAST_SKIPS)
        for weight in named(pipe.transformer)[part.name]._parameters.values()
        if weight is not None
    )
    session = planner.apply(plan_of(tmp_path, rule), pipe, device="sim:0")
    size = session.schedule.course.size("transformer")
    assert whole - saved <= size < whole - saved + 512 * len(list(pipe.transformer.parameters()))


def test_as_diffusers_casts_with_less_of_what_hurts(tmp_path: Path) -> None:
    """Its skips, and its numbers; a rule's own ``skip`` is added to them."""
    SimDevice()
    theirs = plain(tmp_path)
    theirs.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16
    )
    cast = {
        name
        for name, part in theirs.transformer.named_modules()
        if part._parameters.get("weight") is not None and part.weight.dtype is torch.float8_e4m3fn
    }
    pipe = plain(tmp_path)
    rule = "{component: transformer, backend: layerwise_cast, storage_dtype: float8_e4m3fn"
    with planner.apply(plan_of(tmp_path, f"quantization: [{rule}}}]"), pipe, device="sim:0"):
        assert formats(pipe.transformer).keys() == cast
        assert torch.equal(picture(pipe), picture(theirs.to("sim:0")))
    with planner.apply(plan_of(tmp_path, f"quantization: [{rule}, skip: ['to_q$']}}]"), pipe, device="sim:0"):
        assert formats(pipe.transformer).keys() == {name for name in cast if not name.endswith("to_q")}


def test_text_encoders_and_vaes_that_ask_a_layer_for_its_dtype(tmp_path: Path) -> None:
    SimDevice()
    names = ("text_encoder", "text_encoder_2", "vae")
    rules = ", ".join(f"{{component: {name}, backend: layerwise_cast}}" for name in names)
    plan = plan_of(tmp_path, "components: {text_encoder_2: stream}", f"quantization: [{rules}]")
    pipe, hand = plain(tmp_path), plain(tmp_path)
    with planner.apply(plan, pipe, device="sim:0"):
        for name in names:
            for part in formats(getattr(pipe, name)):
                with torch.no_grad():
                    for weight in named(getattr(hand, name))[part]._parameters.values():
                        if weight is not None:
                            weight.copy_(weight.to(torch.float8_e4m3fn))
            assert getattr(pipe, name).dtype is torch.bfloat16
        tied = pipe.text_encoder_2
        assert tied.shared.weight is tied.encoder.embed_tokens.weight
        assert "decoder.up_blocks.0.resnets.0.conv1" in formats(pipe.vae)
        assert torch.equal(picture(pipe), picture(hand.to("sim:0")))


def test_a_lora_under_the_plan_is_made_in_the_dtype_that_computes(lora: Path, tmp_path: Path) -> None:
    SimDevice()
    plan = plan_of(tmp_path, "quantization: [{component: transformer, backend: layerwise_cast}]")
    pipe, first = plain(tmp_path), plain(tmp_path)
    first.load_lora_weights(str(lora))
    with planner.apply(plan, pipe, device="sim:0"), planner.apply(plan, first, device="sim:0"):
        picture(pipe)
        pipe.load_lora_weights(str(lora))
        adapters = [p for n, p in pipe.transformer.named_parameters() if "lora_" in n]
        assert {p.dtype for p in adapters} == {torch.bfloat16}
        assert torch.equal(picture(pipe), picture(first))
        pipe.unload_lora_weights()
    assert not formats(pipe.transformer)
    assert torch.equal(picture(pipe), picture(plain(tmp_path)))


def test_what_was_written_under_the_plan_is_kept_when_it_goes(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    plan = plan_of(
        tmp_path, "quantization: [{component: transformer, match: 'to_q', backend: layerwise_cast}]"
    )
    layer = pipe.transformer.transformer_blocks[0].attn.to_q
    before = layer.weight
    with planner.apply(plan, pipe, device="sim:0"), torch.no_grad():
        assert isinstance(layer.weight, Cast)
        layer.weight.data += 1
        now = layer.weight.full()
    assert layer.weight is before
    assert torch.equal(before, now)


def test_a_plan_that_casts_is_saved_as_what_it_computes_with(tmp_path: Path) -> None:
    from diffusers import FluxTransformer2DModel

    SimDevice()
    pipe = plain(tmp_path)
    plan = plan_of(tmp_path, "quantization: [{component: transformer, backend: layerwise_cast}]")
    with planner.apply(plan, pipe, device="sim:0"):
        pipe.transformer.save_pretrained(tmp_path / "saved")
        under = picture(pipe)
    pipe.transformer = FluxTransformer2DModel.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    pipe.to("sim:0")
    assert torch.equal(picture(pipe), under)


def test_other_rules_take_the_place_of_those_before(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    rule = "quantization: [{component: transformer, match: 'to_q$', backend: layerwise_cast}]"
    first = planner.apply(plan_of(tmp_path, rule), pipe, device="sim:0")
    second = planner.apply(plan_of(tmp_path, rule.replace("to_q", "to_k")), pipe, device="sim:0")
    assert first.applied.removed
    assert {name.rpartition(".")[2] for name in formats(pipe.transformer)} == {"to_k"}
    third = planner.apply(
        plan_of(tmp_path, rule.replace("to_q", "to_k"), "components: {vae: resident}"), pipe, device="sim:0"
    )
    assert second.applied.removed
    assert {name.rpartition(".")[2] for name in formats(pipe.transformer)} == {"to_k"}
    third.remove()
    assert not formats(pipe.transformer)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("backend: quanto, type: int8", "is not quantized, and the plan says quanto int8, and"),
        ("match: '^proj_out$', backend: quanto, type: int8", '"transformer.proj_out" is not quantized'),
        ("backend: bitsandbytes, type: nf4", "P723 quantized-otherwise"),
        ("backend: torchao, match: nothing, type: int8_dynamic", "P374 unmatched-rule"),
        (
            "backend: layerwise_cast, compute_dtype: float16",
            "loaded in bfloat16, and cannot compute in float16",
        ),
    ],
)
def test_what_does_not_go_is_refused_and_changes_nothing(rule: str, said: str, tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    before = dict(pipe.transformer.named_parameters())
    plan = plan_of(tmp_path, f"quantization: [{{component: transformer, {rule}}}]")
    with pytest.raises(PlanError, match=said):
        planner.apply(plan, pipe, device="sim:0")
    assert all(tensor is before[name] for name, tensor in pipe.transformer.named_parameters())
    assert type(pipe).__call__ is type(plain(tmp_path)).__call__


def test_what_does_not_fit_leaves_the_parameters(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    before = dict(pipe.transformer.named_parameters())
    rule = "quantization: [{component: transformer, backend: torchao, type: int8_weight_only}]"
    with pytest.raises(PlanError, match="P6"):
        planner.apply(plan_of(tmp_path, "budget: {vram: 64KiB}", rule), pipe, device="sim:0")
    assert all(tensor is before[name] for name, tensor in pipe.transformer.named_parameters())


def test_what_fails_leaves_a_pipeline_on_the_device_where_it_was(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path).to("sim:0")
    before = picture(pipe)
    for kind, code in (("int8_weight_only", "P6"), ("float8_dynamic", "P376")):
        rule = f"quantization: [{{component: transformer, backend: torchao, type: {kind}}}]"
        with pytest.raises(PlanError, match=code):
            planner.apply(plan_of(tmp_path, "budget: {vram: 64KiB}", rule), pipe, device="sim:0")
        assert not formats(pipe.transformer)
        assert {p.device.type for p in pipe.transformer.parameters()} == {"sim"}
        assert torch.equal(picture(pipe), before)


def test_what_another_backend_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    SimDevice()
    pipe = plain(tmp_path)
    by_torchao("Int8WeightOnlyConfig", pipe)
    for rule in ("backend: layerwise_cast", "backend: torchao, type: float8_weight_only"):
        plan = plan_of(tmp_path, f"quantization: [{{component: transformer, {rule}}}]")
        with pytest.raises(PlanError, match="is torchao int8_weight_only, and the plan says"):
            planner.apply(plan, pipe, device="sim:0")
    same = plan_of(
        tmp_path, "quantization: [{component: transformer, backend: torchao, type: int8_weight_only}]"
    )
    with planner.apply(same, pipe, device="sim:0"):
        assert formats(pipe.transformer)
    assert formats(pipe.transformer)
