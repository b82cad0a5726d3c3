"""Which classes tile and slice, by name, beside what the installed diffusers has."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from planner.generate.classes import pipeline_classes
from planner.target.vae_options import VAE_OPTIONS, may_have


def model_classes() -> dict[str, Any]:
    from diffusers.models.modeling_utils import ModelMixin

    pipeline_classes()  # imports every module with models of its own
    import diffusers

    for name in dir(diffusers):
        getattr(diffusers, name, None)
    found: dict[str, Any] = {}
    pending = [ModelMixin]
    while pending:
        below = [c for c in pending.pop().__subclasses__() if c.__module__.startswith("diffusers.")]
        found |= {c.__name__: c for c in below}
        pending += below
    return found


def has(cls: Any, option: str) -> bool:
    """Whether its source, or that of a class it is made from, has the setting that the mixin asks for."""
    own = [
        c for c in cls.__mro__ if c.__module__.startswith("diffusers.") and c.__name__ != "AutoencoderMixin"
    ]
    return hasattr(cls, f"enable_{option}") and any(
        f"self.use_{option} = " in inspect.getsource(c) for c in own
    )


@pytest.mark.parametrize("option", VAE_OPTIONS)
def test_the_names_say_what_diffusers_has(option: str) -> None:
    classes = model_classes()
    assert {name for name, cls in classes.items() if has(cls, option)} == {
        name for name in classes if may_have(option, [name])
    }
    assert len(classes) > 150


def test_of_classes_that_are_not_named_nothing_is_known() -> None:
    assert may_have("slicing", [])
    assert may_have("slicing", ["MyVAE"])
    assert may_have("slicing", ["VQModel", "AutoencoderKL"])
    assert not may_have("slicing", ["UNet2DConditionModel"])
