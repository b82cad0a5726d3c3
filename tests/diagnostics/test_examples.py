"""The examples of the table of codes are run: the wrong one gives its code and no other, the right one not.

What an example leaves out of a plan (the version, the pipeline) is filled in, and the files that it names are
made. Examples that are commands, Python or need a device are listed in ``test_provoked.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from examples import ELSEWHERE, EXAMPLES, NOTES, WHOLE

import planner
from planner.diagnostics.codes import all_codes
from planner.diagnostics.diagnostic import Code


def filled(code: Code, example: str) -> str:
    if code.id in WHOLE:
        return example + "\n"
    head = "" if re.search(r"^version:", example, re.M) else "version: 1\n"
    if not re.search(r"^pipeline:", example, re.M):
        flux = "transformer" in example
        head += f"pipeline: {'FluxPipeline' if flux else 'StableDiffusionXLPipeline'}\n"
    return f"{head}{example}\n"


def given(folder: Path, text: str, strict: bool = False) -> set[str]:
    path = folder / "x.plan.yaml"
    path.write_text(text, encoding="utf-8")
    for named in re.findall(r"(?:source|lora_id): (?:')?(\./[\w.-]+)", text):
        if named.endswith(".gguf"):
            (folder / named).write_bytes(b"GGUF")
    return {d.code.id for d in planner.validate(path).diagnostics}


@pytest.mark.usefixtures("searches_end_soon")
@pytest.mark.parametrize("code", EXAMPLES, ids=str)
def test_the_wrong_example_gives_its_code_and_no_other(code: Code, tmp_path: Path) -> None:
    assert given(tmp_path, filled(code, code.wrong)) - (NOTES - {code.id}) == {code.id}


@pytest.mark.parametrize("code", EXAMPLES, ids=str)
def test_the_right_example_does_not(code: Code, tmp_path: Path) -> None:
    assert code.id not in given(tmp_path, filled(code, code.right))


def test_each_example_that_is_not_run_is_one_that_could_not_be() -> None:
    assert {*all_codes()} >= ELSEWHERE
    assert len(EXAMPLES) > 50
