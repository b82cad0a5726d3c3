"""Documents to plans and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.document.document import Document
from planner.document.read import read_document
from planner.document.schema import check_schema
from planner.plan.build import build_plan
from planner.plan.model import Plan
from planner.plan.units import amount, loop
from planner.plan.write import to_yaml
from planner.source.text import Span

HERE = Span(file="x", line=1, column=1)
PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))

names = st.sampled_from(["unet", "vae", "text_encoder", "transformer", "controlnet", "image_encoder"])
uses = st.builds(lambda n, e: f"{n}.{e}" if e else n, names, st.sampled_from(["", "encode", "decode", "a.b"]))
sizes = st.builds(
    lambda n, u: f"{n}{u}",
    st.integers(1, 90),
    st.sampled_from(["B", "KB", "MB", "GB", "KiB", "MiB", "GiB", "%", " GiB"]),
)
# The plans are drawn as JSON, whose escapes of other characters (pairs) YAML does not have.
texts = st.text(st.characters(max_codepoint=0xFFFD, exclude_categories=["Cs"]), max_size=8)
arguments = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)
byte_sizes = sizes.filter(lambda text: not text.endswith("%"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def levels(draw: st.DrawFn, depth: int = 2) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 3))):
        stage: dict[str, Any] = {"id": f"s{i}"}
        if depth and draw(st.integers(0, 3)) == 0:
            stage["stages"] = draw(levels(depth=depth - 1))
        else:
            stage["runs"] = draw(st.lists(uses, min_size=1, max_size=3))
        if draw(st.booleans()):
            stage["loop"] = draw(st.sampled_from(["steps", 4, "12.5%"]))
        if bool(made) and draw(st.booleans()):
            stage["after"] = draw(st.lists(st.sampled_from([s["id"] for s in made]), unique=True))
        if draw(st.booleans()):
            stage["optional"] = draw(st.booleans())
        made.append(stage)
    return made


def plans() -> st.SearchStrategy[dict[str, Any]]:
    component = st.one_of(
        st.sampled_from(["resident", "offload", "stream"]),
        st.fixed_dictionaries(
            {"policy": st.just("stream")},
            optional={"resident": sizes, "prefetch": st.integers(0, 4), "source": st.just("./x")},
        ),
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("tiling", "slicing"), st.sampled_from(["on", "off", True, False]))
        ),
    )
    rule = st.fixed_dictionaries(
        {"component": names, "backend": st.sampled_from(["torchao", "quanto", "layerwise_cast"])},
        optional={
            "match": st.just(r"attn\d$"),
            "skip": st.just(["norm"]),
            "required": st.booleans(),
            "type": st.just("a"),
        },
    )
    lora = st.fixed_dictionaries(
        {"lora_id": st.just("./l")},
        optional={"lora_scale": st.sampled_from([1, 0.5]), "adapter_name": st.just("a")},
    )
    return st.fixed_dictionaries(
        {
            "version": st.just(1),
            "pipeline": st.one_of(
                st.just("FluxPipeline"),
                st.fixed_dictionaries(
                    {"class": st.just("FluxPipeline")},
                    optional={
                        "source": st.just("./x"),
                        "dtype": st.just("float16"),
                        "revision": st.just("v1"),
                    },
                ),
            ),
        },
        optional={
            "name": st.sampled_from(["flux-8gb", "off", "1"]),
            "requires": st.just({"diffusers": ">=0.40"}),
            "device": st.sampled_from(["auto", "cuda:1", "mps"]),
            "budget": st.fixed_dictionaries(
                {},
                optional={"vram": sizes, "leave_free": sizes, "ram": byte_sizes, "pinned": byte_sizes},
            ),
            "components": st.dictionaries(names, component, max_size=3),
            "order": st.one_of(
                st.lists(uses, min_size=1, max_size=4),
                st.lists(uses, min_size=1, max_size=4).map(" -> ".join),
                st.lists(uses, min_size=1, max_size=4).map(",".join),
            ),
            "quantization": st.lists(rule, max_size=2),
            "loras": st.lists(lora, max_size=2),
            "idle": st.sampled_from(["release", "keep"]),
            "run": st.dictionaries(arguments, values, max_size=3),
            "workload": st.just({"batch": 2}),
        },
    )


def bare(value: Any) -> Any:
    """Without places: what the plan means."""
    if isinstance(value, Document):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: bare(getattr(value, f.name))
            for f in fields(value)
            if f.name not in ("span", "spans", "document")
        }
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Span):
        return value[0]
    if isinstance(value, (list, tuple)):
        return [bare(v) for v in value]
    if hasattr(value, "items"):
        return {k: bare(v) for k, v in value.items()}
    return value


def read(path: Path) -> Plan | None:
    document, found, _ = read_document(path)
    assert document is not None, [str(d) for d in found]
    assert check_schema(document) == (), path.read_text()
    return build_plan(document)[0]


@settings(max_examples=200)
@given(said=plans(), stages=st.none() | levels())
def test_what_is_written_reads_as_the_same_plan(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any], stages: Any
) -> None:
    import json

    if stages is not None:
        said = {**said, "stages": stages}
        said.pop("order", None)
    folder = tmp_path_factory.mktemp("p")
    first = folder / "x.plan.yaml"
    first.write_text(json.dumps(said))  # JSON is YAML
    plan = read(first)
    if plan is None:
        return  # a plan with an error of its own (two contradictions drawn together)
    again = folder / "again.plan.yaml"
    again.write_text(to_yaml(plan), encoding="utf-8")
    second = read(again)
    assert bare(second) == bare(plan)
    assert to_yaml(second) == to_yaml(plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.name)
def test_the_plans_that_ship_round_trip(path: Path, tmp_path: Path) -> None:
    plan = read(path)
    assert plan is not None
    again = tmp_path / path.name
    again.write_text(to_yaml(plan), encoding="utf-8")
    assert bare(read(again)) == bare(plan)


@pytest.mark.parametrize(
    ("text", "nbytes", "share"),
    [
        ("11GiB", 11 << 30, None),
        ("1.5 GiB", 3 << 29, None),
        ("7GB", 7_000_000_000, None),
        ("512MiB", 512 << 20, None),
        ("3KB", 3000, None),
        ("9B", 9, None),
        ("12.5%", None, 0.125),
        ("100%", None, 1.0),
    ],
)
def test_units(text: str, nbytes: int | None, share: float | None) -> None:
    made = amount(text, HERE)
    assert made is not None
    assert (made.bytes, made.share) == (nbytes, share)


@pytest.mark.parametrize("text", ["0%", "100.1%", "0GiB", "0.1B"])
def test_sizes_that_are_none(text: str) -> None:
    assert amount(text, HERE) is None


def test_loops() -> None:
    assert [(x.count, x.share) for x in (loop(20), loop("steps"), loop("12.5%")) if x] == [
        (20, None),
        (None, 1.0),
        (None, 0.125),
    ]
    assert loop("0%") is None


def test_places_inside_an_order_string(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(
        "version: 1\npipeline: X\norder: 'a -> bb.encode,c'\norder2: 1\n".replace("order2: 1\n", "")
    )
    document, _, _ = read_document(path)
    assert document is not None
    assert build_plan(document)[0] is None
    path.write_text("version: 1\npipeline: X\norder: 'a ->  bb.encode -> c'\n")
    plan = read(path)
    assert plan is not None
    assert plan.stages is not None
    places = [(str(s.runs[0]), s.runs[0].span.column, s.runs[0].span.width) for s in plan.stages]
    assert places == [("a", 9, 1), ("bb.encode", 15, 9), ("c", 28, 1)]
    line = path.read_text().split("\n")[2]
    assert all(line[column - 1 :][:width] == name for name, column, width in places)


def test_stages_of_an_order_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\npipeline: X\norder: vae -> unet -> vae\n")
    plan = read(path)
    assert plan is not None
    assert [s.id for s in plan.stages or ()] == ["vae", "unet", "vae-2"]
