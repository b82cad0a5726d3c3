"""``planner.fit`` and ``plan fit``: a plan's words are kept, what is open is chosen, and it is said why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.cards.shipped import card_at
from planner.cli.main import run
from planner.diagnostics.diagnostic import PlanError, Severity
from planner.fitting.edit import MARK, without_marks
from planner.fitting.fit import Fitted
from planner.fitting.frontier import budgets
from planner.fitting.relaxed import program_of, proven
from planner.fitting.solver import SolverFailed, solve
from planner.fitting.words import TWICE
from planner.plan.model import Idle, Policy
from planner.schedule.card import imagined_as
from planner.source.text import SourceText

MIB = 1 << 20
TINY = "builtin:tiny-flux"
VRAM = "840MiB"
"""Of it 765 MiB are an H200's context, and the least that fits is 834."""

PLAN = """\
# what I think of it
version: 1
name: mine   # a name
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}

components:
  # it must not move
  vae: resident
  transformer: {policy: stream, prefetch: 2}   # two

run: {prompt: a cat, height: 64, width: 64, num_inference_steps: 4}
"""


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_PLANNER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "mine.plan.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def fitted(mine: Path) -> Fitted:
    return planner.fit(mine, vram=VRAM, card="h200")


def codes(error: PlanError) -> list[str]:
    return [d.code.id for d in error.diagnostics]


def test_what_a_plan_says_is_kept_and_the_rest_is_told(mine: Path, fitted: Fitted) -> None:
    made = fitted
    kept = [line for line in PLAN.splitlines() if line not in made.text.splitlines()]
    assert kept == []
    assert made.plan.components["vae"].policy is Policy.RESIDENT
    assert made.plan.components["transformer"].prefetch == 2
    assert dict(made.reasons).keys() >= {"text_encoder", "text_encoder_2", "transformer", "idle"}
    for subject, why in made.reasons:
        assert f"{MARK}{subject}: {why}" in made.text
    assert planner.validate(made.plan)
    assert mine.read_text() == PLAN


def test_the_file_keeps_its_promise(fitted: Fitted) -> None:
    """Compiled as anybody would, it takes what its certificate says, and no plan is below the bound."""
    made = fitted
    again = planner.compile(
        made.plan, card=made.task.card, call=planner.profile(made.plan, kernels=made.task.data.kernels)
    )
    assert again.forecast is not None
    assert again.forecast.seconds == pytest.approx(made.seconds, abs=2e-6)
    assert again.forecast.fits
    assert made.bound <= made.seconds
    program = program_of(made.solution.problem)
    assert proven(program, solve(program).multipliers) <= made.seconds


def test_the_same_inputs_give_the_same_bytes(mine: Path, fitted: Fitted) -> None:
    assert planner.fit(mine, vram=VRAM, card="h200").text == fitted.text


def test_what_was_chosen_is_said_by_then(fitted: Fitted) -> None:
    again = planner.fit(fitted.plan, card="h200")
    assert again.seconds <= fitted.seconds * 1.001
    said = without_marks(fitted.text).splitlines()
    assert [line for line in said if line not in again.text.splitlines()] == []
    assert again.text.count("s predicted for a call") == 1


def test_where_the_device_is_to_be_empty_nothing_is_placed(mine: Path) -> None:
    made = planner.fit(mine, vram=VRAM, card="h200", idle="release")
    assert made.plan.idle is Idle.RELEASE
    placed = [n for n, p in made.compiled.schedule.placements.items() if p.policy is Policy.RESIDENT]
    assert placed == ["vae"]


def test_a_class_a_folder_and_a_plan_are_taken(tmp_path: Path) -> None:
    made = planner.fit(TINY, vram=VRAM, card="h200", run={"height": 64, "width": 64})
    assert made.plan.pipeline.cls == "FluxPipeline"
    assert made.plan.run == {"prompt": "a cat", "height": 64, "width": 64}
    path = made.save(tmp_path / "tiny.plan.yaml")
    assert planner.validate(path)
    with pytest.raises(FileExistsError):
        made.save(path)


def test_the_first_call_may_be_what_counts(mine: Path) -> None:
    made = planner.fit(mine, vram=VRAM, card="h200", objective="first")
    assert made.compiled.forecast is not None
    assert made.compiled.forecast.first == pytest.approx(made.seconds, abs=2e-6)
    assert "predicted for the first call" in made.text


