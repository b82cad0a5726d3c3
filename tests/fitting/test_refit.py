"""Fitted again: a fit chooses anew what a fit chose, keeps what a person wrote, and the file as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner.cli.main import run
from planner.document.file import decoded
from planner.plan.model import Policy
from planner.source.ends import as_in
from planner.source.text import SourceText

ASKED = "{prompt: a cat, height: 64, width: 64, num_inference_steps: 2}"
PLANS = {
    "flow": f"version: 1\npipeline: {{class: FluxPipeline, source: 'builtin:tiny-flux'}}\nrun: {ASKED}\n",
    "block": f"""\
# mine
version: 1
pipeline:
  class: FluxPipeline
  source: builtin:tiny-flux   # no weights
components:
  vae: resident\t# it must not move
  transformer: stream

run: {ASKED}
# the end""",
    "JSON": (
        '{"version":1,"pipeline":{"class":"StableDiffusionXLPipeline","source":"builtin:tiny-sdxl"},'
        '"components":{"unet":"stream"},"run":{"prompt":"a cat","height":64,"width":64,"num_inference_steps":'
        "2}}"
    ),
}
BUDGETS = {"flow": ("839MiB", "845MiB"), "block": ("838MiB", "841MiB"), "JSON": ("850MiB", "860MiB")}


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_PLANNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def fitted(text: str, vram: str) -> str:
    made = planner.fit(SourceText(name="x.plan.yaml", text=text), vram=vram, card="h200")
    return made.text


@pytest.mark.parametrize(
    "name", ["flow", *(pytest.param(n, marks=pytest.mark.wide) for n in PLANS if n != "flow")]
)
def test_a_fitted_plan_is_fitted_to_itself_and_to_another_budget_as_its_first_text(name: str) -> None:
    small, large = BUDGETS[name]
    first, other = (fitted(PLANS[name], vram) for vram in (small, large))
    assert first != other
    assert "# fit: wrote {" in first + other
    assert fitted(first, small) == first
    assert fitted(first, large) == other
    assert fitted(other, small) == first
    kept = [line for line in PLANS[name].splitlines() if line not in first.splitlines()]
    assert len(kept) <= (name == "JSON") + ("transformer: {policy: stream" in first)
    assert first.endswith("\n") == PLANS[name].endswith("\n")


def test_what_was_changed_by_hand_is_kept() -> None:
    made = fitted(PLANS["flow"], "2GiB")
    assert "\nidle: keep\n" in made
    by_hand = made.replace("\nidle: keep\n", "\nidle: release\n")
    again = planner.fit(SourceText(name="x.plan.yaml", text=by_hand), vram="2GiB", card="h200")
    assert "\nidle: release\n" in again.text
    assert "idle" not in dict(again.reasons)
    unmarked = "".join(line for line in made.splitlines(True) if "# fit: wrote" not in line)
    again = planner.fit(SourceText(name="x.plan.yaml", text=unmarked), vram="2GiB", card="h200")
    assert "\nidle: keep\n" in again.text
    assert "idle" not in dict(again.reasons)


def test_what_changes_the_picture_is_taken_back_where_it_is_no_longer_allowed() -> None:
    asked: dict[str, Any] = {"vram": "2GiB", "card": "h200"}
    tiled = PLANS["flow"].replace("version: 1", "# fit: wrote {components: {vae: {tiling: on}}}\nversion: 1")
    made = planner.fit(
        SourceText(name="x.plan.yaml", text=f"{tiled}components:\n  vae: {{tiling: on}}\n"), **asked
    )
    assert "picture same as without a plan" in made.text
    assert not any(one.tiling for one in made.plan.components.values())


@pytest.mark.parametrize(
    ("name", "mark", "end"),
    [("flow", "\ufeff", "\r\n"), pytest.param("block", "", "\r", marks=pytest.mark.wide)],
    ids=["CRLF", "CR"],
)
def test_the_file_keeps_its_ends_of_lines_mark_mode_and_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mark: str, end: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans").mkdir()
    real, link = Path("plans/x.plan.yaml"), Path("x.plan.yaml")
    real.write_bytes((mark + PLANS[name].replace("\n", end)).encode())
    real.chmod(0o640)
    link.symlink_to(real)
    asked = ("--card", "h200", "--vram", BUDGETS[name][0], "--force", "-o", str(link))
    expected = (mark + fitted(PLANS[name], BUDGETS[name][0]).replace("\n", end)).encode()
    for _ in range(2):
        assert run(["fit", str(link), *asked]) == 0
        assert real.read_bytes() == expected
        assert link.is_symlink()
        assert real.stat().st_mode & 0o777 == 0o640


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "", "# c "]), st.sampled_from(["\n", "\r\n", "\r"]))),
    st.booleans(),
    st.integers(0, 9),
)
def test_of_mixed_ends_those_of_kept_lines_stay(lines: list[tuple[str, str]], mark: bool, at: int) -> None:
    data = ("\ufeff" * mark + "".join(line + end for line, end in lines)).encode()
    text, found = decoded(data, "x", None)
    assert text is not None
    assert not found
    assert as_in(text.text, text).encode() == data
    there = text.text.splitlines(True)
    more = "".join([*there[:at], "new\n", *there[at:]])
    made = as_in(more, text).encode()
    again = next((made.replace(new, b"", 1) for new in (b"new\r\n", b"new\n", b"new\r") if new in made), b"")
    assert again == data


@pytest.mark.parametrize("kind", ["a link", "a folder", "a pipe"])
def test_what_is_no_plan_of_its_own_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("planner.cli.fit.fit", lambda *_, **__: pytest.fail("it was searched"))
    plan, out = tmp_path / "x.plan.yaml", tmp_path / "out.plan.yaml"
    plan.write_text(PLANS["flow"])
    if kind == "a link":
        (tmp_path / "other.plan.yaml").write_text("mine")
        out.symlink_to("other.plan.yaml")
    elif kind == "a folder":
        out.mkdir()
    else:
        os.mkfifo(out)
    assert run(["fit", str(plan), "--card", "h200", "--force", "-o", str(out)]) != 0
    assert {"a link": "P941"}.get(kind, "P919") in capsys.readouterr().out
    assert kind != "a link" or (tmp_path / "other.plan.yaml").read_text() == "mine"


@pytest.mark.wide
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of its sets, and however many threads torch has."""
    path = tmp_path / "x.plan.yaml"
    path.write_text(PLANS["flow"])
    made = []
    for seed, threads in (("1", "1"), ("2", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        env["OFFLOAD_PLANNER_CACHE"] = str(tmp_path / seed)
        asked = ["fit", str(path), "--vram", "839MiB", "--card", "h200"]
        done = subprocess.run(
            [sys.executable, "-m", "planner", *asked], env=env, capture_output=True, check=True
        )
        made.append(done.stdout)
    assert made[0] == made[1]
    assert made[0].decode() == fitted(PLANS["flow"], "839MiB")


def test_other_orders_of_keys_choose_the_same() -> None:
    text = PLANS["block"]
    turned = text.replace("  vae: resident\t# it must not move\n  transformer: stream\n", "").replace(
        "components:\n", "components:\n  transformer: stream\n  vae: resident\n"
    )
    one, other = (
        planner.fit(SourceText(name="x.plan.yaml", text=t), vram="841MiB", card="h200")
        for t in (text, turned)
    )
    assert one.reasons == other.reasons
    assert one.solution.found.settings == other.solution.found.settings
    assert one.plan.components["vae"].policy is Policy.RESIDENT
