"""Each limit of a plan: what is just below is taken, what is just above is told."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.diagnostics.codes import all_codes
from planner.document.language.plan import schema
from planner.source import limits
from planner.source.limits import (
    BLOCKS,
    CHAIN,
    COMPONENTS,
    DEPTH,
    DIGITS,
    ENTRIES,
    FILE,
    LIMITS,
    LORAS,
    NAME,
    NESTED,
    REPEATS,
    RULES,
    RUNS,
    STAGES,
    TEXT,
    VALUES,
    WORKLOAD,
    Limit,
)

HEAD = "version: 1\npipeline: StableDiffusionXLPipeline\n"


def codes(folder: Path, text: str) -> set[str]:
    path = folder / "x.plan.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return {d.code.name for d in planner.validate(path).errors}


def nested(depth: int) -> str:
    inner = "{id: s, runs: [unet]}"
    for _ in range(depth - 1):
        inner = f"{{id: g, stages: [{inner}]}}"
    return f"stages: [{inner}]"


def rules(count: int) -> str:
    return "quantization:\n" + "".join(
        f"  - {{component: unet, match: a{i}, backend: torchao, type: int8_weight_only}}\n"
        for i in range(count)
    )


CASES: list[tuple[Limit, Any, str]] = [
    (DIGITS, lambda n: f"run: {{seed: {'1' * n}}}", "number-too-long"),
    (DIGITS, lambda n: f"run: {{seed: 0x{'1' * (n - 2)}}}", "number-too-long"),
    (DIGITS, lambda n: f"run: {{guidance_scale: 1.{'1' * (n - 2)}}}", "number-too-long"),
    (DIGITS, lambda n: f"budget: {{vram: 9.{'0' * (n - 5)}GiB}}", "over-limit"),
    (DEPTH, lambda n: f"run: {{a: {'[' * (n - 2)}1{']' * (n - 2)}}}", "too-many-values"),
    (VALUES, lambda n: f"run: {{a: [{', '.join(['1'] * (n - 5))}]}}", "too-many-values"),
    (COMPONENTS, lambda n: "components: {" + ", ".join(f"c{i}: {{}}" for i in range(n)) + "}", "over-limit"),
    (COMPONENTS, lambda n: "exclude: [" + ", ".join(f"c{i}" for i in range(n)) + "]", "over-limit"),
    (NESTED, nested, "stages-too-deep"),
    (RUNS, lambda n: f"stages: [{{id: a, runs: [{', '.join(['unet'] * n)}]}}]", "over-limit"),
    (STAGES, lambda n: f"order: [{', '.join(['unet'] * n)}]", "over-limit"),
    (STAGES, lambda n: f"order: {','.join(['unet'] * n)}", "too-many-stages"),
    (RULES, rules, "over-limit"),
    (LORAS, lambda n: f"loras: [{', '.join(f'{{lora_id: l{i}}}' for i in range(n))}]", "over-limit"),
    (ENTRIES, lambda n: "run: {" + ", ".join(f"a{i}: 1" for i in range(n)) + "}", "over-limit"),
    (ENTRIES, lambda n: "requires: {" + ", ".join(f"p{i}: ''" for i in range(n)) + "}", "over-limit"),
    (NAME, lambda n: f"name: {'a' * n}", "over-limit"),
    (NAME, lambda n: f"stages: [{{id: {'a' * n}, runs: [unet]}}]", "over-limit"),
    (NAME, lambda n: f"order: {'a' * n} -> b", "bad-order"),
    (TEXT, lambda n: f"loras: [{{lora_id: {'a' * n}}}]", "over-limit"),
    (REPEATS, lambda n: f"stages: [{{id: a, runs: [unet], loop: {n}}}]", "over-limit"),
    (BLOCKS, lambda n: f"components: {{unet: {{policy: stream, prefetch: {n}}}}}", "over-limit"),
    (WORKLOAD, lambda n: f"workload: {{batch: {n}}}", "over-limit"),
]


@pytest.mark.parametrize(
    ("limit", "text", "code"), CASES, ids=lambda v: v.what if isinstance(v, Limit) else ""
)
def test_just_below_and_just_above(tmp_path: Path, limit: Limit, text: Any, code: str) -> None:
    assert code not in codes(tmp_path, text(limit.most))
    assert code in codes(tmp_path, text(limit.most + 1))


def test_files(tmp_path: Path) -> None:
    said = HEAD + "#" * (FILE.most - len(HEAD))
    assert not codes(tmp_path, said[len(HEAD) :])
    assert codes(tmp_path, said[len(HEAD) :] + "#") == {"file-too-large"}


def test_chains(tmp_path: Path) -> None:
    def chain(files: int) -> set[str]:
        for i in range(files):
            (tmp_path / f"{i}.plan.yaml").write_text(f"extends: {i + 1}.plan.yaml\n")
        (tmp_path / f"{files}.plan.yaml").write_text(HEAD)
        return {d.code.name for d in planner.validate(tmp_path / "0.plan.yaml").errors}

    assert chain(CHAIN.most) == set()
    assert chain(CHAIN.most + 1) == {"too-many-values"}


def test_aliases_do_not_nest_deeper_than_what_is_written(tmp_path: Path) -> None:
    lines = "".join(f"  k{i}: &a{i} [[[[[[[[*a{i - 1}]]]]]]]]\n" for i in range(1, 400))
    assert codes(tmp_path, "run:\n  k0: &a0 [x]\n" + lines) == {"too-many-values"}


def test_every_limit_is_in_the_table_and_has_a_case() -> None:
    named = {value for value in vars(limits).values() if isinstance(value, Limit)}
    assert named == {*LIMITS}
    elsewhere = {limits.FILE, limits.CHAIN, limits.PATTERN, limits.SECONDS, limits.LISTED}
    assert {limit for limit, _, _ in CASES} | elsewhere == named


def test_the_help_of_codes_and_the_schema_read_the_table() -> None:
    helps = " ".join(code.help for code in all_codes().values())
    silent = {limits.LISTED, limits.WORKLOAD, limits.NESTED}
    for limit in {*LIMITS} - silent:
        assert str(limit) in helps or f"{limit.most:,}" in helps, limit
    said = json.dumps(schema())
    for limit in (COMPONENTS, STAGES, RUNS, RULES, LORAS, NAME, TEXT, REPEATS, BLOCKS, WORKLOAD):
        assert f": {limit.most}" in said, limit


SECRET = "aws_secret_access_key: hunter2\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("credentials", SECRET),
        ("secret.yaml", SECRET),
        ("passwd", "root:x:0:0:hunter2:/root:/bin/sh\n"),
        ("compose.yaml", "version: 1\nservices: {db: hunter2}\n"),
        ("list.yaml", "- hunter2\n"),
        ("broken.yaml", "a: [hunter2\nb"),
        ("hunter2-binary", "\x00\x01"),
        ("twice.yaml", "hunter2: 1\nhunter2: 2\n"),
    ],
)
@pytest.mark.parametrize("through", ["extends", "a chain", "a link", "the plan itself a link"])
def test_other_files_are_not_shown(
    tmp_path: Path, name: str, text: str, through: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from planner.cli.main import run

    (tmp_path / name).write_text(text)
    plan = tmp_path / "x.plan.yaml"
    if through == "the plan itself a link":
        plan.symlink_to(tmp_path / name)
    elif through == "a link":
        (tmp_path / "base.plan.yaml").symlink_to(tmp_path / name)
        plan.write_text("extends: base.plan.yaml\n")
    elif through == "a chain":
        (tmp_path / "base.plan.yaml").write_text(f"extends: {name}\n")
        plan.write_text("extends: base.plan.yaml\n")
    else:
        plan.write_text(f"extends: {name}\n")
    for form in ("text", "json", "sarif", "github"):
        assert run(["validate", str(plan), "--format", form]) == 1
        shown = capsys.readouterr()
        said = (shown.out + shown.err).replace("hunter2-binary", "")
        assert "hunter2" not in said
        assert "P114" in said or "P104" in said


def test_a_base_of_any_name_is_taken_when_it_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("pipeline: FluxPipeline\n")
    (tmp_path / "x.plan.yaml").write_text("version: 1\nextends: common.yaml\n")
    assert planner.validate(tmp_path / "x.plan.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a folder", "a device"])
@pytest.mark.parametrize("extended", [False, True])
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, kind: str, extended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    odd = Path("odd.plan.yaml")
    if kind == "a pipe":
        os.mkfifo(odd)
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(str(odd))
    elif kind == "a folder":
        odd.mkdir()
    else:
        odd = Path("/dev/zero")
    plan = odd
    if extended:
        plan = Path("x.plan.yaml")
        plan.write_text(json.dumps({"extends": str(odd)}))
    found = planner.validate(plan).errors
    assert [d.code.name for d in found] == ["file-unreadable"]


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ("12", "did you mean 12GiB?"),
        ("'12'", "did you mean 12GiB?"),
        ("1.5", "did you mean 1.5GiB?"),
        (".inf", "left out, it is what there is"),
        ("-.inf", "left out, it is what there is"),
        (".nan", "left out, it is what there is"),
        ("9" * 40, "left out, it is what there is"),
    ],
)
def test_a_size_without_a_unit_has_a_mend_that_is_a_size(size: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(f"{HEAD}budget: {{vram: {size}}}\n")
    (found,) = planner.validate(path).errors
    assert (found.code.name, found.hint) == ("number-without-unit", hint)
