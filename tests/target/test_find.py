"""Where a target comes from, and that it is the same on every machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.diagnostics.diagnostic import Diagnostic
from planner.target import catalogue
from planner.target.find import builtins, by_class, find_target
from planner.target.model import device_bytes


def said(found: list[Diagnostic]) -> list[str]:
    return [f"{d.severity.value} {d.code.name}: {d.message}" for d in found]


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (None, "without a source"),
        ("black-forest-labs/FLUX.1-dev", 'of "black-forest-labs/FLUX.1-dev"'),
        ("gpt2", 'of "gpt2"'),
    ],
)
def test_what_is_not_on_this_disk_is_the_class_and_a_note(
    source: str | None, where: str, tmp_path: Path
) -> None:
    target, found = find_target("FluxPipeline", source, relative_to=tmp_path)
    assert target == catalogue.find("FluxPipeline")
    assert said(found) == [
        f"note sizes-not-known: sizes are not known {where}: whether the plan fits is not checked"
    ]
    assert found[0].code.strict


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("./flx", 'did you mean "flux"?'),
        ("../nowhere/flux", "there is no folder"),
        ("/nowhere/flux", 'there is no folder "/nowhere"'),
        ("~nobody/flux", "there is no folder"),
        ("./flux.safetensor", 'did you mean "flux.safetensors"?'),
        ("FLUX.SAFETENSORS", ""),
        ("a/b/c", "there is no folder"),
        ("nul\0byte", ""),
        ("https://hf.co/o/n/blob/main/x.safetensors", "the hub's id alone: o/n"),
        ("https://huggingface.co/o/n.v1", "the hub's id alone: o/n.v1"),
        ("www.huggingface.co/o/n/tree/main", "the hub's id alone: o/n"),
        ("https://civitai.com/models/1", "OWNER/NAME"),
        ("file:///models/flux", "OWNER/NAME"),
        ("C:\\models\\flux", ""),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error(source: str, hint: str, flux: Path) -> None:
    (flux.parent / "flux.safetensors").write_bytes(b"")
    target, (problem,) = find_target("FluxPipeline", source, relative_to=flux.parent)
    assert target is None
    assert problem.code.name == "no-such-source"
    assert problem.severity.value == "error"
    assert hint in problem.hint


def test_a_folder_is_found_beside_the_plan(flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("flux", "./flux", str(flux)):
        target, found = find_target("FluxPipeline", source, relative_to=flux.parent)
        assert target is not None
        assert (target.origin, target.components["transformer"].bytes, found) == ("folder", 1024, [])
    monkeypatch.setenv("HOME", str(flux.parent))
    assert find_target("FluxPipeline", "~/flux")[1] == []
    monkeypatch.chdir(flux.parent)
    assert find_target("FluxPipeline", "flux")[1] == []


def test_a_folder_of_another_class_is_told_as_what_it_is(flux: Path) -> None:
    target, _ = find_target("StableDiffusionXLPipeline", str(flux))
    assert target is not None
    assert target.cls == "FluxPipeline"
    target, found = find_target("FluxImg2ImgPipeline", str(flux))
    assert (target.cls if target else None, found) == ("FluxImg2ImgPipeline", [])


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    target, found = find_target("FluxPipeline", "half", relative_to=tmp_path)
    assert target is None
    expected = 'error broken-folder: "half": model_index.json cannot be read: No such file or directory'
    assert said(found) == [expected]


def test_a_component_from_elsewhere(flux: Path) -> None:
    control = flux.parent / "canny"
    control.mkdir()
    (control / "config.json").write_text("{}")
    (control / "diffusion_pytorch_model.safetensors").write_bytes(
        (flux / "transformer/diffusion_pytorch_model.safetensors").read_bytes()
    )
    arguments: dict[str, Any] = {"relative_to": flux.parent}
    target, found = find_target(
        "FluxControlNetPipeline", "flux", sources={"controlnet": "./canny"}, **arguments
    )
    assert found == []
    assert target is not None
    assert target.components["controlnet"].bytes == 1024
    target, found = find_target(
        "FluxControlNetPipeline", "flux", sources={"controlnet": "me/canny"}, **arguments
    )
    assert said(found) == [
        'note sizes-not-known: sizes are not known of "controlnet": whether the plan fits is not checked'
    ]


@pytest.mark.parametrize(
    ("cls", "near"),
    [
        ("StableDiffusionXlPipeline", "StableDiffusionXLPipeline"),
        ("StableDifusionXLPipeline", "StableDiffusionXLPipeline"),
        ("FluxPipline", "FluxPipeline"),
        ("fluxpipeline", "FluxPipeline"),
        ("Flux", "FluxPipeline"),
        ("WanImageToVideoPipelines", "WanImageToVideoPipeline"),
    ],
)
def test_a_slip_is_an_error(cls: str, near: str) -> None:
    target, (problem,) = by_class(cls, "0.42.1")
    assert target is None
    assert said([problem]) == [f'error unknown-class: diffusers 0.42.1 has no pipeline class "{cls}"']
    assert problem.hint == f'did you mean "{near}"?'


@pytest.mark.parametrize("cls", ["MyFluxPipeline", "FluxWithTwistPipeline", "AcmeThing", "Pipeline", "X"])
def test_a_class_of_your_own_is_a_warning(cls: str) -> None:
    target, found = find_target(cls, None)
    assert target is None
    assert said(found) == [f'warning unknown-class: diffusers 0.42.1 has no pipeline class "{cls}"']


@pytest.mark.parametrize(
    "cls", ["ModularPipeline", "FluxModularPipeline", "WanAutoBlocks", "MyOwnModularPipeline"]
)
def test_a_modular_class(cls: str) -> None:
    target, (problem,) = find_target(cls, None)
    assert target is None
    assert problem.code.name == "modular-class"
    assert "ComponentsManager" in problem.message


@pytest.mark.parametrize(
    ("specifier", "warned"), [(None, False), (">=0.40", False), ("<0.20", True), ("nonsense", True)]
)
def test_the_version_that_the_plan_requires(specifier: str | None, warned: bool) -> None:
    target, found = find_target("FluxPipeline", None, requires=specifier)
    assert target is not None
    assert ("no-catalogue" in [d.code.name for d in found]) is warned
    assert target.version == catalogue.pick(specifier)[0]


class TestBuiltins:
    @pytest.mark.parametrize("name", sorted(builtins()))
    @pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
    def test_their_sizes_are_known(self, name: str, dtype: str | None) -> None:
        target, found = find_target(builtins()[name]["class"], f"builtin:{name}", dtype=dtype)
        assert found == []
        assert target is not None
        here = [n for n in target.modules if target.components[n].present]
        assert here == list(builtins()[name]["components"]) or set(here) == set(
            builtins()[name]["components"]
        )
        assert all(target.components[n].bytes for n in here)
        assert target.walk is not None

    @pytest.mark.parametrize("name", sorted(builtins()))
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_their_tensors_weigh_what_was_measured(self, name: str, dtype: str) -> None:
        target, _ = find_target(builtins()[name]["class"], f"builtin:{name}", dtype=dtype)
        assert target is not None
        for part in builtins()[name]["components"]:
            info = target.components[part]
            assert device_bytes(size for _, size in info.weights or ()) == info.bytes, part
            assert any(one.kinds for one in info.parts or ())

    @pytest.mark.parametrize(
        ("rule", "code"),
        [
            (
                "component: unet, match: no_such_layer, backend: torchao, type: int8_weight_only",
                "unmatched-rule",
            ),
            ("component: vae, classes: [Conv3d], backend: layerwise_cast", "unmatched-rule"),
            ("component: text_encoder, match: 'vision', backend: bitsandbytes, type: nf4", "unmatched-rule"),
            ("component: unet, match: 'attn\\d\\.to_q$', backend: torchao, type: int8_weight_only", ""),
        ],
    )
    def test_a_rule_that_takes_nothing_is_an_error(self, rule: str, code: str, tmp_path: Path) -> None:
        path = tmp_path / "x.plan.yaml"
        path.write_text(
            "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}\n"
            f"quantization:\n  - {{{rule}}}\n"
        )
        found = planner.validate(path)
        assert [d.code.name for d in found.errors] == [code] * bool(code)
        assert all(d.span and d.span.line == 4 for d in found.errors)
        assert "rule-not-checked" not in [d.code.name for d in found.notes]

    def test_they_serve_other_classes_too(self) -> None:
        target, found = find_target("StableDiffusionXLImg2ImgPipeline", "builtin:tiny-sdxl")
        assert found == []
        assert target is not None
        assert target.cls == "StableDiffusionXLImg2ImgPipeline"
        assert target.components["unet"].bytes
        target, _ = find_target("WanImageToVideoPipeline", "builtin:tiny-flux")
        assert target is not None
        assert target.cls == "FluxPipeline"

    def test_one_that_there_is_not(self) -> None:
        target, (problem,) = find_target("FluxPipeline", "builtin:tiny-flx")
        assert target is None
        assert said([problem]) == ['error unknown-builtin: no built-in pipeline "tiny-flx"']
        assert problem.hint == 'did you mean "tiny-flux"?'
        assert find_target("FluxPipeline", "builtin:")[1][0].hint == "known: tiny-flux, tiny-sdxl, tiny-wan"


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    """A Flux whose models have one tensor each."""
    root = tmp_path / "flux"
    index: dict[str, Any] = {"_class_name": "FluxPipeline"}
    target = catalogue.find("FluxPipeline")
    assert target is not None
    for name, info in target.components.items():
        if info.optional:
            continue
        library = "transformers" if name.startswith(("text", "tokenizer")) else "diffusers"
        index[name] = [library, info.classes[0]]
        if not info.module:
            continue
        header = json.dumps({"w": {"dtype": "F32", "shape": [256], "data_offsets": [0, 1024]}}).encode()
        stem = "model" if library == "transformers" else "diffusion_pytorch_model"
        os.makedirs(root / name)
        (root / name / "config.json").write_text("{}")
        (root / name / f"{stem}.safetensors").write_bytes(
            len(header).to_bytes(8, "little") + header + bytes(1024)
        )
    (root / "model_index.json").write_text(json.dumps(index))
    return root
