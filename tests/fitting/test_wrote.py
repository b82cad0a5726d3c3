"""What a fit wrote is taken out again to the byte, and what was changed by hand stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.fitting.choices import Settings
from planner.fitting.draft import edited
from planner.fitting.edit import with_comment, with_head, with_value
from planner.fitting.wrote import marks_of, without_fit
from planner.source.text import SourceText

from .test_edit import ODD, PLANS, texts, values_of

MORE = (
    "version: 1\npipeline: A\ncomponents:\n  # vae: {tiling: on}\n",
    "version: 1\npipeline: A\ncomponents: ~\nidle:",
    "version: 1\npipeline: A\ncomponents: { }  \t# none\nrun: {}",
    "version: 1\npipeline: {class: A, dtype: float32,}\ncomponents: {unet: {}, vae: 'stream', }\n",
    "version: 1\npipeline: A\ncomponents:\n  unet:\n    policy: stream  # why\n  vae: {tiling: off}",
    "{version: 1, pipeline: A, components: {}}",
    '{"version":1,"pipeline":"A","components":{"unet":"stream"}}\n',
    "{version: 1, pipeline: A, components: {unet: , vae: {tiling: on,}}, }\n",
    "version: 1\npipeline: A\nquantization: []\n\n\n# the end",
    "version: 1\npipeline: A\nquantization: [\n]\t \n",
)
CHOSEN = st.lists(
    st.sampled_from([
        ("components.unet.policy", "stream"),
        ("components.unet.resident", "9MiB"),
        ("components.vae.policy", "resident"),
        ("components.vae.tiling", "on"),
        ("components.text_encoder.policy", "offload"),
        ("components.text_encoder.resident", "1MiB"),
        ("idle", "keep"),
        ("pipeline.dtype", "bfloat16"),
        ("quantization", "[{component: unet, backend: layerwise_cast}]"),
    ]),
    unique_by=lambda one: one[0],
    min_size=1,
)  # fmt: skip


def fitted(text: str, chosen: Settings) -> str:
    """As ``plan fit`` writes ``chosen`` into ``text``."""
    made, marks = text, marks_of(text, chosen)
    for key, value in chosen:
        made = with_value(made, key.split("."), value, f"{key}: why")
    made = with_comment(made, ("components", "elsewhere"), "elsewhere: left")
    return with_head(made, ("head", *marks))


@settings(max_examples=300)
@given(st.one_of(texts(), st.sampled_from([*MORE, *ODD.values()])), CHOSEN)
def test_what_was_written_is_taken_out_to_the_byte(text: str, chosen: list[tuple[str, str]]) -> None:
    short = {name for name, one in (values_of(text).get("components") or {}).items() if isinstance(one, str)}
    assume(not any(key in {f"components.{name}.policy" for name in short} for key, _ in chosen))
    made = fitted(text, tuple(chosen))
    try:
        said = values_of(made)
    except AssertionError:
        assume(False)  # P997, and nothing is written
    for key, value in chosen:  # such as an alias, or a text that ends with the file
        inner = said
        for name in key.split("."):
            inner = inner.get(name) if isinstance(inner, dict) else None
        assume(inner == values_of(value))
    assert without_fit(made).text == text


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_plans_that_ship(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "# fit:" not in text:
        chosen = (("components.vae.policy", "stream"), ("components.vae.resident", "1MiB"), ("idle", "keep"))
        assert without_fit(fitted(text, chosen)).text == text


PLAIN = "version: 1\npipeline: A\ncomponents:\n  vae: stream  # mine\n"
ALL = (("components.vae.resident", "9MiB"), ("components.unet.policy", "stream"), ("idle", "keep"))


@pytest.mark.parametrize(
    ("was", "by_hand", "kept"),
    [
        ("idle: keep", "idle: release", "idle: release\n"),
        ("resident: 9MiB", "resident: 12MiB", "  vae: {policy: stream, resident: 12MiB}  # mine\n"),
        ("unet: {policy: stream}", "unet: {policy: offload}", "  unet: {policy: offload}\n"),
        ("idle: keep\n", "idle: keep  # servers\n", "idle: keep  # servers\n"),
        ("unet: {policy: stream}", "unet: {policy: stream, tiling: on}", "  unet: {tiling: on}\n"),
        (
            "unet: {policy: stream}",
            "unet: {policy: stream, prefetch: 2}",
            "  unet: {policy: stream, prefetch: 2}\n",
        ),
    ],
)
def test_what_was_changed_by_hand_stays(was: str, by_hand: str, kept: str) -> None:
    made = fitted(PLAIN, ALL)
    assert made.count(was) - made.splitlines()[1].count(was) == 1
    head, rest = made.split("version: 1", 1)
    changed = f"{head}version: 1{rest.replace(was, by_hand)}"
    found = without_fit(changed).text
    assert kept in found
    assert "# fit:" not in found
    others = {"idle: keep", "resident: 9MiB", "policy: stream}"} - {was, by_hand}
    assert [one for one in others if one in found and one not in by_hand] == []


def test_without_the_mark_all_is_the_users() -> None:
    made = fitted(PLAIN, ALL)
    head = made.replace("# fit: wrote", "# fit: once wrote")
    assert values_of(without_fit(head).text) == values_of(made)


@pytest.mark.parametrize("said", ["{", "[a]", "nothing", "{components: 5}", "{version: 1}", '{"a'])
def test_marks_that_say_nothing_take_nothing(said: str) -> None:
    kept = f"{PLAIN}idle: keep\n"
    for mark in ("wrote", "in place of"):
        found = without_fit(f"# fit: {mark} {said}\n{kept}").text
        assert found in (kept, kept.replace("version: 1\n", ""))


def test_what_is_taken_out_is_told_as_settings() -> None:
    text = "version: 1\npipeline: StableDiffusionXLPipeline\ncomponents: {vae: {tiling: on}}\nidle: release\n"
    chosen = (("components.vae.policy", "stream"), ("components.unet.policy", "stream"), ("idle", "keep"))
    found = without_fit(fitted(text, chosen))
    assert found.text == text
    assert {*found.settings} == {
        ("components.vae.policy", ""),
        ("components.unet", ""),
        ("idle", "release"),
    }
    plan = edited(SourceText(name="x", text=text), (), _load(text))
    assert plan.document.values == _load(fitted(text, chosen), found.settings).document.values


def _load(text: str, taken: Settings = ()):  # type: ignore[no-untyped-def]
    from planner.api import load

    said = [f"{key}={value}" for key, value in taken]
    return load(SourceText(name="x.plan.yaml", text=text), overrides=said)
