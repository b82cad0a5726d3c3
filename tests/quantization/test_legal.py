"""What a planner may choose from: legal, smaller, and exactly as large as it is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from planner.quantization.legal import Choice, choices
from planner.quantization.matrix import row_of
from planner.quantization.probe import installed
from planner.quantization.sizes import resized
from planner.target.folder import read_folder
from planner.target.model import ComponentInfo


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> ComponentInfo:
    """Wide enough that a byte an element is less, in a folder without its other components."""
    folder = tmp_path_factory.mktemp("flux")
    model = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=32,
        num_attention_heads=8,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 12, 12),
    )
    model.to(torch.bfloat16).save_pretrained(folder / "transformer")
    index = '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}'
    (folder / "model_index.json").write_text(index)
    target, _ = read_folder(folder, dtype="bfloat16")
    assert target is not None
    return target.components["transformer"]


def named(found: tuple[Choice, ...]) -> list[str]:
    return [f"{c.rule.backend} {next(iter(c.rule.options.values()))}" for c in found]


def test_the_smallest_comes_first(transformer: ComponentInfo) -> None:
    found = choices(transformer, policy="offload", device_type="cuda")
    assert named(found)[0] == "quanto int2"
    assert set(named(found)) == {
        "bitsandbytes fp4",
        "bitsandbytes int8",
        "bitsandbytes nf4",
        "layerwise_cast float8_e4m3fn",
        "layerwise_cast float8_e5m2",
        "quanto float8",
        "quanto int2",
        "quanto int4",
        "quanto int8",
        "torchao float8_dynamic",
        "torchao float8_weight_only",
        "torchao int4_weight_only",
        "torchao int8_dynamic",
        "torchao int8_weight_only",
    }
    assert [choice.after for choice in found] == sorted(choice.after for choice in found)
    for choice in found:
        assert 0 < choice.after < choice.before == transformer.bytes
        assert choice.saved == choice.before - choice.after
        assert resized(transformer, [choice.rule]).bytes == choice.after
        assert choice.modules > 10


@pytest.mark.parametrize("policy", ["resident", "offload", "stream"])
@pytest.mark.parametrize("device", ["cuda", "xpu", "mps", "sim"])
@pytest.mark.parametrize("loras", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_none_is_refused(
    transformer: ComponentInfo, policy: str, device: str, loras: bool, compiled: bool
) -> None:
    found = choices(transformer, policy=policy, device_type=device, loras=loras, compiled=compiled)
    assert found
    asked = {policy, device, *(["lora"] if loras else []), *(["compile"] if compiled else [])}
    for choice in found:
        kind = str(next(iter(choice.rule.options.values())))
        verdicts = {row_of(choice.rule.backend, kind).cells[column].verdict for column in asked}
        assert "no" not in verdicts
        assert (choice.verdict == "shown") == (verdicts == {"shown"})


def test_only_what_is_installed(transformer: ComponentInfo) -> None:
    none = choices(transformer, policy="offload", device_type="cuda", versions={})
    assert named(none) == ["layerwise_cast float8_e4m3fn", "layerwise_cast float8_e5m2"]
    old = choices(transformer, policy="offload", device_type="sim", versions={"torchao": "0.14.1"})
    assert named(old) == named(none)
    here = choices(transformer, policy="offload", device_type="sim", versions=installed())
    assert set(named(here)) >= set(named(none))


def test_nothing_for_what_is_not_known(transformer: ComponentInfo, tmp_path: Path) -> None:
    unknown = ComponentInfo(name="transformer", classes=("FluxTransformer2DModel",), module=True)
    assert choices(unknown, policy="offload", device_type="cuda") == ()
