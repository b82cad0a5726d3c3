"""``--from module:function``: a user's own pipeline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.diagnostics.diagnostic import PlanError
from planner.loading.make import from_factory

GOOD = """
from diffusers import AutoencoderKL, DDPMScheduler, DDPMPipeline, UNet2DModel

def pipeline():
    unet = UNet2DModel(sample_size=8, block_out_channels=(4, 8), norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return DDPMPipeline(unet=unet, scheduler=DDPMScheduler())

def nothing():
    pass

def broken():
    raise RuntimeError("no weights\\nhere")

number = 3
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    before = set(sys.modules)
    (tmp_path / "my_factory.py").write_text(GOOD)
    (tmp_path / "my_syntax.py").write_text("def (")
    (tmp_path / "my_import.py").write_text("import not_installed_anywhere")
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_the_current_folder_is_searched() -> None:
    assert type(from_factory("my_factory:pipeline")).__name__ == "DDPMPipeline"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("my_factory.py", 'expected MODULE:NAME, found "my_factory.py" [P913 bad-factory]'),
        ("my_factory:", 'expected MODULE:NAME, found "my_factory:" [P913 bad-factory]'),
        ("no_such:f", 'no module "no_such" here or in the environment [P913 bad-factory]'),
        ("my_factory:pipelin", 'module "my_factory" has no "pipelin" [P913 bad-factory]'),
        ("my_factory:number", '"my_factory:number" is a "int", expected a function [P913 bad-factory]'),
        (
            "my_factory:nothing",
            '"my_factory:nothing" returned nothing, expected a loaded diffusers pipeline '
            "[P914 factory-failed]",
        ),
        (
            "my_factory:broken",
            '"my_factory:broken" raised RuntimeError: no weights here [P914 factory-failed]',
        ),
        (
            "my_import:f",
            'importing "my_import" raised ModuleNotFoundError: '
            "No module named 'not_installed_anywhere' [P914 factory-failed]",
        ),
    ],
)
def test_what_goes_wrong_is_said(spec: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        from_factory(spec)
    assert str(caught.value) == said


def test_a_near_miss_and_a_syntax_error() -> None:
    with pytest.raises(PlanError) as caught:
        from_factory("my_factory:pipelin")
    assert caught.value.diagnostics[0].hint == 'did you mean "pipeline"?'
    with pytest.raises(PlanError, match='importing "my_syntax" raised SyntaxError') as caught:
        from_factory("my_syntax:f")
    assert isinstance(caught.value.__cause__, SyntaxError)
