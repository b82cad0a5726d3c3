"""What yaml-language-server underlines, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from editor.server import Server

FLUX = "version: 1\npipeline: {class: FluxPipeline}\n"
RULE = FLUX + "quantization:\n  - {component: transformer, backend: "
PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))

WRONG = {
    "another backend's type": (RULE + "torchao, type: nf4}\n", "type of torchao: int8_weight_only"),
    "another's type, quanto": (RULE + "quanto, type: nf4}\n", "type of quanto: int8, float8, int4, int2"),
    "a dtype to cast to": (
        RULE + "layerwise_cast, storage_dtype: int8}\n",
        "storage_dtype of layerwise_cast: float8_e4m3fn",
    ),
    "another backend's option": (RULE + "quanto, type: int8, threshold: 6.0}\n", "quanto has no such option"),
    "type of one that has none": (RULE + "layerwise_cast, type: nf4}\n", "layerwise_cast has no such option"),
    "another format's option": (
        RULE + "bitsandbytes, type: int8, double_quant: true}\n",
        "double_quant is an option of nf4, fp4 alone",
    ),
    "an option's value": (RULE + "torchao, type: int4_weight_only, group_size: 0}\n", "minimum of 1"),
    "no type": (RULE + "torchao}\n", 'torchao needs "type": int8_weight_only'),
    "no such backend": (RULE + "torchoa, type: int8}\n", '"bitsandbytes", "torchao", "quanto"'),
    "what a file has settled": (RULE + "gguf, match: attn}\n", "gguf has no such option"),
    "order and stages": (
        FLUX + "order: a -> b\nstages: [{id: a, runs: [b]}]\n",
        "order and stages exclude each other",
    ),
    "order and stages of a part": (
        "extends: x.plan.yaml\norder: [a]\nstages: [{id: a, runs: [b]}]\n",
        "order and stages exclude each other",
    ),
    "runs and stages": (
        FLUX + "stages: [{id: a, runs: [b], stages: [{id: c, runs: [d]}]}]\n",
        "a stage has runs or stages, not both",
    ),
    "neither": (FLUX + "stages: [{id: a}]\n", "a stage needs runs"),
    "a number without a unit": (FLUX + "budget: {vram: 11}\n", "a size with its unit, such as 11GiB"),
    "one in quotes": (FLUX + "budget: {ram: '11'}\n", "a size with its unit, such as 16GiB"),
    "one of a component": (FLUX + "components: {vae: {resident: 4}}\n", "a size with its unit"),
    "one of a part": ("extends: x.plan.yaml\nbudget: {vram: 11}\n", "a size with its unit"),
    "a policy": (FLUX + "components: {vae: strem}\n", '"resident", "offload", "stream"'),
    "a policy in a mapping": (FLUX + "components: {vae: {policy: strem}}\n", '"resident", "offload"'),
    "a device": (FLUX + "device: gpu\n", "expected auto, cuda, cuda:1, xpu:0 or mps"),
    "a size for a mapping": (FLUX + "budget: 11GiB\n", "expected a mapping of vram, ram, pinned"),
    "a word for a mapping": (FLUX + "run: hello\n", "expected a mapping"),
    "a list for a mapping": (FLUX + "components: [vae]\n", "expected a mapping"),
    "a word for a list": (FLUX + "exclude: vae\n", "expected a list"),
    "a mapping for a list": (FLUX + "quantization: {component: vae}\n", "expected a list"),
    "a list of a part": ("extends: x.plan.yaml\nloras: style\n", "expected a list"),
    "an argument": (FLUX + "run: {'a,b': 1}\n", "expected a name: argument"),
    "a key": (FLUX + "budgt: {}\n", "budgt is not allowed"),
    "a key in a mapping": (FLUX + "budget: {vrm: 1GiB}\n", "expected a mapping of vram, ram, pinned"),
    "a use": (FLUX + "order: [text encoder]\n", "expected a component or an entry point"),
    "a loop": (FLUX + "stages: [{id: a, runs: [b], loop: often}]\n", "expected a number, steps, or a share"),
    "no pipeline": ("version: 1\n", 'Missing property "pipeline"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_fault_is_told_once_and_in_words(server: Server, case: str) -> None:
    text, words = WRONG[case]
    ((line, message),) = server.diagnostics(text)
    assert words in message
    assert line == (1 if text == "version: 1\n" else len(text.splitlines()))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_plans_that_ship_have_none(server: Server, plan: Path) -> None:
    assert server.diagnostics(plan.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\npipeline: MyOwnPipeline\ncomponents: {mine: stream}\norder: [mine, mine.call]\n",
        "extends: x.plan.yaml\ncomponents: {vae: null}\npipeline: FluxPipeline\nstages: null\norder: [vae]\n",
        RULE + "bitsandbytes, type: nf4, compute_dtype: bfloat16, double_quant: true, match: 'a'}\n",
        FLUX + "run: {anything: [1, {a: b}], height: null}\n",
    ],
)
def test_what_the_tool_takes_is_not_underlined(server: Server, text: str) -> None:
    assert server.diagnostics(text) == []
