"""What is said of a key in another place and of a value of another shape: following it is taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import planner
from planner.diagnostics.diagnostic import Diagnostic
from planner.document.language.plan import KEYS
from planner.document.schema import SEEN
from planner.source.text import SourceText

HEAD = "version: 1\npipeline: StableDiffusionXLPipeline\n"


def faults(text: str) -> list[Diagnostic]:
    """Those of shape."""
    text = text if "pipeline:" in text else HEAD + text
    found = planner.validate(SourceText(name="x", text=text if "version" in text else "version: 1\n" + text))
    return [d for d in found.errors if d.code in SEEN]


def offered(hint: str) -> str:
    said = re.fullmatch(r"such as (.*)|did you mean (.*)\?", hint)
    assert said is not None, hint
    return said[1] or said[2]


@pytest.mark.parametrize("key", sorted({*KEYS} - {"version", "pipeline", "device", "semantics", "idle"}))
@pytest.mark.parametrize("value", ["3", "x", "[x]", "[[x]]", "{x: y}", "true", "[3]"])
def test_what_is_offered_for_a_shape_is_one(key: str, value: str) -> None:
    for found in faults(f"{key}: {value}\n"):
        if found.code.id == "P202" and found.hint.startswith(("such as", "did you mean")):
            mended = offered(found.hint)
            assert not faults(mended if mended.startswith(f"{key}: ") else f"{key}: [{mended}]"), mended


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("budget: 12GiB", "budget: {vram: 11GiB}"),
        ("exclude: vae", "exclude: [vae]"),
        ("stages: [{id: a, runs: unet}]", "runs: [unet]"),
        ("stages: [{id: a, runs: [unet]}, {id: b, runs: [vae], after: a}]", "after: [a]"),
        ("loras: a/b", "loras: [{lora_id: ByteDance/Hyper-SD, lora_scale: 0.125}]"),
        ("run: a cat", "run: {prompt: 'a cat', num_inference_steps: 30, seed: 0}"),
        ("components: {unet: [stream]}", "unet: stream"),
    ],
)
def test_a_shape(text: str, mended: str) -> None:
    (found,) = faults(text)
    assert (found.code.id, offered(found.hint)) == ("P202", mended)


def test_one_mapping_for_a_list_of_them() -> None:
    (found,) = faults("quantization: {component: unet, backend: torchao, type: int8_weight_only}")
    assert found.hint == "a list of mappings: put it in [ ], or a dash before it"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("vram: 8GiB", "budget: {vram: ...}"),
        ("source: ./sdxl", "pipeline: {class: CLASS, source: WHERE}"),
        ("policy: stream", "components: {NAME: {policy: ...}}"),
        ("backend: torchao", "quantization: [{backend: ...}]"),
        ("lora_id: a/b", "loras: [{lora_id: ...}]"),
        ("prompt: a cat", "run: {prompt: ...}"),
        ("steps: 30", "run: {num_inference_steps: ...}"),
        ("offload: model", "components: {NAME: offload}"),
        ("model: a/b", "pipeline: {class: CLASS, source: WHERE}"),
        ("budget: {gpu: 8GiB}", "budget: {vram: ...}"),
        ("budget: {VRAM: 8GiB}", '"vram"'),
        ("budget: {idle: keep}", "idle: ..."),
        ("components: {unet: {stream: true}}", "policy: stream"),
        ("stages: [{id: a, run: [unet]}]", '"runs"'),
        ("pipline: x", '"pipeline"'),
        ("Budget: {vram: 8GiB}", '"budget"'),
    ],
)
def test_a_key(text: str, mended: str, tmp_path: Path) -> None:
    (found,) = faults(f"pipeline: FluxPipeline\n{text}")
    assert (found.code.id, offered(found.hint)) == ("P201", mended)


@pytest.mark.parametrize("value", ["gpu", "cuda", "vram"])
def test_the_device_as_a_policy_is_resident(value: str) -> None:
    (found,) = faults(f"components: {{unet: {value}}}")
    assert found.hint == "policy: resident keeps it on the plan's device"
