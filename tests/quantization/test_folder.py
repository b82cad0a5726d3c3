"""Rules for a pipeline in a folder, as a user sees them: what is wrong, and what they do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from goldens import Golden
from pipelines.all import build

import planner
from planner.cli.main import run

CASES = Path(__file__).parent / "cases"
PLANS = {
    "unmatched": """\
  - {component: unet, match: 'atn1\\.', backend: torchao, type: int8_weight_only}
  - {component: unet, classes: [Liner], backend: torchao, type: int8_weight_only}
  - {component: unet, match: 'zzz', backend: torchao, type: int8_weight_only}
  - {component: unet, match: 'zzz', backend: torchao, type: int8_weight_only, required: false}
  - {component: text_encoder, backend: torchao, type: int4_weight_only, group_size: 256}
  - {component: vae, skip: ['.'], backend: quanto, type: int8}
""",
    "shadowed": """\
  - {component: unet, match: attn1, backend: torchao, type: int8_weight_only}
  - {component: unet, match: 'attn\\d', backend: torchao, type: float8_weight_only}
  - {component: unet, match: 'attn[12]', backend: torchao, type: int8_dynamic}
""",
    "explained": """\
  - {component: unet, match: 'attn\\d\\.to_(q|k|v)$', backend: torchao, type: int8_weight_only}
  - {component: unet, backend: layerwise_cast, storage_dtype: float8_e4m3fn, skip: [time_embedding]}
  - {component: text_encoder, backend: bitsandbytes, type: nf4, double_quant: true, compute_dtype: bfloat16}
  - {component: text_encoder_2, backend: quanto, type: int8}
  - {component: vae, classes: [Conv2d], backend: layerwise_cast, storage_dtype: float8_e5m2}
""",
    "packed": """\
  - {component: text_encoder, backend: torchao, type: int4_weight_only, group_size: 32}
  - {component: text_encoder_2, backend: torchao, type: float8_dynamic}
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rules")
    build("StableDiffusionXLPipeline").save_pretrained(made / "sdxl")
    head = "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: bfloat16}\n"
    for name, rules in PLANS.items():
        text = f"{head}budget: {{vram: 8MiB}}\nquantization:\n{rules}"
        (made / f"{name}.plan.yaml").write_text(text, encoding="utf-8")
    return made


@pytest.mark.parametrize("name", ["unmatched", "shadowed"])
def test_what_is_wrong(
    name: str,
    folder: Path,
    golden: Golden,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert run(["validate", f"{name}.plan.yaml"]) == 1
    golden(CASES / f"{name}.out", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["explained", "packed"])
def test_what_rules_do(
    name: str,
    folder: Path,
    golden: Golden,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert run(["explain", f"{name}.plan.yaml"]) == 0
    golden(CASES / f"{name}.out", capsys.readouterr().out)


STORED = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "torchao": {"quant_method": "torchao", "quant_type": "int8wo"},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "a method that it does not name": {"load_in_8bit": True},
}
"""What a config.json says of weights that were quantized when they were saved, by the method."""


@pytest.mark.parametrize("method", STORED)
@pytest.mark.parametrize("component", ["unet", "text_encoder_2"])
@pytest.mark.parametrize(
    "rule",
    [
        "backend: bitsandbytes, type: nf4",
        "backend: torchao, type: int8_weight_only",
        "backend: layerwise_cast, storage_dtype: float8_e4m3fn",
    ],
)
def test_a_rule_for_what_is_quantized_already(
    method: str, component: str, rule: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "sdxl", tmp_path / "sdxl")
    path = tmp_path / "sdxl" / component / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": STORED[method]}))
    plan = tmp_path / "x.plan.yaml"
    head = "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: bfloat16}\n"
    plan.write_text(f"{head}quantization:\n  - {{component: {component}, {rule}}}\n")
    (found,) = planner.validate(plan).errors
    assert (found.code.name, found.span and found.span.line) == ("quantized-already", 4)
    assert method in found.message
    with pytest.raises(planner.PlanError) as caught:
        planner.load_pipeline(plan)
    assert "quantized-already" in [d.code.name for d in caught.value.diagnostics] or "bitsandbytes" in rule
    plan.write_text(f"{head}quantization:\n  - {{component: {component}, {rule}, required: false}}\n")
    assert planner.validate(plan)
    plan.write_text(head)
    assert planner.validate(plan)


@pytest.mark.parametrize("said", ["null", "{}", "[]", "false", '""'])
def test_a_quantization_config_that_says_nothing_is_none(said: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "sdxl", tmp_path / "sdxl")
    path = tmp_path / "sdxl" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": json.loads(said)}))
    plan = tmp_path / "x.plan.yaml"
    head = "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: bfloat16}\n"
    plan.write_text(f"{head}quantization: [{{component: unet, backend: torchao, type: int8_weight_only}}]\n")
    assert not planner.validate(plan).errors
