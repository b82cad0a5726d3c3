"""What the sequences of diffusers' own classes leave unsaid, each under its code."""

from __future__ import annotations

import pytest

from planner.target import catalogue
from planner.translation.lint import NEVER_FREE, lint


@pytest.mark.parametrize("cls", sorted(NEVER_FREE))
def test_classes_that_never_free_their_hooks(cls: str) -> None:
    target = catalogue.find(cls)
    if target is not None:
        assert "never-frees-its-hooks" in [d.code.name for d in lint(target)]


def test_what_is_outside_the_chain() -> None:
    target = catalogue.find("StableDiffusionXLControlNetPipeline")
    assert target is not None
    found = [d for d in lint(target) if d.code.name == "outside-the-chain"]
    assert any('"controlnet"' in d.message for d in found)
    assert not any('"unet"' in d.message for d in found)
