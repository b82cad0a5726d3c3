"""Files that are no plans: a clear error, nothing read too far, nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.document.parse import parse
from planner.document.read import read_document
from planner.document.schema import check_schema
from planner.source.text import SourceText


def said(path: Path, *overrides: str) -> list[str]:
    document, found, _ = read_document(path, overrides)
    assert document is None
    return [d.code.name for d in found]


def test_binary(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    assert said(path) == ["not-text"]


def test_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_bytes(b"version: 1\nname: a\x07b\n")
    assert said(path) == ["not-text"]


def test_two_mebibytes(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\n" + "# x\n" * (1 << 19))
    assert said(path) == ["file-too-large"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text("version: 1\n")
    path.chmod(0)
    assert said(path) == ["file-unreadable"]


def test_a_reader_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert said(tmp_path / "x.plan.yaml") == ["file-unreadable"]


def test_a_folder(tmp_path: Path) -> None:
    assert said(tmp_path) == ["file-unreadable"]


def test_a_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "sdxl.plan.yaml").write_text("version: 1\n")
    _, found, _ = read_document(tmp_path / "sdlx.plan.yaml")
    assert [d.code.name for d in found] == ["file-not-found"]
    assert "sdxl.plan.yaml" in found[0].hint


def test_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_bytes("\ufeffversion: 1\r\npipeline: FluxPipeline\r\n".encode())
    document, found, _ = read_document(path)
    assert document is not None, found
    assert document.values == {"version": 1, "pipeline": "FluxPipeline"}
    assert document.spans["/pipeline"].line == 2


def test_lone_carriage_returns_end_lines_and_other_separators_do_not(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_bytes("version: 1\rname: 'a\u2028b'\rpipeline: X\r".encode())
    document, found, _ = read_document(path)
    assert document is not None, found
    assert document.spans["/pipeline"].line == 3
    assert document.spans["/pipeline"].column == 11


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("012", "012"),
        ("1:30", "1:30"),
        ("0o14", 12),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("null", None),
        ("~", None),
        ("True", True),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    node, found = parse(SourceText(name="x", text=f"a: {text}\n"))
    assert node is not None, found
    assert node.mapping is not None
    assert node.mapping["a"][1].value == value
    assert type(node.mapping["a"][1].value) is type(value)


class TestExtends:
    def write(self, folder: Path, **files: str) -> Path:
        for name, text in files.items():
            (folder / f"{name}.plan.yaml").write_text(text)
        return folder / "top.plan.yaml"

    def test_mappings_merge_lists_replace_null_removes(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            base="version: 1\npipeline: {class: A, dtype: float16}\n"
            "exclude: [a, b]\nrun: {seed: 1, prompt: x}\n",
            top="extends: base.plan.yaml\npipeline: {class: B}\nexclude: [c]\nrun: {seed: null}\n",
        )
        document, _, sources = read_document(path)
        assert document is not None
        assert document.values == {
            "version": 1,
            "pipeline": {"class": "B", "dtype": "float16"},
            "exclude": ["c"],
            "run": {"prompt": "x"},
        }
        assert document.spans["/pipeline/class"].file == str(path)
        assert document.spans["/pipeline/dtype"].file == str(tmp_path / "base.plan.yaml")
        assert [Path(s.name).name for s in sources] == ["top.plan.yaml", "base.plan.yaml"]

    def test_order_takes_the_place_of_stages(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            base="version: 1\npipeline: A\nstages: [{id: a, runs: [a]}]\n",
            top="extends: base.plan.yaml\norder: a -> b\n",
        )
        document, _, _ = read_document(path)
        assert document is not None
        assert "stages" not in document.values
        assert check_schema(document) == ()

    def test_a_short_form_opens_under_a_mapping(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            base="pipeline: A\ncomponents: {a: stream, b: stream}\n",
            top="extends: base.plan.yaml\npipeline: {dtype: x}\ncomponents: {a: {prefetch: 1}, b: offload}\n",
        )
        document, _, _ = read_document(path)
        assert document is not None
        assert document.values["pipeline"] == {"class": "A", "dtype": "x"}
        assert document.values["components"] == {"a": {"policy": "stream", "prefetch": 1}, "b": "offload"}
        assert Path(document.spans["/components/a/policy"].file).name == "base.plan.yaml"

    def test_null_in_what_replaces_a_scalar_goes_too(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, base="name: a\n", top="extends: base.plan.yaml\nname: {x: null, y: 1}\n")
        document, _, _ = read_document(path)
        assert document is not None
        assert document.values["name"] == {"y": 1}

    def test_a_path_that_no_file_can_have(self, tmp_path: Path) -> None:
        assert said(self.write(tmp_path, top=f"extends: {'a' * 5000}\n")) == ["file-unreadable"]

    def test_a_chain_that_is_too_long(self, tmp_path: Path) -> None:
        for i in range(12):
            (tmp_path / f"{i}.plan.yaml").write_text(f"extends: {i + 1}.plan.yaml\n")
        assert said(tmp_path / "0.plan.yaml") == ["too-many-values"]


class TestSet:
    TEXT = "version: 1\npipeline: FluxPipeline\ncomponents: {vae: offload}\nstages: [{id: a, runs: [vae]}]\n"

    def read(self, folder: Path, *overrides: str) -> dict[str, object]:
        path = folder / "x.plan.yaml"
        path.write_text(self.TEXT)
        document, found, _ = read_document(path, overrides)
        assert document is not None, [str(d) for d in found]
        assert path.read_text() == self.TEXT
        return dict(document.values)

    def test_values_are_yaml(self, tmp_path: Path) -> None:
        values = self.read(tmp_path, "budget.vram=8GiB", "run={seed: 3, prompt: a=b}", "exclude=[a]")
        assert values["budget"] == {"vram": "8GiB"}
        assert values["run"] == {"seed": 3, "prompt": "a=b"}
        assert values["exclude"] == ["a"]

    def test_short_forms_open(self, tmp_path: Path) -> None:
        values = self.read(tmp_path, "pipeline.dtype=float16", "components.vae.tiling=on")
        assert values["pipeline"] == {"class": "FluxPipeline", "dtype": "float16"}
        assert values["components"] == {"vae": {"policy": "offload", "tiling": "on"}}

    def test_a_place_in_a_list(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "stages.0.id=b")["stages"] == [{"id": "b", "runs": ["vae"]}]

    def test_order_takes_the_place_of_stages(self, tmp_path: Path) -> None:
        values = self.read(tmp_path, "order=vae -> vae")
        assert (values.get("order"), values.get("stages")) == ("vae -> vae", None)

    def test_what_no_terminal_can_type(self, tmp_path: Path) -> None:
        path = tmp_path / "x.plan.yaml"
        path.write_text(self.TEXT)
        assert said(path, "name=\udcff") == ["not-yaml"]

    def test_nothing_removes(self, tmp_path: Path) -> None:
        assert "stages" not in self.read(tmp_path, "stages=")
        assert "stages" not in self.read(tmp_path, "stages=null")

    def test_findings_point_into_the_override(self, tmp_path: Path) -> None:
        path = tmp_path / "x.plan.yaml"
        path.write_text(self.TEXT)
        document, _, _ = read_document(path, ["run.seed=1", "budget.vram=8"])
        assert document is not None
        (problem,) = check_schema(document)
        assert problem.span is not None
        assert (problem.span.file, problem.span.line, problem.span.column) == ("--set", 2, 13)

    @pytest.mark.parametrize(
        "text",
        ["budget.vram", "=1", "a..b=1", "stages.7.id=a", "version.x=1", "stages.x=1", "name=#a", "extends=a"],
    )
    def test_what_leads_nowhere(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "x.plan.yaml"
        path.write_text(self.TEXT)
        assert said(path, text) == ["bad-override"]

    def test_a_value_that_is_not_yaml(self, tmp_path: Path) -> None:
        path = tmp_path / "x.plan.yaml"
        path.write_text(self.TEXT)
        assert said(path, "run={a") == ["not-yaml"]


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.plan.yaml"
    path.write_bytes(data)
    document, found, _ = read_document(path)
    assert (document is None) == any(d.severity.value == "error" for d in found)


@settings(max_examples=300)
@given(st.text(alphabet="ab: -[]{},&*!|>'\"\n\t#%@?0", max_size=60))
def test_any_text(text: str) -> None:
    node, found = parse(SourceText(name="x", text=text))
    assert node is not None or found
