"""A folder's sizes under rules are those of the pipeline that is loaded from it and really quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import covering
from models import at
from pipelines.all import CASES
from pipelines.plans import plan_for
from pipelines.registry import build
from torch import nn

from planner.plan.model import QuantizationRule
from planner.quantization.backends import BACKENDS
from planner.quantization.check import check_parts
from planner.quantization.select import take
from planner.quantization.sizes import effects, keeps_of, resized, sized
from planner.target.blocks import blocks_of
from planner.target.folder import read_folder
from planner.target.loaded import describe
from planner.target.model import Target
from quantization.making import MADE

NAMES = (
    "StableDiffusionXLPipeline",
    "FluxPipeline",
    "WanPipeline",
    "QwenImagePipeline",
    "SanaPipeline",
    "HunyuanDiTPipeline",
    "Lumina2Pipeline",
    "KandinskyV22Pipeline",
)


def rule(backend: str, **said: Any) -> QuantizationRule:
    own = {key: said.pop(key) for key in ("match", "classes", "skip") if key in said}
    return QuantizationRule(component="x", backend=backend, **own, options=said, spans={}, span=at())


RULES: Mapping[str, Sequence[QuantizationRule]] = {
    "int8": (rule("torchao", type="int8_weight_only"),),
    "float8": (rule("torchao", type="float8_weight_only", skip=("norm",)),),
    "quanto": (rule("quanto", type="int8"),),
    "quanto-2": (rule("quanto", type="int2"),),
    "cast": (rule("layerwise_cast", storage_dtype="float8_e4m3fn"),),
    "both": (
        rule("torchao", match=r"(q|k|v)(_proj)?$", type="int8_weight_only"),
        rule("layerwise_cast", storage_dtype="float8_e4m3fn", classes=("Linear",)),
    ),
}


def quantize(module: nn.Module, rule: QuantizationRule, names: frozenset[str]) -> None:
    if rule.backend == "torchao":
        import torchao.quantization as library

        configs = {"int8_weight_only": "Int8WeightOnlyConfig", "float8_weight_only": "Float8WeightOnlyConfig"}
        config = getattr(library, configs[rule.options["type"]])()
        library.quantize_(module, config, filter_fn=lambda _, name: name in names)
    elif rule.backend == "quanto":
        library = pytest.importorskip("optimum.quanto")
        library.quantize(module, weights=f"q{rule.options['type']}", include=sorted(names) or ["none"])
        library.freeze(module)
    else:
        for name in names:
            module.get_submodule(name).to(torch.float8_e4m3fn)


def without_what_no_file_holds(module: nn.Module) -> None:
    """Tables of positions, which are made anew in each process: a header does not know them."""
    for part in module.modules():
        for name in part._non_persistent_buffers_set:
            part._buffers[name] = None


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each pipeline once: loaded in bfloat16, and its folder as a target."""
    made: dict[str, tuple[Path, Target]] = {}

    def get(name: str) -> tuple[Any, Target]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            build(name).save_pretrained(folder)
            target, found = read_folder(folder, dtype="bfloat16")
            assert target is not None, found
            made[name] = folder, target
        folder, target = made[name]
        pipe = getattr(__import__("diffusers"), CASES[name].cls).from_pretrained(
            folder, torch_dtype=torch.bfloat16
        )
        return pipe, target

    return get


@pytest.mark.parametrize(("rules", "name"), covering([*RULES], NAMES))
def test_a_folder_knows_what_its_pipeline_weighs_under_rules(name: str, rules: str, saved: Any) -> None:
    pipe, target = saved(name)
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            without_what_no_file_holds(module)
    loaded, changed = describe(pipe), 0
    for key in target.modules:
        module, info = pipe.components[key], target.components[key]
        if module is None:
            continue
        there = loaded.components[key]
        assert there.parts is not None
        taken = take(RULES[rules], there.parts, keeps_of(there))
        for one in taken:
            quantize(module, one.rule, one.names)
        made, said = blocks_of(module), resized(info, RULES[rules])
        done = effects(RULES[rules], info)
        assert done is not None
        names = [{part.name for part in one.parts if not part.tied} for one in taken]
        assert [effect.taken.names for effect in done] == names
        assert said.blocks is not None
        assert sorted(said.blocks.streamable) == sorted(made.streamable), key  # a file sorts its names
        assert said.blocks.bytes == said.bytes == made.bytes, key
        assert resized(there, RULES[rules]).bytes == made.bytes, key  # as for a model on the meta device
        changed += sum(len(one.parts) for one in taken)
    assert changed > 10


def test_what_a_header_leaves_open_has_no_size(saved: Any) -> None:
    """Which convolutions are transposed is not in a file, and neither are the classes of modules."""
    _, target = saved("StableDiffusionXLPipeline")
    vae = target.components["vae"]
    cast = {"storage_dtype": "float8_e4m3fn"}
    assert resized(vae, [rule("layerwise_cast", **cast)]).bytes is not None
    assert resized(vae, [rule("layerwise_cast", classes=("Conv2d",), **cast)]).bytes is None
    assert resized(vae, [rule("torchao", classes=("Attention",), type="int8_weight_only")]).bytes is None
    own = replace(vae, keeps=((), None))
    assert resized(own, [rule("layerwise_cast", **cast)]).bytes is None
    assert resized(own, [rule("torchao", type="int8_weight_only")]).bytes is not None


@pytest.mark.parametrize(("backend", "kind"), list(MADE))
def test_rules_for_what_is_quantized_already_are_no_mistake(backend: str, kind: str) -> None:
    """A loaded pipeline, whose rules were executed while it was loaded."""
    pipe = build("FluxPipeline").to(torch.bfloat16)
    MADE[backend, kind](pipe.transformer)
    key = BACKENDS[backend].type_key
    plan = plan_for(pipe, f"quantization: [{{component: transformer, backend: {backend}, {key}: {kind}}}]")
    target = describe(pipe)
    assert check_parts(plan, target) == []
    assert sized(plan, target) is target
