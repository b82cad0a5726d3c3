"""The schema that ships and this tool agree: on each file as it is written, and on what it merges to."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

import planner
from planner.diagnostics.codes import all_codes
from planner.diagnostics.table.p9_machine import BAD_ARGUMENT, MISSING_ARGUMENT, UNKNOWN_ARGUMENT
from planner.document.node import flatten
from planner.document.parse import parse
from planner.document.schema import SEEN, UNSEEN, schema_text
from planner.editor.arguments import DOCUMENTED
from planner.editor.classes import arguments_of, entries_of
from planner.editor.schema import editor_schema, schema_json
from planner.source.text import SourceText
from planner.target.catalogue import find, names

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))


def ecma(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """As editors read a pattern. Python's own ``$`` also stands before a last end of line."""
    ends = re.sub(r"\$$", r"\\Z", pattern)
    if isinstance(value, str) and not re.search(ends, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


OF_THE_CALL = (UNKNOWN_ARGUMENT, BAD_ARGUMENT, MISSING_ARGUMENT)
"""Codes of a class's own arguments, which a schema of all classes does not know."""

JUDGE = extend(Draft202012Validator, {"pattern": ecma})(json.loads(schema_text()))


def plain(path: Path) -> Any:
    node, _ = parse(SourceText(name=path.name, text=path.read_text(encoding="utf-8")))
    assert node is not None
    return flatten(node)[0]


WHOLE = {
    "version": 1,
    "name": "x",
    "requires": {"diffusers": ">=0.36"},
    "pipeline": {"class": "StableDiffusionXLPipeline", "dtype": "float16"},
    "device": "cuda:1",
    "budget": {"vram": "7GiB", "ram": "24GiB", "pinned": "16GiB", "leave_free": "5%"},
    "components": {"unet": {"policy": "stream", "resident": "50%", "prefetch": 2}, "vae": "resident"},
    "stages": [
        {"id": "prompt", "runs": ["text_encoder", "text_encoder_2"]},
        {"id": "denoise", "runs": ["unet"], "loop": "steps", "after": ["prompt"]},
        {"id": "out", "stages": [{"id": "decode", "runs": ["vae.decode"], "optional": True}], "loop": 2},
    ],
    "exclude": ["image_encoder"],
    "quantization": [
        {"component": "text_encoder_2", "backend": "bitsandbytes", "type": "nf4", "double_quant": True},
        {"component": "unet", "match": "attn1", "backend": "torchao", "type": "int8_weight_only"},
        {"component": "unet", "classes": ["Linear"], "backend": "layerwise_cast", "skip": ["norm"]},
    ],
    "loras": [{"lora_id": "ByteDance/Hyper-SD", "lora_scale": 0.5}],
    "semantics": "liveness",
    "idle": "keep",
    "run": {"prompt": "a cat", "seed": 0},
    "workload": {"batch": 2},
}
PART = {
    "extends": "base.plan.yaml",
    "budget": {"vram": None},
    "components": {"unet": None},
    "idle": "release",
}
BASE = {"extends": "base.plan.yaml"}
RULES = {
    "version": 1,
    "pipeline": "FluxPipeline",
    "components": {"transformer": {"source": "somebody/flux.gguf"}},
    "order": ["text_encoder", "text_encoder_2", "transformer", "vae.decode"],
    "quantization": [
        {"component": "text_encoder", "backend": "quanto", "type": "int8", "required": False},
        {"component": "text_encoder_2", "backend": "bitsandbytes", "type": "int8", "threshold": 6.0},
        {"component": "transformer", "backend": "gguf", "compute_dtype": "bfloat16"},
        {"component": "vae", "backend": "torchao", "type": "int4_weight_only", "group_size": 64},
    ],
    "run": {"prompt": "a cat", "height": 512, "negative_prompt": None},
}
SEEDS = [WHOLE, PART, RULES, *map(plain, PLANS)]

odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 10**7, float("nan"), "", " ", "x", "é", "a\n", "unet\u00a0", "a" * 5000),
        *("nf4", "int8", "float8_e4m3fn", "bfloat16", "quanto", "torchao", "gguf", "FluxPipeline", "Own"),
        *("11", "11gb", "９GiB", "101%", "0%", "steps", "stream", "unet -> vae"),
        *([], {}, [None], {"x": None}, [1], ["unet"], ["unet", "unet"], [[]]),
        *({"class": None}, {"policy": "stream"}, [{"id": "a", "runs": ["unet"]}]),
    ]
)
words = st.sampled_from(
    [
        *(*WHOLE, *PART, "extends", "unet", "vae", "x", "policy", "id", "runs", "stages", "loop"),
        *("type", "threshold", "group_size", "compute_dtype", "double_quant", "match", "storage_dtype"),
    ]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        found += places(child, (*at, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A plan with up to three places replaced, removed or added."""
    plan = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 3))):
        *above, key = draw(st.sampled_from([p for p in places(plan) if p] or [("version",)]))
        parent: Any = plan
        for step in above:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "replace" or (how == "remove" and isinstance(parent, list)):
            parent[key] = copy.deepcopy(draw(odd))
        elif how == "remove":
            parent.pop(key)
        elif isinstance(parent, dict):
            parent[draw(words)] = copy.deepcopy(draw(odd))
    return plan


def written(folder: Path, said: Any) -> Path:
    path = folder / "x.plan.yaml"
    path.write_text(json.dumps(said).replace("NaN", ".nan"), encoding="utf-8")
    (folder / "base.plan.yaml").write_text(json.dumps(WHOLE), encoding="utf-8")
    return path


@settings(max_examples=300)
@given(said=mutated())
def test_the_schema_and_the_tool_agree_on_every_file(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any]
) -> None:
    path = written(tmp_path_factory.mktemp("law"), said)
    result = planner.validate(path)
    rejected = [error.message for error in JUDGE.iter_errors(plain(path))]
    codes = {d.code for d in result.errors}
    assert not (result and rejected), rejected
    if not rejected and not result:
        # What no schema sees of one file: other files, and what merges to something that is not whole.
        merged = "extends" in said
        assert codes <= {*UNSEEN, *OF_THE_CALL, *(SEEN if merged else ())}, [str(d) for d in result.errors]


@cache
def narrowed(cls: str) -> Any:
    return extend(Draft202012Validator, {"pattern": ecma})(editor_schema(find(cls)))


@settings(max_examples=300)
@given(said=mutated())
def test_a_schema_of_one_class_takes_what_the_tool_takes(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any]
) -> None:
    pipeline = said.get("pipeline")
    cls = pipeline.get("class") if isinstance(pipeline, dict) else pipeline
    if "requires" in said or not isinstance(cls, str) or find(cls) is None:
        return
    path = written(tmp_path_factory.mktemp("law"), said)
    rejected = [error.message for error in narrowed(cls).iter_errors(plain(path))]
    assert not (rejected and planner.validate(path)), rejected


@pytest.mark.parametrize("cls", names()[::20])
def test_a_class_with_all_that_it_has(cls: str, tmp_path: Path) -> None:
    target = find(cls)
    assert target is not None
    uses = [*target.modules, *entries_of(target)]
    said = {
        "version": 1,
        "pipeline": cls,
        "components": dict.fromkeys(target.modules, "offload"),
        "order": uses,
        "quantization": [
            {"component": name, "backend": "layerwise_cast", "required": False} for name in target.modules
        ],
        "run": {"seed": 0, **{a: None for a in arguments_of(target) if a in DOCUMENTED}},
    }
    path = written(tmp_path, said)
    for judge in (JUDGE, narrowed(cls)):
        assert not [*judge.iter_errors(plain(path))]


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        (BASE, True),
        ({**BASE, "version": 1, "idle": None}, True),
        ({**BASE, "components": {"unet": {"resident": None, "prefetch": None}}}, True),
        (
            {"extends": "base.plan.yaml", "stages": None, "order": "text_encoder -> text_encoder_2 -> unet"},
            True,
        ),
        ({**BASE, "requires": {"diffusers": None}, "run": None, "workload": None}, True),
        ({**BASE, "pipeline": {"dtype": "bfloat16"}, "budget": None}, True),
        ({**BASE, "budget": {"vrm": None}}, False),
        ({**BASE, "stages": [{"id": "a", "runs": None}]}, False),
        ({**BASE, "order": "unet", "stages": [{"id": "a", "runs": ["unet"]}]}, False),
        ({"extends": None, **WHOLE}, False),
        ({**WHOLE, "budget": None}, False),
        ({"version": 1}, False),
    ],
)
def test_parts_and_wholes(tmp_path: Path, said: Any, accepted: bool) -> None:
    path = written(tmp_path, said)
    result = planner.validate(path)
    assert bool(result) is accepted, [str(d) for d in result.errors]
    assert JUDGE.is_valid(said) is accepted


def test_a_part_that_merges_to_no_plan_is_ours_to_find(tmp_path: Path) -> None:
    said = {"extends": "base.plan.yaml", "pipeline": None}
    result = planner.validate(written(tmp_path, said))
    assert JUDGE.is_valid(said)
    assert [d.code.name for d in result.errors] == ["missing-key"]


def test_a_fault_of_the_base_that_a_part_takes_away_is_one(tmp_path: Path) -> None:
    path = written(tmp_path, {"extends": "base.plan.yaml", "budget": None})
    (tmp_path / "base.plan.yaml").write_text("version: 1\npipeline: FluxPipeline\nbudget: {vrm: 1GiB}\n")
    (problem,) = planner.validate(path).errors
    assert problem.code.name == "unknown-key"
    assert problem.span is not None
    assert Path(problem.span.file).name == "base.plan.yaml"


def test_what_is_set_is_judged_as_what_is_written(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    for override, code in (("budget.vrm=1GiB", "unknown-key"), ("idle=kept", "wrong-value")):
        assert [d.code.name for d in planner.validate(path, overrides=[override]).errors] == [code]
    assert planner.validate(path, overrides=["budget={vram: null, ram: 30GiB}"])


def test_every_code_is_seen_or_not() -> None:
    assert not {*SEEN} & {*UNSEEN}
    front = {code for code in all_codes().values() if code.id[1] in "1246" or code.id[:2] == "P3"}
    assert front == {*SEEN, *UNSEEN}


def test_what_ships_is_what_is_written_here() -> None:
    assert schema_text() == schema_json(), "run python -m planner.editor"


@pytest.mark.skipif(shutil.which("check-jsonschema") is None, reason="no check-jsonschema")
def test_another_checker_takes_the_plans_that_ship(tmp_path: Path) -> None:
    schema = tmp_path / "plan.v1.schema.json"
    schema.write_text(schema_text(), encoding="utf-8")
    command = ["check-jsonschema", "--schemafile", str(schema)]
    done = subprocess.run([*command, *map(str, PLANS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    bad = written(tmp_path, {**WHOLE, "budget": {"vram": 11}})
    assert subprocess.run([*command, str(bad)], capture_output=True, check=False).returncode == 1