def test_without_a_solver_there_is_a_weaker_bound(
    mine: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = fitted
    monkeypatch.setattr("planner.fitting.solver.installed", lambda: False)
    monkeypatch.setattr("planner.fitting.fit.installed", lambda: False)
    made = planner.fit(mine, vram=VRAM, card="h200")
    assert [d.code.id for d in made.diagnostics] == ["P993"]
    assert made.bound <= best.bound + 1e-6
    assert "no solver" in made.text


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("mine", {"vram": "770MiB"}),
        pytest.param(
            TINY,
            {"vram": "770MiB", "run": {"height": 64, "width": 64}, "allow": ("tiling",)},
            marks=pytest.mark.wide,
        ),
        pytest.param(
            "builtin:tiny-sdxl",
            {"vram": "780MiB", "run": {"height": 128, "width": 128}, "idle": "keep"},
            marks=pytest.mark.wide,
        ),
    ],
)
def test_what_does_not_fit_is_told_with_the_least_that_would(
    mine: Path, source: str, asked: dict[str, Any]
) -> None:
    """In it a plan is found, and in one MiB less none; each finding is about what was asked, or the file."""
    given = mine if source == "mine" else source
    with pytest.raises(PlanError) as caught:
        planner.fit(given, card="h200", **asked)
    said = next(d for d in caught.value.diagnostics if d.code.id == "P991")
    least = int(said.hint.split("MiB")[0])
    planner.fit(given, card="h200", **asked | {"vram": f"{least}MiB"})
    with pytest.raises(PlanError) as below:
        planner.fit(given, card="h200", **asked | {"vram": f"{least - 1}MiB"})
    assert f"{least}MiB is the least" in next(d.hint for d in below.value.diagnostics if d.code.id == "P991")
    texts = {text.name: text.text.splitlines() for text in caught.value.sources}
    for one in caught.value.diagnostics:
        assert one.span is not None
        line = texts[one.span.file][one.span.line - 1]
        assert asked["vram"] in line[one.span.column - 1 :]
    if source == "mine":
        assert texts[str(mine)] == PLAN.splitlines()


@pytest.mark.parametrize("over", [1, *(pytest.param(mib, marks=pytest.mark.wide) for mib in (4, 15)), 25])
def test_memory_that_holds_not_even_the_workspace_is_told(mine: Path, over: int) -> None:
    """Beside the context: weights could be streamed through it, and libraries have no room for theirs."""
    card = imagined_as(card_at("h200"))
    vram = f"{card.room(planner.load(mine), 0)[0].overhead // MIB + over}MiB"
    with pytest.raises(PlanError) as caught:
        planner.fit(mine, vram=vram, card=card)
    assert "P991" in codes(caught.value)
    call = planner.profile(planner.load(mine))
    try:
        told = planner.compile(mine, overrides=[f"budget.vram={vram}"], card=card, call=call).forecast
    except PlanError:
        return
    assert told is not None
    assert not told.fits
    assert told.short


def test_warnings_of_what_is_written_are_told() -> None:
    """As ``plan validate`` has them for the same card."""
    made = planner.fit(TINY, vram="10000GiB", card="h200", overrides=["run.height=64", "run.width=64"])
    told = planner.validate(made.plan, card=imagined_as(card_at("h200"))).warnings
    assert told
    assert [one for one in made.diagnostics if one.severity is Severity.WARNING] == [*told]


def test_a_size_has_no_rates(mine: Path) -> None:
    from planner.schedule.card import imagined

    with pytest.raises(PlanError) as caught:
        planner.fit(mine, card=imagined(12 << 30))
    assert codes(caught.value) == ["P992"]


@pytest.mark.wide
def test_what_changes_the_picture_is_chosen_where_it_is_allowed(tmp_path: Path) -> None:
    """The decoder's activations are what does not fit."""
    asked: dict[str, Any] = {"vram": "900MiB", "card": "h200", "run": {"height": 768, "width": 768}}
    with pytest.raises(PlanError) as caught:
        planner.fit("builtin:tiny-sdxl", **asked)
    assert "P991" in codes(caught.value)
    made = planner.fit("builtin:tiny-sdxl", **asked, allow=("tiling",))
    assert made.plan.components["vae"].tiling
    assert "picture changed by vae tiling" in made.text


