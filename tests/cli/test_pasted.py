"""What people hand to ``plan translate``, and what it says of what it cannot read: never its whole text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import planner
from planner.cli.main import run

SCRIPT = """\
import torch
from diffusers import FluxPipeline
pipe = FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", torch_dtype=torch.bfloat16)
pipe.enable_model_cpu_offload()
"""
PLAN = "version: 1\npipeline: FluxPipeline\n"
CELLS = [
    {"cell_type": "markdown", "source": ["pipe.to('cpu')"]},
    {"cell_type": "code", "source": SCRIPT.splitlines(keepends=True)[:2]},
    {"cell_type": "code", "source": "".join(SCRIPT.splitlines(keepends=True)[2:])},
    {"cell_type": "code", "source": ["!pip install diffusers\n", "%matplotlib inline"]},
    {"cell_type": "code"},
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(capsys: Any, *arguments: str) -> str:
    """What is made, without the comments of its head."""
    assert run(["translate", *arguments]) == 0
    out: str = capsys.readouterr().out
    return out.partition("version: 1")[2]


def refused(capsys: Any, *arguments: str) -> str:
    """The findings, which are errors."""
    assert run(["translate", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return str(err)


@pytest.mark.parametrize(
    "data",
    [
        SCRIPT.encode("utf-8-sig"),
        SCRIPT.replace("\n", "\r\n").encode(),
        ("# coding: latin-1\n# é\n" + SCRIPT).encode("latin-1"),
    ],
)
def test_a_script_in_every_form_that_python_reads(data: bytes, capsys: Any) -> None:
    plain = plan_of(capsys, SCRIPT)
    Path("x.py").write_bytes(data)
    assert plan_of(capsys, "x.py") == plain


def test_the_code_of_a_notebook(capsys: Any) -> None:
    plain = plan_of(capsys, SCRIPT)
    Path("x.ipynb").write_text(json.dumps({"cells": CELLS, "nbformat": 4}))
    assert plan_of(capsys, "x.ipynb") == plain


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"cells": 3}', "{", "[" * 100_000])
def test_what_is_no_notebook(text: str, capsys: Any) -> None:
    Path("x.ipynb").write_text(text)
    assert run(["translate", "x.ipynb"]) == 2
    assert "x.ipynb cannot be read" in capsys.readouterr().err


def test_an_index_is_its_folder(capsys: Any) -> None:
    Path("sdxl").mkdir()
    index = {"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    Path("sdxl/model_index.json").write_text(json.dumps(index))
    assert run(["translate", "sdxl"]) == run(["translate", "sdxl/model_index.json"])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("pipe = FluxPipeline.from_pretrained('a'\n", "was never closed"),
        ("if True:\n\tx = 1\n        y = f()\n", "tabs and spaces"),
        ('print "x"\n', "Missing parentheses"),
    ],
)
def test_a_script_that_does_not_parse_says_where(script: str, said: str, capsys: Any) -> None:
    Path("x.py").write_text(script)
    found = refused(capsys, "x.py")
    assert found.startswith("x.py:")
    assert said in found
    assert "P851" in found


@pytest.mark.parametrize("name", ["nope.py", "./nope", "../nope/x.ipynb", "nope.yaml", "~/nope.plan.yaml"])
def test_a_file_that_is_not_there(name: str, capsys: Any) -> None:
    found = refused(capsys, name)
    assert f'"{name}" is no file or folder here' in found
    assert "P360" in found


def test_of_a_file_that_is_not_there_the_nearest_is_offered(capsys: Any) -> None:
    Path("flux.py").write_text(SCRIPT)
    assert 'did you mean "flux.py"?' in refused(capsys, "./flx.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAN, "is a plan already"),
        ("compute_environment: LOCAL_MACHINE\nmixed_precision: bf16\n", "is neither"),
        ('{"3": {"class_type": "KSampler"}}', "is neither"),
        ("some prose, of more\nthan one line\n", "is neither"),
        ("", "is empty"),
    ],
)
@pytest.mark.parametrize("named", [(), ("--class", "FluxPipeline")])
def test_a_file_of_something_else(text: str, said: str, named: tuple[str, ...], capsys: Any) -> None:
    Path("x.txt").write_text(text)
    found = refused(capsys, "x.txt", *named)
    assert f'"x.txt" {said}' in found
    assert "P851" in found
    assert not text or text.strip() not in found


@pytest.mark.parametrize(
    "text",
    ["python main.py --lowvram", "low_vram: true", "device_map=balanced", '{"device_map": "balanced"}', " "],
)
@pytest.mark.parametrize("named", [(), ("--class", "FluxPipeline")])
def test_settings_that_do_not_show_whose_they_are(text: str, named: tuple[str, ...], capsys: Any) -> None:
    assert "P851" in refused(capsys, *named, "--", text)


def test_a_hub_id_is_what_fit_takes(capsys: Any) -> None:
    assert "plan fit black-forest-labs/FLUX.1-dev" in refused(capsys, "black-forest-labs/FLUX.1-dev")


@pytest.mark.parametrize("between", ["→", " → ", "=>", ",", ", ", " ", ";", " > ", "|"])
def test_a_sequence_with_other_separators(between: str, capsys: Any) -> None:
    names = ["text_encoder", "unet", "vae"]
    found = refused(capsys, between.join(names), "--class", "StableDiffusionPipeline")
    assert "P801" in found
    assert f'"{"->".join(names)}"' in found


@settings(max_examples=150)
@given(text=st.text() | st.text("ab_-> \n.:{}[]()='\"/\\#,"), named=st.booleans())
def test_any_text(text: str, named: bool) -> None:
    assume(text != "-")
    arguments = ["--class", "FluxPipeline"] * named
    assert run(["translate", *arguments, "--", text]) in (0, 1, 2)


@pytest.mark.parametrize(
    ("cls", "hint"),
    [
        ("black-forest-labs/FLUX.1-dev", "{class: DiffusionPipeline, source: black-forest-labs/FLUX.1-dev}"),
        ("./sdxl", "{class: DiffusionPipeline, source: ./sdxl}"),
        ("diffusers.FluxPipeline", 'did you mean "FluxPipeline"?'),
        ("FluxPipeline()", 'did you mean "FluxPipeline"?'),
        ("FluxPipeline.from_pretrained", 'did you mean "FluxPipeline"?'),
        ("Stable Diffusion XL", 'did you mean "StableDiffusionXLPipeline"?'),
        ("my pipeline", "a class has a name such as FluxPipeline"),
        ("1", "a class has a name such as FluxPipeline"),
    ],
)
@pytest.mark.parametrize("order", ["", "order: a -> b\n"])
def test_what_no_class_can_be_called_is_an_error_whatever_else_is_said(
    cls: str, hint: str, order: str
) -> None:
    Path("x.plan.yaml").write_text(f"version: 1\npipeline: {{class: '{cls}'}}\n{order}")
    (found,) = planner.validate("x.plan.yaml").errors
    assert found.code.id == "P351"
    assert hint in found.hint
