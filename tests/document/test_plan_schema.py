"""The language's own schema by itself, and documents against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.render import text
from planner.document.language.plan import schema
from planner.document.read import read_document
from planner.document.schema import check_schema
from planner.plan.build import build_plan
from planner.source.limits import LISTED

SCHEMA: dict[str, Any] = schema()


def keys(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a plan may have, and what the schema says of it."""
    for name, said in schema.get("properties", {}).items():
        yield f"{path}/{name}", said
        yield from keys(said, f"{path}/{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield f"{path}/{part}", schema[part]
            yield from keys(schema[part], f"{path}/{part}")


KEYS = dict([*keys(SCHEMA, ""), *(k for name, said in SCHEMA["$defs"].items() for k in keys(said, name))])


def resolved(said: dict[str, Any]) -> dict[str, Any]:
    return {**SCHEMA["$defs"][said["$ref"].rpartition("/")[2]], **said} if "$ref" in said else said


def check(folder: Path, said: str) -> list[Diagnostic]:
    path = folder / "x.plan.yaml"
    path.write_text(said, encoding="utf-8")
    document, found, _ = read_document(path)
    assert document is not None, found
    return list(check_schema(document))


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"].endswith("plan.v1.schema.json")
    assert len(KEYS) > 60


@pytest.mark.parametrize("key", sorted(KEYS))
def test_editors_can_explain_every_key(key: str) -> None:
    said = resolved(KEYS[key])
    assert said["description"].endswith(".")
    assert said["examples"]
    checker = Draft202012Validator({**KEYS[key], "$defs": SCHEMA["$defs"]})
    for example in said["examples"]:
        assert list(checker.iter_errors(example)) == [], example


def test_no_mapping_takes_any_key_but_those_that_say_so() -> None:
    free = {"requires", "run", "components", "rule", "whole", "part"}
    named = {"": SCHEMA, **KEYS, **SCHEMA["$defs"]}
    mappings = {key: said for key, said in named.items() if "object" in said.get("type", ())}
    open_ = {key for key, said in mappings.items() if said.get("additionalProperties") is not False}
    assert {key.rpartition("/")[2] for key in open_} <= free
    assert SCHEMA["additionalProperties"] is False


def test_a_file_of_other_keys_is_not_listed_whole(tmp_path: Path) -> None:
    found = check(tmp_path, "".join(f"key_{i}: {i}\n" for i in range(500)))
    unknown = [d for d in found if d.code.name == "unknown-key"]
    assert len(unknown) == LISTED.most + 1
    assert unknown[-1].message == f"{500 - LISTED.most} more keys are unknown: this is not a plan"


def test_what_is_misspelt_is_not_also_missing(tmp_path: Path) -> None:
    found = check(tmp_path, "verson: 1\npipelin: X\nother: 1\n")
    assert [d.code.name for d in found] == ["unknown-key"] * 3


def test_what_is_missing_is_said_beside_what_is_unknown(tmp_path: Path) -> None:
    found = check(tmp_path, "pipeline: X\nother: 1\n")
    assert sorted(d.message.split(" in ")[0] for d in found) == [
        'no key "other"',
        'the plan has no "version"',
    ]


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    said = "version: 1\npipeline: X\nstages: [{id: a, runs: [b], loop: 2.0}]\n"
    said += "components: {b: {policy: stream, prefetch: 3.0}}\n"
    assert check(tmp_path, said) == []
    document, _, _ = read_document(tmp_path / "x.plan.yaml")
    assert document is not None
    plan, _ = build_plan(document)
    assert plan is not None
    assert plan.stages is not None
    assert plan.stages[0].loop is not None
    assert (plan.stages[0].loop.count, plan.components["b"].prefetch) == (2, 3)


@pytest.mark.parametrize(
    "requires", ["{diffusers: '>=0.40,<1'}", "{offload-planner: '>=0'}", "{torchaudio: '*'}", "{numpy: '>1'}"]
)
def test_requirements_that_hold(tmp_path: Path, requires: str) -> None:
    found = check(tmp_path, f"version: 1\npipeline: X\nrequires: {requires}\n")
    assert [d.code.name for d in found] == (["other-version"] if "*" in requires else [])


words = st.sampled_from(
    [*sorted({key.rpartition("/")[2] for key in KEYS}), "unet", "vae", "a/b", "a~b", "<<", "", "x\n", "\x1b"]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2.0, 10**30, float("inf")]),
    st.sampled_from(["", "\n", "off", "8GiB", "0%", "9" * 400 + "GiB", "steps", "steps\n", "stream", "cuda"]),
    st.sampled_from(
        ["unet", "vae.encode", "a -> b", "a,, b", "~x", "builtin:tiny-flux", "FluxPipeline", "("]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)
rules = st.fixed_dictionaries({"component": scalars, "backend": st.just("torchao")}, optional={"a~b": values})
stages = st.fixed_dictionaries(
    {"id": scalars}, optional=dict.fromkeys(("runs", "stages", "loop", "after"), values)
)


@settings(max_examples=200)
@given(
    said=st.dictionaries(words, values, max_size=6),
    version=st.sampled_from([1, 1, 1, 2, None]),
    pipeline=st.just("FluxPipeline") | values,
    listed=st.fixed_dictionaries(
        {}, optional={"stages": st.lists(stages, max_size=3), "quantization": st.lists(rules, max_size=2)}
    ),
)
def test_no_values_break_the_check(
    tmp_path_factory: pytest.TempPathFactory, said: Any, version: Any, pipeline: Any, listed: Any
) -> None:
    import planner

    path = tmp_path_factory.mktemp("f") / "x.plan.yaml"
    shown = json.dumps({**said, "version": version, "pipeline": pipeline, **listed})
    path.write_text(shown.replace("Infinity", ".inf"))
    result = planner.validate(path)
    lines = {source.name: source for source in result.sources}
    for found in result.diagnostics:
        assert found.span is not None or found.code.id[1] not in "12345", found
        if found.span is not None and found.span.file in lines:
            line = lines[found.span.file].line(found.span.line)
            assert 1 <= found.span.column <= found.span.column + found.span.width - 1 <= len(line) + 1
    assert text(result.diagnostics, result.sources).count("[P") >= len(result.diagnostics)