@pytest.mark.wide
def test_several_are_decoded_one_at_a_time_where_it_is_allowed() -> None:
    asked: dict[str, Any] = {"vram": "1GiB", "card": "h200"}
    asked["run"] = {"height": 512, "width": 512, "num_images_per_prompt": 4}
    with pytest.raises(PlanError) as caught:
        planner.fit("builtin:tiny-sdxl", **asked)
    assert "P991" in codes(caught.value)
    made = planner.fit("builtin:tiny-sdxl", **asked, allow=("slicing", "tiling"))
    assert made.plan.components["vae"].vae_options == {"slicing": True}
    assert "picture same as without a plan; vae slicing may round otherwise" in made.text


@pytest.mark.wide
def test_where_there_is_room_no_picture_is_changed() -> None:
    made = planner.fit(TINY, vram="2GiB", card="h200", allow=("tiling",))
    assert made.plan.components.keys() <= {"text_encoder", "text_encoder_2", "transformer", "vae"}
    assert not any(said.tiling for said in made.plan.components.values())
    assert "picture same as without a plan" in made.text


def plan_fit(*arguments: str, capsys: Any) -> tuple[int, str, str]:
    code = run(["fit", *arguments])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_where_the_frontier_goes_is_judged_before_the_search(
    mine: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for what the plan reads, which --force does not write over."""
    monkeypatch.chdir(mine.parent)
    monkeypatch.setattr("planner.cli.fit.fit", lambda *_, **__: pytest.fail("it was searched"))
    Path("there.svg").write_text("mine")
    Path("in.png").write_bytes(b"x")
    text = "version: 1\npipeline: {class: FluxImg2ImgPipeline, source: 'builtin:tiny-flux'}\n"
    Path("image.plan.yaml").write_text(f"{text}run: {{prompt: a cat, image: in.png}}\n")
    asked = ("--card", "h200", "--vram", VRAM)
    for more, said in (
        (["nodir/x.svg"], "P919"),
        (["x.pdf"], "P943"),
        (["there.svg"], "P940"),
        (["new.svg", "-o", "./new.svg"], "P918"),
    ):
        code, out, err = plan_fit(mine.name, *asked, "--frontier", *more, capsys=capsys)
        assert code != 0
        assert said in (out if "-o" in more else err)
    code, out, err = plan_fit("image.plan.yaml", *asked, "--force", "--frontier", "in.png", capsys=capsys)
    assert code == 2
    assert out == ""
    assert "P941" in err


def test_on_the_command_line(
    mine: Path, fitted: Fitted, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    asked = ("mine.plan.yaml", "--vram", VRAM, "--card", "h200")
    code, out, err = plan_fit(*asked, "-o", "best.plan.yaml", capsys=capsys)
    assert code == 0
    assert "wrote best.plan.yaml" in err
    assert "s predicted for a call" in out
    assert Path("best.plan.yaml").read_text() == fitted.text
    assert run(["validate", "best.plan.yaml"]) == 0
    for refused, said in (
        (("-o", "best.plan.yaml"), "P940"),
        (("-o", "mine.plan.yaml"), "P941"),
        (("--allow", "magic"), "magic"),
        (("--run", "height"), "KEY=VALUE"),
        (("--frontier", "x.pdf"), "P943"),
    ):
        code, out, err = plan_fit(*asked, *refused, capsys=capsys)
        assert code == 2, refused
        assert said in out + err
    assert mine.read_text() == PLAN


@pytest.mark.wide
def test_the_frontier_is_a_table_and_a_picture(mine: Path, capsys: Any) -> None:
    """Beside the plan: on stderr where that is all of stdout."""
    pictures, plan = [mine.parent / name for name in ("f.svg", "g.svg")], mine.parent / "f.plan.yaml"
    asked = (str(mine), "--vram", VRAM, "--card", "h200", "--frontier")
    code, printed, beside = plan_fit(*asked, str(pictures[0]), capsys=capsys)
    assert code == 0
    code, out, err = plan_fit(*asked, str(pictures[1]), "-o", str(plan), capsys=capsys)
    assert code == 0
    assert printed == plan.read_text()
    for said, other in ((beside, printed), (out, err)):
        assert "2 GiB more than" in said
        assert "2 GiB more than" not in other
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert pictures[0].read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("budget", ["{vram: 840MiB}", "\n  vram: 840MiB\n  ram: 2GiB  # of it", "{}"])
def test_vram_auto_is_what_the_card_has_whatever_the_plan_says(
    tmp_path: Path, capsys: Any, budget: str
) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(f"{PLAN}budget: {budget}\n")
    code, out, _ = plan_fit(str(path), "--vram", "auto", "--card", "h200", capsys=capsys)
    assert code == 0
    assert "vram" not in out
    assert planner.load(SourceText(name="x", text=out)).budget.vram is None
    assert ("ram: 2GiB  # of it" in out) == ("ram: 2GiB" in budget)


@pytest.mark.parametrize(("least", "most"), [(3 << 20, 90 << 20), (5 << 30, 40 << 30), (7, 7)])
def test_budgets_go_from_the_least_to_the_most(least: int, most: int) -> None:
    found: Sequence[int] = budgets(least, most, (least + 1, least - 1))
    assert found == sorted(set(found))
    assert found[0] == least
    assert found[-1] >= most
    assert least + 1 in found


def test_rules_that_are_there_are_kept(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "ruled.plan.yaml"
    path.write_text(PLAN + "quantization: [{component: transformer, backend: layerwise_cast}]\n")
    made = planner.fit(path, vram=VRAM, card="h200", allow=("quantization",))
    assert [d.code.id for d in made.diagnostics] == ["P995"]
    assert [rule.backend for rule in made.plan.quantization] == ["layerwise_cast"]


SHIPS = """\
version: 1
pipeline:
  class: StableDiffusionPipeline
  source: stable-diffusion-v1-5/stable-diffusion-v1-5
  dtype: float16
run: {prompt: a cat}
"""


def test_what_cannot_be_traced_here_is_not_tried_and_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and calls ship, and there are no configs: a call in tiles is another one."""
    monkeypatch.setattr("planner.tracing.hollow.cached", lambda *_: None)
    path = tmp_path / "x.plan.yaml"
    path.write_text(SHIPS)
    usual = planner.fit(path, vram="4GiB", card="rtx-4090")
    for allow in (("tiling",), ("slicing", "tiling", "dtype", "quantization")):
        made = planner.fit(path, vram="4GiB", card="rtx-4090", allow=allow)
        assert made.seconds <= usual.seconds
        (note,) = (d for d in made.diagnostics if d.code.id == "P995")
        assert "in tiles" in note.message
        assert note.hint.startswith("hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include")
    with pytest.raises(PlanError) as error:
        planner.fit(path, vram="700MiB", card="rtx-4090", allow=("tiling",))
    found = [d.code.id for d in error.value.diagnostics]
    assert found[0] == "P991"
    assert "P995" in found
    assert "P996" not in found


@pytest.mark.parametrize(
    ("source", "more", "code", "hint"),
    [
        ("FluxPipelin", [], "P351", "FluxPipeline"),
        ("x.plan.yaml", ["--run", "heigth=512"], "P915", "height"),
        ("x.plan.yaml", ["--set", "components.unte=stream"], "P302", "unet"),
        ("x.plan.yaml", ["--set", "pipeline.class=FluxPipelin"], "P351", "FluxPipeline"),
    ],
)
def test_what_is_wrong_with_the_plan_is_told_before_what_is_not_here(
    source: str, more: list[str], code: str, hint: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """Configs of a pipeline are not what a misspelt name needs."""
    monkeypatch.setattr("planner.tracing.hollow.cached", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(SHIPS)
    assert run(["fit", source, "--card", "rtx-4090", "--vram", "8GiB", *more]) == 1
    err = capsys.readouterr().err
    assert code in err
    assert f'did you mean "{hint}"?' in err
    assert "hf download" not in err


def test_a_solver_that_fails_is_told(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(program: object) -> None:
        raise SolverFailed("HiGHS ended with Unknown")

    monkeypatch.setattr("planner.fitting.bound.solve", fails)
    with pytest.raises(PlanError) as caught:
        planner.fit(mine, vram=VRAM, card="h200")
    assert codes(caught.value) == ["P994"]


@pytest.mark.wide
def test_what_runs_with_an_allocation_tried_twice_is_not_refused() -> None:
    run_it: dict[str, Any] = {"height": 512, "width": 512}
    made = planner.fit("builtin:tiny-sdxl", vram="906MiB", card="h200", run=run_it)
    assert [d.code.id for d in made.diagnostics] == ["P996"]
    assert made.compiled.forecast is not None
    assert not made.compiled.forecast.fits
    assert f"# fit: {TWICE}\n" in made.text
    roomy = planner.fit("builtin:tiny-sdxl", vram="2GiB", card="h200", run=run_it)
    assert TWICE not in roomy.text
