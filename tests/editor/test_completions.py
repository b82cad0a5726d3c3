"""What yaml-language-server offers at each place of a plan. ``|`` is the cursor."""

from __future__ import annotations

from collections import Counter

import pytest
from editor.server import Server

from planner.quantization.backends import BACKENDS
from planner.target.catalogue import find, names

FLUX = "version: 1\npipeline: {class: FluxPipeline}\n"
RULE = FLUX + "quantization:\n  - component: transformer\n    "
COMPONENTS = {"text_encoder", "text_encoder_2", "transformer", "image_encoder", "vae"}
POLICIES = {"resident", "offload", "stream"}
SELECTORS = {"match", "classes", "skip", "required"}
SKELETONS = {"plan", "plan on top of another", "pipeline", "stage", "rule", "lora"}
"""yaml-language-server's own: all required keys of a mapping at once."""

PLACES = {
    "pipeline: ": ("version: 1\npipeline: |\n", set(names())),
    "class: ": ("version: 1\npipeline:\n  class: |\n", set(names())),
    "class: half written": ("version: 1\npipeline:\n  class: Stable|\n", set(names())),
    "class: in braces": ("version: 1\npipeline: {class: |}\n", set(names())),
    "keys of pipeline": (
        "version: 1\npipeline:\n  |\n",
        {"class", "source", "dtype", "variant", "revision"},
    ),
    "components": (FLUX + "components:\n  |\n", COMPONENTS),
    "components, of the short form": ("version: 1\npipeline: FluxPipeline\ncomponents:\n  |\n", COMPONENTS),
    "components, one there": (FLUX + "components:\n  vae: resident\n  |\n", COMPONENTS - {"vae"}),
    "components, half written": (FLUX + "components:\n  te|\n", COMPONENTS),
    "a component": (FLUX + "components:\n  vae: |\n", POLICIES),
    "a component of a part": ("extends: x.plan.yaml\ncomponents:\n  vae: |\n", POLICIES | {"null"}),
    "keys of a component": (
        FLUX + "components:\n  vae:\n    |\n",
        {"policy", "resident", "prefetch", "source", "tiling", "slicing"},
    ),
    "policy": (FLUX + "components: {vae: {policy: |}}\n", POLICIES),
    "tiling": (FLUX + "components: {vae: {tiling: |}}\n", {"true", "false", '"on"', '"off"'}),
    "slicing": (FLUX + "components: {vae: {slicing: |}}\n", {"true", "false", '"on"', '"off"'}),
    "order": (FLUX + "order:\n  - |\n", COMPONENTS | {"vae.decode"}),
    "order in brackets": (FLUX + "order: [|]\n", COMPONENTS | {"vae.decode"}),
    "order, a second": (FLUX + "order:\n  - text_encoder\n  - |\n", COMPONENTS | {"vae.decode"}),
    "runs": (FLUX + "stages:\n  - id: a\n    runs: [|]\n", COMPONENTS | {"vae.decode"}),
    "runs below": (FLUX + "stages:\n  - id: a\n    runs:\n      - |\n", COMPONENTS | {"vae.decode"}),
    "keys of a stage": (
        FLUX + "stages:\n  - id: a\n    |\n",
        {"runs", "stages", "loop", "after", "optional"},
    ),
    "loop": (FLUX + "stages:\n  - id: a\n    loop: |\n", {"steps", "20", "12.5%"}),
    "exclude": (FLUX + "exclude: [|]\n", COMPONENTS),
    "component of a rule": (FLUX + "quantization:\n  - component: |\n", COMPONENTS),
    "a new rule": (FLUX + "quantization:\n  - |\n", {"component", "backend"}),
    "backend": (RULE + "backend: |\n", set(BACKENDS)),
    "keys of a rule without a backend": (RULE + "|\n", {"backend", *SELECTORS}),
    "vram": (FLUX + "budget: {vram: |}\n", {"11GiB", "80%"}),
    "keys of budget": (FLUX + "budget:\n  |\n", {"vram", "ram", "pinned", "leave_free"}),
    "device": (FLUX + "device: |\n", {"auto", "cuda", "cuda:1", "xpu:0", "mps"}),
    "idle": (FLUX + "idle: |\n", {"release", "keep"}),
    "semantics": (FLUX + "semantics: |\n", {"liveness", "diffusers"}),
    "dtype": ("version: 1\npipeline: {class: X, dtype: |}\n", {"float32", "float16", "bfloat16", "float64"}),
    "requires": (FLUX + "requires:\n  |\n", {"diffusers", "offload-planner"}),
    "a LoRA": (FLUX + "loras:\n  - |\n", {"lora_id", "lora_scale", "adapter_name", "weight_name"}),
}


