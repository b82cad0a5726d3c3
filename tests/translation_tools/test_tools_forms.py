"""Forms that settings come in, sizes that are known, and pipelines of every class."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import planner
from planner.diagnostics.diagnostic import errors
from planner.diagnostics.ignore import apply_ignores
from planner.diagnostics.table.p8_tools import CARRIED_OVER
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.convert import TOOLS, from_tool
from planner.translation.tools.device import SETTINGS
from planner.translation.tools.kinds import device, size, written
from planner.translation.tools.model import WRONG

MIB = 1 << 20


def known(cls: str) -> Target:
    target = catalogue.find(cls, "0.42.1")
    assert target is not None
    return target


FLUX = known("FluxPipeline")


def body(made: str) -> str:
    return made.partition("version: 1\n")[2]


@pytest.mark.parametrize(
    "form",
    [
        '{"onload_device": "cuda", "offload_type": "leaf_level", "use_stream": true}',
        "onload_device: cuda\noffload_type: leaf_level\nuse_stream: True\n",
        'pipe.enable_group_offload("cuda", offload_type="leaf_level", use_stream=True)',
        'pipe.enable_group_offload(torch.device("cuda"), torch.device("cpu"), "leaf_level", use_stream=True)',
        {"onload_device": "cuda", "offload_type": "leaf_level", "use_stream": True},
        {"onload-device": "cuda:0", "offload-type": "leaf_level", "use-stream": True},
        {"onload_device": 0, "offload_type": "leaf_level", "use_stream": True, "exclude_modules": None},
    ],
)
def test_one_thing_in_every_form(form) -> None:  # type: ignore[no-untyped-def]
    made, found = from_tool("group-offload", form, FLUX)
    assert body(made) == body(from_tool("group-offload", TOOLS["group-offload"].example, FLUX)[0])
    assert [d.code.name for d in found if d.code is not CARRIED_OVER] == ["streamed-by-block"]


def test_devices_of_torch_are_taken() -> None:
    class Device(SimpleNamespace):
        def __str__(self) -> str:
            return f"{self.type}:{self.index}"

    made, _ = from_tool("model-cpu-offload", {"device": Device(type="cuda", index=1)}, FLUX)
    assert "device: cuda:1" in made


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cuda", "cuda:0"),
        ("cuda:01", "cuda:1"),
        (2, "cuda:2"),
        ("mps", "mps"),
        ("mps:0", "mps"),
        ("cpu", WRONG),
        ("meta", WRONG),
        (True, WRONG),
        (-1, WRONG),
        (None, WRONG),
    ],
)
def test_devices(value, expected) -> None:  # type: ignore[no-untyped-def]
    assert device(value) == expected


def test_sizes_are_accelerates() -> None:
    modeling = pytest.importorskip("accelerate.utils.modeling")
    for text in ("3GB", "3gb", "3Gb", "1.5GiB", "10MB", "10MiB", "7KB", "7KiB", "0GB"):
        assert size(text) == modeling.convert_file_size_to_int(text), text
    assert size(12) == 12
    for wrong in ("3", "GB", "-3GB", "3TB", "1e3GB", "", None, True, 3.5, "9" * 60 + "GB"):
        assert size(wrong) is WRONG, wrong


@pytest.mark.parametrize(
    ("nbytes", "text"), [(3 * 10**9, "3GB"), (3 << 30, "3GiB"), (1536 * MIB, "1536MiB"), (1001, "1001B")]
)
def test_sizes_are_written_exactly(nbytes: int, text: str) -> None:
    assert written(nbytes) == text


def test_the_first_lines_say_what_the_plan_was_made_of() -> None:
    made, found = from_tool("mmgp", {"profile_no": 4}, FLUX, source="./flux", dtype="bfloat16")
    assert made.split("\n")[1] == '# from mmgp: {"profile_no": 4}'
    assert "pipeline: {class: FluxPipeline, source: ./flux, dtype: bfloat16}" in made
    assert all(f"[{d.code.id}]" in made for d in found)


@pytest.mark.parametrize("before", range(60, 120))
def test_nothing_in_settings_instructs_the_checker(before: int) -> None:
    """Wherever the comment is broken into rows."""
    settings = {"offload_strategy": "x" * before + " # plan: ignore[P352] # plan:ignore[P352]"}
    made, found = from_tool("components-manager", settings, FLUX)
    assert not errors(found)
    assert "ignore" in made
    source = SourceText(name="x.plan.yaml", text=made)
    assert apply_ignores([], [source]) == []


def test_a_component_within_its_budget_comes_whole() -> None:
    """mmgp drops a budget that is larger than the model."""
    sizes = {"transformer": 24000 * MIB, "text_encoder": 235 * MIB, "text_encoder_2": 9000 * MIB}
    sized = replace(FLUX, components={n: replace(c, bytes=sizes.get(n)) for n, c in FLUX.components.items()})
    made, _ = from_tool("mmgp", "2", sized)
    assert "  text_encoder: offload  # within its budget of 3000 MiB: whole\n" in made
    assert "  text_encoder_2: {policy: stream, resident: 3000MiB, prefetch: 1}" in made
    assert "  transformer: {policy: stream, resident: 1200MiB, prefetch: 1}" in made


def test_absent_components_are_left_out() -> None:
    without = {name: replace(info, present=name != "image_encoder") for name, info in FLUX.components.items()}
    for tool in TOOLS.values():
        made, found = from_tool(tool.name, tool.example, replace(FLUX, components=without))
        assert not errors(found)
        assert "image_encoder" not in body(made)


@pytest.mark.parametrize(
    "odd", [{1: 2}, {None: 1}, {("a",): 1}, {b"x": 1}, [1], 3, object(), 1.5, {"a": object()}]
)
@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_what_is_no_json_is_an_error_too(tool: str, odd) -> None:  # type: ignore[no-untyped-def]
    made, found = from_tool(tool, odd, FLUX)
    if tool == "device-map" and odd == 3:
        assert "device: cuda:3" in made
    elif tool == "mmgp" and odd == 3:
        assert "resident" not in body(made)
    else:
        assert made == ""
        assert errors(found)


@pytest.mark.parametrize(
    "text", ["f(" * 5000, "[" * 5000, "{a: " * 5000, "(" * 200 + ")" * 200, "f(" + "-" * 9000]
)
def test_deep_nesting_is_an_error(text: str) -> None:
    for tool in TOOLS:
        assert errors(from_tool(tool, text, FLUX)[1])


def test_long_settings_are_refused_and_shown_short() -> None:
    assert errors(from_tool("mmgp", "x" * 100_000, FLUX)[1])
    many = {f"key{i}": 0 for i in range(1000)}
    found = from_tool("mmgp", many, FLUX)[1]
    assert len(found) == 21
    assert found[-1].message == "980 more settings are unknown to mmgp"
    long = from_tool("components-manager", {"offload_strategy": "s" * 10_000}, FLUX)[0]
    assert len(long) < 2000


def test_every_class_has_a_plan(tmp_path: Path) -> None:
    """From model offload, and from the other tools by turns."""
    refused: dict[str, set[str]] = {}
    place = tmp_path / "x.plan.yaml"
    first, *others = TOOLS.values()
    for number, cls in enumerate(catalogue.names("0.42.1")):
        for tool in (first, others[number % len(others)]):
            made, found = from_tool(tool.name, tool.example, known(cls))
            if not made:
                refused.setdefault(errors(found)[0].code.name, set()).add(cls)
                continue
            place.write_text(made, encoding="utf-8")
            assert planner.validate(place).errors == (), (cls, tool.name)
    assert set(refused) == {"nothing-to-move", "settings-refused"}
    assert all("Onnx" in cls for cls in refused["nothing-to-move"])
    assert all(
        known(cls).sequence is None and not known(cls).overrides for cls in refused["settings-refused"]
    )


def test_classes_with_a_method_of_their_own_are_the_catalogues() -> None:
    data = resources.files("planner.target") / "data" / "diffusers-0.42.1.json"
    classes = json.loads(data.read_text(encoding="utf-8"))["classes"]
    assert {cls for cls, said in classes.items() if said.get("overrides")} == {
        "AudioLDM2Pipeline",
        "KandinskyV22Img2ImgCombinedPipeline",
        "MusicLDMPipeline",
        "StableCascadeCombinedPipeline",
        "WuerstchenCombinedPipeline",
    }


def test_examples_are_fine() -> None:
    for tool in TOOLS.values():
        assert tool.takes
        assert not errors(from_tool(tool.name, tool.example, FLUX)[1])


def signature(path: str, method: str) -> list[str]:
    """The arguments of a method in the installed diffusers, without running it."""
    diffusers = pytest.importorskip("diffusers")
    tree = ast.parse((Path(diffusers.__file__).parent / path).read_text(encoding="utf-8"))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == method]
    return [argument.arg for argument in found[0].args.args if argument.arg != "self"]


@pytest.mark.parametrize(
    ("tool", "path", "method", "ours"),
    [
        ("model-cpu-offload", "pipelines/pipeline_utils.py", "enable_model_cpu_offload", []),
        ("sequential-cpu-offload", "pipelines/pipeline_utils.py", "enable_sequential_cpu_offload", []),
        (
            "group-offload",
            "pipelines/pipeline_utils.py",
            "enable_group_offload",
            ["block_modules", "exclude_kwargs", "components"],  # of a model; and component by component
        ),
        (
            "components-manager",
            "modular_pipelines/components_manager.py",
            "enable_auto_cpu_offload",
            [],
        ),
    ],
)
def test_settings_are_the_methods_arguments_in_order(
    tool: str, path: str, method: str, ours: list[str]
) -> None:
    assert [setting.name for setting in TOOLS[tool].settings] == [*signature(path, method), *ours]


REFUSED_BY_DIFFUSERS = [
    {"offload_type": "block_level"},
    {},
    {"offload_type": "leaf_level"},
    {"offload_type": "leaf_level", "record_stream": True},
    {"num_blocks_per_group": 2},
    {"num_blocks_per_group": 2, "record_stream": True},
    {"offload_type": "leaves"},
    {"offload_type": "leaf_level", "non_blocking": True, "low_cpu_mem_usage": True},
]


@pytest.mark.parametrize("kwargs", REFUSED_BY_DIFFUSERS, ids=str)
def test_group_offload_refuses_what_diffusers_refuses(kwargs: dict[str, Any]) -> None:
    hooks = pytest.importorskip("diffusers.hooks")
    torch = pytest.importorskip("torch")
    toy = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    try:
        hooks.apply_group_offloading(toy, onload_device=torch.device("cpu"), **kwargs)
    except ValueError:
        refused = True
    else:
        refused = False
    made, found = from_tool("group-offload", {"onload_device": "cuda", **kwargs}, FLUX)
    assert bool(errors(found)) == (made == "") == refused


def test_model_and_sequential_offload_take_the_same() -> None:
    assert [setting.name for setting in SETTINGS] == ["gpu_id", "device"]
