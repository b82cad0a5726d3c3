"""A key is set in the text of a plan, and nothing else of it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.api import load
from planner.diagnostics.diagnostic import PlanError
from planner.diagnostics.table.p9_fit import NOT_EDITED
from planner.document.node import flatten
from planner.document.parse import parse
from planner.fitting.draft import draft_of, settings_for
from planner.fitting.edit import MARK, with_comment, with_head, with_value, without_key, without_marks
from planner.plan.model import Plan
from planner.source.text import SourceText

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))
SET = (
    (("idle",), "keep"),
    (("budget", "vram"), "5GiB"),
    (("components", "unet", "policy"), "stream"),
    (("components", "vae", "prefetch"), "2"),
    (("components", "elsewhere", "resident"), "9MiB"),
    (("pipeline", "dtype"), "float16"),
    (("run", "height"), "512"),
)

NAMED = st.sampled_from(["vae", "unet", "text_encoder"])
SCALAR = st.sampled_from(["offload", "12GiB", "'quoted'", '"a # b"', "3", "on"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Plans as people write them: flow and block, short forms, comments and blank lines anywhere."""
    lines = [
        "version: 1",
        draw(st.sampled_from(["pipeline: A", "pipeline: {class: A}", "pipeline:\n  class: A"])),
    ]
    if draw(st.booleans()):
        lines.append(
            draw(st.sampled_from(["budget: {vram: 1GiB}", "budget:\n    vram: 1GiB  # much", "budget: {}"]))
        )
    if names := draw(st.lists(NAMED, unique=True, max_size=3)):
        pad = draw(st.sampled_from(["  ", "    "]))
        lines.append("components:")
        for name in names:
            lines.append(
                draw(
                    st.sampled_from(
                        [
                            f"{pad}{name}: stream",
                            f"{pad}{name}: {{policy: stream}}  # why",
                            f"{pad}{name}:\n{pad}  policy: stream",
                        ]
                    )
                )
            )
    else:
        lines += draw(st.sampled_from([[], ["components:"], ["components: {}"]]))
    if draw(st.booleans()):
        lines.append(f"run: {{prompt: {draw(SCALAR)}}}")
    made = []
    for line in lines:
        made += draw(st.lists(st.sampled_from(["# a comment", ""]), max_size=2))
        made.append(
            line + draw(st.sampled_from(["", "", "  # told"]))
            if "\n" not in line and "#" not in line
            else line
        )
    made += draw(st.lists(st.sampled_from(["# the end", ""]), max_size=2))
    return "\n".join(made) + draw(st.sampled_from(["\n", ""]))


def expected(values: Any, path: tuple[str, ...], value: Any) -> Any:
    """What the document says then."""
    if not path:
        return value
    if isinstance(values, str):
        values = {"policy" if path[0] != "dtype" else "class": values}
    return {**(values or {}), path[0]: expected((values or {}).get(path[0]), path[1:], value)}


def check(text: str, path: tuple[str, ...], value: str) -> None:
    made = with_value(text, path, value, "why it is so")
    assert yaml.safe_load(made) == expected(yaml.safe_load(text), path, yaml.safe_load(value))
    assert f"{MARK}why it is so" in made
    kept = [line for line in text.splitlines() if line.lstrip().startswith("#") or not line.strip()]
    assert [line for line in kept if line.strip()] == [
        line for line in made.splitlines() if line.lstrip().startswith("#") and MARK not in line
    ]
    changed = [line for line in without_marks(made).splitlines() if line not in text.splitlines()]
    assert len(changed) <= max(1, len(path) - 1)
    assert with_value(without_marks(made), path, value, "why it is so") == made or len(changed) <= 1