def offered(server: Server, text: str) -> set[str]:
    found = server.completions(text)
    twice = [label for label, times in Counter(found).items() if times > 1]
    assert not twice, f"offered twice: {twice}"
    assert not [label for label in found if "object" in label.lower() or label.startswith("{")]
    return {*found} - SKELETONS


@pytest.mark.parametrize("place", PLACES)
def test_what_is_offered(server: Server, place: str) -> None:
    text, expected = PLACES[place]
    assert offered(server, text) == expected


@pytest.mark.parametrize("cls", names()[::15])
def test_the_components_and_entry_points_of_a_class(server: Server, cls: str) -> None:
    target = find(cls)
    assert target is not None
    head = f"version: 1\npipeline: {cls}\n"
    entries = {f"{name}.{entry}" for name in target.modules for entry in target.components[name].entries}
    assert offered(server, head + "components:\n  |\n") == {*target.modules}
    assert offered(server, head + "order:\n  - |\n") == {*target.modules, *entries}


@pytest.mark.parametrize(
    "head",
    ["version: 1\n", "extends: x.plan.yaml\n", "version: 1\npipeline: MyOwn\n", "version: 1\npipeline:\n"],
)
def test_all_components_where_the_class_is_not_known(server: Server, head: str) -> None:
    everything = {name for cls in names() for name in getattr(find(cls), "modules", ())}
    assert offered(server, head + "components:\n  |\n") == everything
    assert {"unet", "vae.encode", "movq.decode"} < offered(server, head + "order:\n  - |\n")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_has_its_own_types_and_options(server: Server, name: str) -> None:
    backend = BACKENDS[name]
    selectors = {"required"} if name == "gguf" else SELECTORS
    kind = set() if name == "gguf" else {backend.type_key}
    keys = selectors | kind | {*backend.options}
    assert offered(server, RULE + f"backend: {name}\n    |\n") == keys
    assert offered(server, RULE + f"backend: {name}\n    {backend.type_key}: |\n") == {*backend.types}
    for format_ in backend.types:
        known = {k for k, option in backend.options.items() if not option.types or format_ in option.types}
        written = f"backend: {name}\n    {backend.type_key}: {format_}\n    |\n"
        assert offered(server, RULE + written) == selectors | known
    for key, option in backend.options.items():
        if isinstance(option.values, tuple):
            assert offered(server, RULE + f"backend: {name}\n    {key}: |\n") == {*option.values}


def test_arguments_of_the_call(server: Server) -> None:
    controlnet = "version: 1\npipeline: StableDiffusionXLControlNetImg2ImgPipeline\nrun:\n  |\n"
    found = offered(server, controlnet)
    assert {"prompt", "num_inference_steps", "seed", "strength", "control_image", "image"} <= found
    assert "num_frames" not in found
    wan = offered(server, "version: 1\npipeline: WanPipeline\nrun:\n  prompt: x\n  |\n")
    assert "num_frames" in wan
    assert not {"strength", "prompt"} & wan
    assert {"num_frames", "strength"} < offered(server, "version: 1\nrun:\n  |\n")


def test_keys_of_an_empty_file_and_of_a_plan(server: Server) -> None:
    found = server.completions("|")
    assert {"version", "extends", "pipeline", "run", "quantization"} < {*found}
    assert len(found) == len({*found})
    assert not {"version", "pipeline"} & offered(server, FLUX + "|")


def test_a_key_is_written_with_its_colon(server: Server) -> None:
    for text in (FLUX + "components:\n  |\n", FLUX + "run:\n  |\n", FLUX + "|"):
        for item in server.items(text):
            assert ":" in item["insertText"], item
