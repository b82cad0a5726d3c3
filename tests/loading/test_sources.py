"""Components with a source of their own, and LoRAs: equal to diffusers' own way of loading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.loading.builtin import builtin_folder, quiet
from planner.loading.pipeline import load_pipeline
from planner.virtual.device import SimDevice

FLUX = "class: FluxPipeline, source: 'builtin:tiny-flux'"


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A transformer with other weights than the pipeline's, in a folder of its own."""
    from diffusers import FluxTransformer2DModel

    with quiet():
        made = FluxTransformer2DModel.from_pretrained(builtin_folder("tiny-flux"), subfolder="transformer")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.5)
    made.save_pretrained(tmp_path / "mine")
    return made


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_a_component_from_a_folder(make_plan: Any, other: Any) -> None:
    plan = make_plan(f"pipeline: {{{FLUX}}}\ncomponents: {{transformer: {{source: ./mine}}}}")
    pipe = load_pipeline(plan)
    assert type(pipe.transformer) is type(other)
    assert same(pipe.transformer, other)
    assert not pipe.transformer.training


def test_a_component_from_another_pipelines_folder(make_plan: Any, other: Any, tmp_path: Path) -> None:
    pipe = load_pipeline(make_plan(f"pipeline: {{{FLUX}}}"))
    pipe.transformer = other
    pipe.save_pretrained(tmp_path / "whole")
    plan = make_plan(f"pipeline: {{{FLUX}}}\ncomponents: {{transformer: {{source: ./whole}}}}")
    assert same(load_pipeline(plan).transformer, other)


def test_a_text_encoder_from_a_folder_is_of_the_pipelines_class(make_plan: Any, tmp_path: Path) -> None:
    """Not the whole T5 or CLIP that transformers' AutoModel makes of it."""
    pipe = load_pipeline(make_plan(f"pipeline: {{{FLUX}}}"))
    for name in ("text_encoder", "text_encoder_2"):
        getattr(pipe, name).save_pretrained(tmp_path / name)
        plan = make_plan(f"pipeline: {{{FLUX}}}\ncomponents: {{{name}: {{source: ./{name}}}}}")
        loaded = getattr(load_pipeline(plan), name)
        assert type(loaded) is type(getattr(pipe, name))
        assert same(loaded, getattr(pipe, name))


def test_a_hub_id_offline(make_plan: Any) -> None:
    found = refused(make_plan(f"pipeline: {{{FLUX}}}\ncomponents:\n  vae: {{source: nobody/nothing}}"))
    assert found[0].code.name == "hub-unreachable"
    assert found[0].span.line == 4


def test_a_component_from_a_gguf_file_is_read_by_diffusers_or_says_why(
    make_plan: Any, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    plan = make_plan(f"pipeline: {{{FLUX}}}\ncomponents: {{transformer: {{source: ./x.gguf}}}}")
    assert refused(plan)[0].code.name in ("package-missing", "loading-failed")


@pytest.mark.parametrize(
    ("source", "code"),
    [("./nowhere", "source-not-found"), ("./mine.bin", "pickle-not-allowed"), ("./empty", "loading-failed")],
)
def test_a_source_that_does_not_do(make_plan: Any, tmp_path: Path, source: str, code: str) -> None:
    (tmp_path / "empty").mkdir()
    plan = make_plan(f"pipeline: {{{FLUX}}}\ncomponents:\n  transformer: {{source: {source}}}")
    found = refused(plan)
    assert [d.code.name for d in found] == [code]
    assert found[0].span is not None
    assert found[0].span.line == 4


def refused(plan: Any) -> Any:
    with pytest.raises(PlanError) as caught:
        load_pipeline(plan)
    return caught.value.diagnostics


def lora(pipe: Any, folder: Path, scale: float = 1.0) -> None:
    """Weights for two of the transformer's layers, as training saves them."""
    from peft import LoraConfig, get_peft_model_state_dict

    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    layers = {name: scale * value for name, value in get_peft_model_state_dict(pipe.transformer).items()}
    pipe.save_lora_weights(folder, transformer_lora_layers=layers)


def test_loras_are_loaded_and_scaled_as_diffusers_does(make_plan: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    base = f"pipeline: {{{FLUX}}}"
    lora(load_pipeline(make_plan(base)), tmp_path / "a")
    lora(load_pipeline(make_plan(base)), tmp_path / "b", 2.0)
    file = next((tmp_path / "b").glob("*.safetensors"))
    pipe = load_pipeline(
        make_plan(
            f"{base}\nloras:\n  - {{lora_id: ./a, lora_scale: 0.5, adapter_name: style}}\n"
            f"  - {{lora_id: ./b/{file.name}}}"
        )
    )
    theirs = load_pipeline(make_plan(base))
    theirs.load_lora_weights(str(tmp_path / "a"), adapter_name="style")
    theirs.load_lora_weights(str(tmp_path / "b"), adapter_name="lora_1")
    theirs.set_adapters(["style", "lora_1"], [0.5, 1.0])
    assert pipe.get_active_adapters() == theirs.get_active_adapters() == ["style", "lora_1"]
    assert same(pipe.transformer, theirs.transformer)
    scaled = [m.scaling for m in pipe.transformer.modules() if hasattr(m, "scaling")]
    assert scaled == [m.scaling for m in theirs.transformer.modules() if hasattr(m, "scaling")]
    assert scaled[0]["style"] == scaled[0]["lora_1"] / 2


def test_loras_that_do_not_do_are_named_before_anything_is_read(make_plan: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    plan = make_plan(
        "pipeline: {class: FluxPipeline, source: ./nowhere}\nloras:\n"
        "  - {lora_id: ./missing}\n  - {lora_id: ./old.bin}\n"
    )
    found = refused(plan)
    assert [(d.code.name, d.span and d.span.line) for d in found] == [
        ("source-not-found", 4),
        ("pickle-not-allowed", 5),
    ]
    plan = make_plan("pipeline: {class: DDPMPipeline, source: ./x}\nloras: [{lora_id: a/b}]")
    assert [d.code.name for d in refused(plan)] == ["no-loras"]


@pytest.mark.parametrize("policy", ["offload", "stream"])
def test_under_a_plan_the_picture_with_a_lora_is_that_of_the_whole_pipeline(
    make_plan: Any, tmp_path: Path, policy: str
) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    base = f"pipeline: {{{FLUX}}}"
    lora(load_pipeline(make_plan(base)), tmp_path / "a")
    text = f"{base}\nloras: [{{lora_id: ./a, lora_scale: 0.5}}]\ncomponents: {{transformer: {policy}}}"
    SimDevice()
    plan = make_plan(text)
    expected = picture(load_pipeline(plan).to("sim:0"))
    assert not torch.equal(expected, picture(load_pipeline(make_plan(base)).to("sim:0")))
    pipe = load_pipeline(plan)
    with planner.apply(plan, pipe, device="sim:0"):
        assert torch.equal(picture(pipe), expected)
        assert torch.equal(picture(pipe), expected)


def picture(pipe: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    made = pipe("a cat", height=64, width=64, num_inference_steps=1, output_type="pt", generator=seed())
    return torch.as_tensor(made.images.cpu())


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