@settings(max_examples=100)
@given(texts(), st.sampled_from(SET))
def test_what_is_set_is_set_and_all_else_is_as_it_was(text: str, one: tuple[tuple[str, ...], str]) -> None:
    check(text, *one)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_plans_that_ship(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for one in SET:
        check(text, *one)


def test_in_a_flow_mapping() -> None:
    made = with_value("{version: 1, pipeline: A}", ("components", "a", "policy"), "stream")
    assert made == "{version: 1, pipeline: A, components: {a: {policy: stream}}}"


def test_comments_are_told_apart_and_go_again() -> None:
    text = "# mine\nversion: 1\ncomponents:\n  vae: stream\n"
    told = with_head(with_comment(text, ("components", "vae"), "left"), ["first", "second"])
    assert (
        told == f"# mine\n{MARK}first\n{MARK}second\nversion: 1\ncomponents:\n  {MARK}left\n  vae: stream\n"
    )
    assert without_marks(told) == text


ODD = {
    "a comment behind the last value of braces": (
        "{version: 1,\n pipeline: A, # of diffusers\n run: {height: 64 # small, {odd}\n }\n # the end\n}\n"
    ),
    "braces that end with a comma": "{version: 1, pipeline: A, run: {height: 64, }, # last\n}\n",
    "braces with only a comment": "version: 1\npipeline: A\ncomponents: { # none yet\n}\n",
    "text that looks like what fit wrote": (
        f"version: 1\npipeline: A\nrun:\n  prompt: |\n    a\n    {MARK}cat\n\n    mat\n  height: 64\n"
    ),
    "quoted text of several lines": (
        f"version: 1\npipeline: A\nrun:\n  prompt: 'a\n\n    {MARK}b\n    c'\n  height: 64"
    ),
    "a tab, which not all readers take": "version: 1\npipeline: A\ncomponents:\n  vae:\t{tiling: on}\n",
    "a deeper comment": "version: 1\npipeline: A\nrun:\n  height: 64\n\n  # of run\n# all\n",
    "other ends of lines": f"version: 1\npipeline: A\nrun: {{prompt: 'a\u2028{MARK}b', height: 64}}\n",
    "documents' own marks": "%YAML 1.1\n---\nversion: 1\npipeline: A\n...\n# behind\n",
    "JSON": '{"version": 1, "pipeline": "A", "run": {"height": 64}}',
}


def values_of(text: str) -> Any:
    node, found = parse(SourceText(name="", text=text))
    assert node is not None
    assert not found
    return flatten(node)[0]


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("one", SET, ids=lambda one: ".".join(one[0]))
def test_odd_layouts_say_what_was_meant(text: str, one: tuple[tuple[str, ...], str]) -> None:
    """As the planner itself reads them, and once more when the comments of fit are gone again."""
    path, value = one
    made = with_head(with_comment(with_value(text, path, value, "why"), path[:2], "more"), ["head"])
    meant = expected(values_of(text), path, values_of(value))
    assert values_of(made) == meant
    assert values_of(without_marks(made)) == meant
    assert without_marks(text) == text
    assert f"{MARK}why" in made
    assert "# of run\nbudget" not in made


ALIASED = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: &much 2GiB, ram: *much}
components:
  text_encoder: &same {tiling: off}
  text_encoder_2: *same
