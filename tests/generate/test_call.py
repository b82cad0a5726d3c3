"""Every argument that diffusers documents is one that a plan may write."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest

from planner.document.read import document_of
from planner.generate.classes import pipeline_classes
from planner.generate.docs import documented
from planner.plan.build import build_plan
from planner.plan.model import Plan
from planner.plan.run import GIVEN, IMAGES, VIDEOS, check_run, writable
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.call import Form, read_call

PLAUSIBLE: dict[str, Any] = {
    "str": "a cat", "int": 16, "float": 0.5, "bool": True,
    "dict": {"scale": 0.5}, "image": "in.png", "any": "x",
}  # fmt: skip


def values_of(form: Form) -> list[Any]:
    if form.kind == "list":
        inner = [value for item in form.items for value in values_of(item)] if form.items else [1]
        return [[value] for value in inner]
    return [PLAUSIBLE[form.kind]] if form.kind in PLAUSIBLE else []


def plan_with(run: dict[str, Any]) -> Plan:
    document, _ = document_of(SourceText(name="x.plan.yaml", text="version: 1\npipeline: X\n"))
    assert document is not None
    plan, _ = build_plan(document)
    assert plan is not None
    return replace(plan, run=run)


def test_no_documented_argument_is_refused() -> None:
    """Its default, what the documentation calls its default, and a value of each form that it takes."""
    version, checked = metadata.version("diffusers"), 0
    if version not in catalogue.versions():
        pytest.skip(f"no catalogue ships for diffusers {version}")
    for cls in pipeline_classes():
        target = catalogue.find(cls.__name__, version)
        if target is None or target.call is None:
            continue
        parameters = inspect.signature(cls.__call__).parameters
        text = inspect.getdoc(cls.__call__) or ""
        said = documented(text)
        for name in [*said, *parameters]:
            argument = target.call.arguments.get(name)
            if name in ("self", "kwargs", *GIVEN, "seed"):
                continue
            assert argument is not None or (name not in parameters and not target.call.more), (cls, name)
            if argument is None or not writable(argument):
                continue
            values = [value for form in argument.forms for value in values_of(form)]
            if name in IMAGES | VIDEOS:
                values = ["in.png", ["in.png"]]
            default = parameters[name].default if name in parameters else None
            values += [default] if isinstance(default, (str, int, float, bool)) else []
            told = re.search(rf"^\s*{name} \([^\n]*defaults to `?\"?([\w.\-]+)\"?`?\)", text, re.MULTILINE)
            if told and name not in IMAGES | VIDEOS:
                with contextlib.suppress(ValueError, SyntaxError):
                    values.append(ast.literal_eval(told[1]))
            for value in values:
                found = check_run(plan_with({name: value}), target.call, cls.__name__)
                wrong = [d for d in found if d.code.name != "missing-argument"]
                assert wrong == [], (cls.__name__, name, value, wrong)
                checked += 1
    assert checked > 5000


@pytest.mark.parametrize(
    ("cls", "name", "forms"),
    [
        ("FluxPipeline", "prompt", "str | list[str]"),
        ("FluxPipeline", "height", "int"),
        ("StableDiffusionXLPipeline", "guidance_scale", "float"),
        ("StableDiffusionControlNetPipeline", "controlnet_conditioning_scale", "float | list[float]"),
        ("StableVideoDiffusionPipeline", "image", "list[image] | image | object"),
    ],
)
def test_forms_are_those_of_annotation_and_documentation(cls: str, name: str, forms: str) -> None:
    target = catalogue.find(cls)
    assert target is not None
    assert target.call is not None
    assert target.call.arguments[name].forms == read_call(f"x: {forms}").arguments["x"].forms


def test_what_kwargs_takes_is_known() -> None:
    target = catalogue.find("StableDiffusionPipeline")
    assert target is not None
    assert target.call is not None
    assert target.call.more
    assert not target.call.arguments["callback_steps"].named


def test_entries_of_a_docstring() -> None:
    said = documented(
        "Does it.\n\nArgs:\n    a (`int` or `list[int]`, *optional*, defaults to 1):\n"
        "        usually (not always) one\n    b: free\n    *c* (List[float]): x\n"
        "    d (`torch.Tensor` of shape (1, 2)): y\n\nReturns:\n    e (`int`): no"
    )
    assert said == {"a": ("int", "list[int]"), "b": (), "c": ("List[float]",), "d": ("torch.Tensor",)}


def test_texts_that_are_no_call() -> None:
    for text in ("a b", "a: [1]", "x)(", "a=b()"):
        with pytest.raises(ValueError, match=r".+"):
            read_call(text)
