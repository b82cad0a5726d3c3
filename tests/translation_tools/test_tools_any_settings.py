"""Whatever settings are given: a plan that the checker takes, or errors of the table; never a traceback."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.diagnostics.diagnostic import errors
from planner.diagnostics.machine import as_json
from planner.diagnostics.render import text
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.convert import TOOLS, from_tool
from planner.translation.tools.model import WRONG

CLASSES = ("StableDiffusionXLPipeline", "FluxPipeline", "WanPipeline", "StableDiffusionPipeline")

WORDS = [
    *("cuda", "cuda:1", "xpu:0", "mps", "cpu", "disk", "gpu", "balanced", "auto"),
    *("block_level", "leaf_level", "resident", "component-offload", "layerwise-offload", "speed"),
    *("transformer", "unet", "vae", "text_encoder", "text_encoder_2", "scheduler", "dit", "all", "*", ""),
    *("transformer.blocks.0", "vae.decoder", "50%", "100%", "0%", "3GB", "3Gb", "2.5GiB", "9" * 50 + "GB"),
    *("module", "layer", "rank-local", "allgather", "qint8", "null", "a # plan: ignore[P302]", "a\nb: c"),
    *("vae=resident", "all=component-offload dit=layerwise-offload", "\ud800", "\x1b[2J", "x: {y"),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 8),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)
targets = st.sampled_from([t for cls in CLASSES if (t := catalogue.find(cls, "0.42.1")) is not None])
ONE_RUN = settings(max_examples=60)


def check(tool: str, given_settings: Any, target: Target) -> bool:
    """Whether a plan was made."""
    made, found = from_tool(tool, given_settings, target)
    assert (made == "") == bool(errors(found))
    assert all("P850" <= d.code.id <= "P899" for d in found)
    text(found)
    as_json(found).encode()
    if not made:
        return False
    assert from_tool(tool, given_settings, target) == (made, found)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "made.plan.yaml"
        place.write_text(made, encoding="utf-8")
        result = planner.validate(place)
    assert result.errors == (), made
    assert "unused-ignore" not in {d.code.name for d in result.diagnostics}
    assert result.plan is not None
    assert result.plan.pipeline.cls == target.cls
    return True


POOL: list[Any] = [
    *WORDS,
    *(True, False, None, 0, 1, 2, 5, 3000, 0.5, 0.8, 2.5),
    *(["vae"], ["transformer", "vae"], ["dit", "text_encoder"], ["vae=resident"]),
    *({"*": 3000}, {"transformer": 1200, "vae": "50%"}, {0: "10GB", "cpu": "30GB"}, {"": 0, "vae": "cpu"}),
    *({"dit": {"resident_layers": 3}}, {"mode": "layer", "components": ["dit"]}, {"all": "resident"}),
    {"mode": "module", "components": ["dit", "vae", "text_encoder"], "pin_memory": False},
    {"mode": "layer", "components": ["dit"], "layer_options": {"dit": {"resident_layers": 3}}},
]
BASES: dict[str, dict[str, Any]] = {
    "group-offload": {"onload_device": "cuda", "offload_type": "leaf_level"},
    "device-map": {"device_map": 0},
}
"""What a tool refuses to go without."""


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_settings_of_the_right_kinds(tool: str) -> None:
    taken = {
        setting.name: st.sampled_from([v for v in POOL if setting.kind.read(v) is not WRONG])
        for setting in TOOLS[tool].settings
    }
    made = []

    @ONE_RUN
    @given(given_settings=st.fixed_dictionaries({}, optional=taken), target=targets)
    def law(given_settings: dict[str, Any], target: Target) -> None:
        made.append(check(tool, {**BASES.get(tool, {}), **given_settings}, target))

    law()
    assert any(made)  # the law is not about refusals alone


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_settings_of_the_right_names(tool: str) -> None:
    names = [setting.name for setting in TOOLS[tool].settings]

    @ONE_RUN
    @given(given_settings=st.dictionaries(st.sampled_from(names), values, max_size=4), target=targets)
    def law(given_settings: dict[str, Any], target: Target) -> None:
        check(tool, given_settings, target)

    law()


@ONE_RUN
@given(tool=st.sampled_from(sorted(TOOLS)), given_settings=values, target=targets)
def test_any_settings(tool: str, given_settings: Any, target: Target) -> None:
    check(tool, given_settings, target)


@ONE_RUN
@given(
    tool=st.sampled_from(sorted(TOOLS)),
    written=st.one_of(
        st.text(),
        values.map(lambda value: json.dumps(value, allow_nan=True)),
        st.text(alphabet="ab()[]{}:,=*'\"1-# \n").map(lambda inner: f"f({inner})"),
    ),
    target=targets,
)
def test_any_text(tool: str, written: str, target: Target) -> None:
    check(tool, written, target)


PLACES = st.sampled_from(["cpu", "disk", 0, 1, "cuda", "cuda:1", "xpu:0"])
PARTS = st.sampled_from(
    ["", "vae", "vae.decoder", "text_encoder", "transformer", "transformer.a", "transformer.b", "unet.a", "x"]
)


@ONE_RUN
@given(places=st.dictionaries(PARTS, PLACES, min_size=1), target=targets)
def test_any_device_map(places: dict[str, Any], target: Target) -> None:
    """What the map puts on its first card whole is resident, what it puts whole elsewhere is not."""
    made, found = from_tool("device-map", places, target)
    if errors(found):
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "made.plan.yaml"
        place.write_text(made, encoding="utf-8")
        plan = planner.load(place)
    names = {"cuda": "cuda:0", 0: "cuda:0", 1: "cuda:1"}
    cards = [names.get(p, p) for p in places.values() if p not in ("cpu", "disk")]
    assert plan.device == (cards[0] if cards else "auto")
    for name in target.modules:
        at = places.get(name, places.get(""))
        if at is None or any(key.startswith(f"{name}.") for key in places):
            continue
        said = plan.components[name].policy
        assert said is not None
        assert said.value == ("resident" if names.get(at, at) in cards[:1] else "offload")