"""


@pytest.mark.parametrize(
    "text",
    [
        ALIASED,
        "? version\n: 1\n? pipeline\n: StableDiffusionXLPipeline\n",
        f"version: 1\npipeline: StableDiffusionXLPipeline\nrun:\n  prompt: |\n    a\n    {MARK}b",
    ],
    ids=["an alias", "keys of another form", "text that ends with the file"],
)
@pytest.mark.parametrize(
    "asked", [("budget.vram", "5GiB"), ("components.text_encoder_2.policy", "stream"), ("run.height", "512")]
)
def test_what_cannot_be_written_is_no_other_plan(text: str, asked: tuple[str, str]) -> None:
    source = SourceText(name="x.plan.yaml", text=text)
    meant = load(source, overrides=["=".join(asked)]).document.values
    found: object = None
    try:
        found = draft_of(source, (asked,)).plan.document.values
    except PlanError as error:
        found = [d.code for d in error.diagnostics]
    assert found in (meant, [NOT_EDITED])  # P997


def test_keys_that_are_set_to_nothing_are_not_written() -> None:
    source = SourceText(name="x.plan.yaml", text="version: 1\npipeline: StableDiffusionXLPipeline\n")
    draft = draft_of(source, settings_for(vram="", overrides=["idle=~", "run.height=null", "name=x"]))
    assert draft.text.text == f"{source.text}name: x\n"
    with pytest.raises(PlanError, match="KEY=VALUE"):
        settings_for(overrides=["idle"])


@pytest.mark.parametrize(
    "value", ["a, cat: {x}", "it's # 1", '"', "5", "true", "~", "*a", "- a", "", "é 猫", "a\nb"]
)
def test_arguments_are_written_as_they_are(value: str) -> None:
    source = SourceText(name="x.plan.yaml", text="version: 1\npipeline: StableDiffusionXLPipeline\n")
    draft = draft_of(source, settings_for(run={"prompt": value, "height": 64}))
    assert draft.plan.run["prompt"] == value


def outcome(make: Callable[[], Plan]) -> object:
    """The components of a plan, or the codes of what is wrong with it."""
    try:
        return make().components
    except PlanError as error:
        return [found.code for found in error.diagnostics]


LAYOUTS = (
    "components:\n  unet: stream\n",
    "components: {unet: stream}\n",
    "components:\n  unet: {policy: stream}\n",
    "components:\n  unet:\n    policy: stream\n",
    "components:\n  unet:\n    # why\n    policy: stream  # or not\nidle: keep\n",
    "components:\n  unet: stream  # why\n  vae: resident\n",
    "components: {unet: stream, vae: resident}\n",
    "components: {vae: resident, unet: stream}\n",
    "components: {vae: resident, unet: {policy: stream, prefetch: 2} , }\n",
    "components: {\n  unet: stream,\n  vae: resident}\n",
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "said",
    [
        *("components=null", "components.unet=null", "components.unet.policy=null"),
        *("components.unet=stream", "components.unet.policy=stream", "components.vae.policy=null"),
        *("pipeline.class=StableDiffusionXLPipeline", "components.unet.prefetch=1"),
    ],
)
def test_any_layout_takes_what_is_asked_for(layout: str, said: str) -> None:
    """What is left open is removed, short forms too; what cannot be is told as in any plan."""
    text = f"version: 1\npipeline: StableDiffusionXLPipeline\n{layout}"
    source = SourceText(name="x.plan.yaml", text=text)
    meant = outcome(lambda: load(source, overrides=[said]))
    assert outcome(lambda: draft_of(source, settings_for(overrides=[said])).plan) == meant


def pruned(values: Any, gone: tuple[str, ...]) -> Any:
    """Without what is at ``gone``, and without mappings that hold nothing."""
    if not isinstance(values, dict):
        return values
    kept = {k: pruned(v, gone[1:] if gone[:1] == (k,) else ()) for k, v in values.items() if gone != (k,)}
    return {k: v for k, v in kept.items() if v not in ({}, None)}


@settings(max_examples=100)
@given(texts(), NAMED, st.booleans())
def test_what_is_removed_is_gone_and_all_else_is_as_it_was(text: str, name: str, inner: bool) -> None:
    said = yaml.safe_load(text).get("components") or {}
    short = inner and isinstance(said.get(name), str)
    made = without_key(text, ("components", name, *["policy"] * inner))
    gone = ("components", name, *["policy"] * (inner and not short))
    assert pruned(yaml.safe_load(made), ()) == pruned(yaml.safe_load(text), gone)
    if len(said) != 1 or name not in said:
        assert [x for x in made.splitlines() if x[:1] == "#"] == [
            x for x in text.splitlines() if x[:1] == "#"
        ]


def test_what_another_plan_has_is_removed_in_words(tmp_path: Path) -> None:
    text = "version: 1\npipeline: StableDiffusionXLPipeline\ncomponents: {unet: stream}\n"
    (tmp_path / "base.plan.yaml").write_text(text)
    child = SourceText(name=str(tmp_path / "x.plan.yaml"), text="version: 1\nextends: base.plan.yaml\n")
    draft = draft_of(child, settings_for(overrides=["components.unet=null", "idle=keep"]))
    assert not draft.plan.components
    assert "components: {unet: null}" in draft.text.text
