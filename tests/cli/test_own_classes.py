"""Pipelines of one's own class from the command line: shown with --from, kept in a catalogue, or unknown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.loading.builtin import builtin_folder

MODULE = Path(__file__).parents[1] / "generate" / "own.py"
PLAN = "version: 1\npipeline: {class: OmniGen2Pipeline}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_own.py").write_text(MODULE.read_text())
    (tmp_path / "x.plan.yaml").write_text(PLAN + "run: {prompt: a cat, num_inference_steps: 2}\n")
    (tmp_path / "renamed.plan.yaml").write_text(PLAN.replace("OmniGen2Pipeline", "Renamed"))
    (tmp_path / "ordered.plan.yaml").write_text(PLAN + "order: enc -> net -> dec\n")
    sys.modules.pop("mine_own", None)
    return tmp_path


SHOWN = ["--from", "mine_own:OmniGen2Pipeline"]


def test_a_near_name_is_an_error_only_where_nothing_says_what_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", "x.plan.yaml"]) == 1
    assert 'did you mean "OmniGenPipeline"?' in capsys.readouterr().out
    assert run(["validate", "ordered.plan.yaml"]) == 0
    assert run(["validate", "x.plan.yaml", *SHOWN]) == 0
    assert run(["explain", "x.plan.yaml", *SHOWN]) == 0
    out = capsys.readouterr().out
    assert "denoise" in out
    assert "guide" in out


@pytest.mark.parametrize("verb", ["explain", "compile"])
def test_an_ignored_finding_does_not_hide_the_result(
    verb: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PLAN + "order: enc -> net -> dec\n").replace("}\n", "}  # plan: ignore[P351]\n", 1)
    (here / "ordered.plan.yaml").write_text(text)
    assert run([verb, "ordered.plan.yaml"]) == 0
    out = capsys.readouterr().out
    assert "net" in out
    assert "P351 unknown-class" not in out
    (here / "x.plan.yaml").write_text(PLAN.replace("}\n", "}  # plan: ignore[P351]\n"))
    assert run([verb, "x.plan.yaml"]) == 1
    assert "OmniGen2Pipeline" in capsys.readouterr().out


def test_nothing_to_compile_is_an_error_and_not_an_empty_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", "renamed.plan.yaml"]) == 0
    assert run(["explain", "renamed.plan.yaml"]) == 1
    assert "P402" in capsys.readouterr().out
    assert run(["compile", "renamed.plan.yaml", "--from", "mine_own:Renamed"]) == 0


def test_run_is_checked_against_its_own_call(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "run: {boots: 1, num_inference_steps: two, tint: 3, shade: 0.5}"
    (here / "x.plan.yaml").write_text(f"{PLAN}{wrong}\n")
    assert run(["validate", "x.plan.yaml", *SHOWN]) == 1
    out = capsys.readouterr().out
    assert 'needs an argument "prompt"' in out
    assert 'takes no argument "boots"' not in out  # five letters of its own: **kwargs may take it
    assert '"num_inference_steps" takes a whole number' in out
    assert "tint" not in out.replace(wrong, "")


@pytest.mark.parametrize("slip", ["hieght", "heigth", "guidance_sacle", "num_inference_step", "promtp"])
def test_a_slip_is_an_error_where_kwargs_would_swallow_it(
    slip: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "x.plan.yaml").write_text(
        f"version: 1\npipeline: StableDiffusionPipeline\nrun: {{prompt: a, {slip}: 3}}\n"
    )
    assert run(["validate", "x.plan.yaml"]) == 1
    assert f'takes no argument "{slip}"' in capsys.readouterr().out


@pytest.mark.parametrize(("name", "meant"), [("wdith", "width"), ("mask", None), ("prompt_3", "prompt")])
def test_what_kwargs_may_take_is_a_warning_with_what_is_near(
    name: str, meant: str | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "x.plan.yaml").write_text(
        f"version: 1\npipeline: StableDiffusionPipeline\nrun: {{prompt: a, {name}: 3}}\n"
    )
    (found,) = planner.validate("x.plan.yaml").warnings
    assert found.code.name == "unknown-argument"
    assert found.hint == (f'did you mean "{meant}"?' if meant else "")


def test_a_catalogue_is_deterministic_and_needs_no_code(here: Path) -> None:
    names = ["mine_own:OmniGen2Pipeline", "mine_own:Renamed"]
    assert run(["catalogue", *names, "-o", "a.json"]) == 0
    assert run(["catalogue", *reversed(names), "-o", "b.json"]) == 0
    assert (here / "a.json").read_bytes() == (here / "b.json").read_bytes()
    said = json.loads((here / "a.json").read_text())
    assert {"offload-planner", "torch", "transformers"} <= set(said["versions"])
    code = (
        "import sys, planner; r = planner.validate('x.plan.yaml', catalogue='a.json');"
        "assert r and not r.warnings;"
        "bad = {'torch', 'diffusers', 'mine_own'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("verb", ["validate", "explain", "compile"])
def test_every_verb_takes_a_catalogue(verb: str, here: Path) -> None:
    assert run(["catalogue", "mine_own:OmniGen2Pipeline", "-o", "a.json"]) == 0
    assert run([verb, "x.plan.yaml", "--catalogue", "a.json"]) == 0
    (here / "a.json").write_text("{}")
    assert run([verb, "x.plan.yaml", "--catalogue", "a.json"]) == 1


def test_translate_where_the_class_can_be_seen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogue", "mine_own:OmniGen2Pipeline", "-o", "a.json"]) == 0
    capsys.readouterr()
    for more in (SHOWN, ["--catalogue", "a.json"]):
        assert run(["translate", "enc->dec", "--class", "OmniGen2Pipeline", *more]) == 0
        assert "order: enc -> dec" in capsys.readouterr().out
    assert run(["translate", "--improve", *SHOWN]) == 0
    out = capsys.readouterr().out
    assert "OmniGen2Pipeline of mine_own" in out
    assert "runs: [guide, net], loop: steps" in out
    assert run(["translate", "enc->dec", "--class", "OmniGen2Pipeline"]) != 0


def test_improve_does_not_invent_an_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "own").mkdir()
    index = {"_class_name": "Unseen", "scheduler": ["mine", "AScheduler"]}
    (here / "own" / "model_index.json").write_text(json.dumps(index))
    assert run(["translate", "own", "--improve"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert 'what runs in a "Unseen" is not known' in err


def test_apply_of_an_unknown_class(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x", "ordered"):
        (here / f"{name}.plan.yaml").open("a").write("" if name == "x" else "run: {prompt: a cat}\n")
        run(["apply", f"{name}.plan.yaml", "--simulate", "--from", "mine_own:make"])
        out = capsys.readouterr().out
        assert "peak" in out
        assert "P351" not in out.split("stage")[0]


@pytest.mark.parametrize(
    ("spec", "code"), [("mine_own:Net", 1), ("mine_own:Gone", 2), ("gone:X", 2), ("mine_own", 2)]
)
def test_code_that_is_none(spec: str, code: int, here: Path) -> None:
    assert run(["validate", "x.plan.yaml", "--from", spec]) == code
    assert run(["catalogue", spec]) == code


def test_in_python(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    import mine_own  # type: ignore[import-not-found]

    cls = mine_own.OmniGen2Pipeline
    assert planner.validate("x.plan.yaml", target=cls)
    assert [s.id for s in planner.compile("x.plan.yaml", cls).graph.walk] == ["enc", "denoise", "dec"]
    assert [s.id for s in planner.translate(cls, improve=True).stages or ()] == ["enc", "denoise", "dec"]
    assert planner.translate("enc->net", cls=cls).pipeline.cls == "OmniGen2Pipeline"
    text = planner.catalogue(cls, out="c.json")
    assert Path("c.json").read_text() == text
    assert planner.validate("x.plan.yaml", catalogue="c.json")
    for pipe in (mine_own.make(), mine_own.make_renamed()):
        improved = planner.translate(pipe, improve=True)
        assert [str(use) for stage in improved.stages or () for use in stage.runs] == ["enc", "net", "dec"]
        session = planner.apply(improved, pipe, device="sim:0")
        pipe("a cat", num_inference_steps=2)
        assert session.report().measured.departures == ()
        session.remove()


SAVED = """\
from diffusers import StableDiffusionXLPipeline


class MySDXLPipeline(StableDiffusionXLPipeline):
    \"\"\"A subclass, as people publish them beside their weights.\"\"\"


def make():
    return MySDXLPipeline.from_pretrained("sdxl")
"""


@pytest.fixture
def saved(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that was saved by a class of one's own, and a plan for it."""
    shutil.copytree(builtin_folder("tiny-sdxl"), here / "sdxl")
    index = here / "sdxl" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "MySDXLPipeline"}))
    (here / "mine_saved.py").write_text(SAVED)
    monkeypatch.delitem(sys.modules, "mine_saved", raising=False)
    (here / "saved.plan.yaml").write_text(
        "version: 1\npipeline: {class: MySDXLPipeline, source: ./sdxl}\n"
        "run: {prompt: a, num_inference_steps: 1, height: 64, width: 64}\n"
    )
    return here


@pytest.mark.parametrize("code", ["mine_saved:MySDXLPipeline", "mine_saved:make"])
def test_apply_a_saved_folder_by_the_class_that_it_was_saved_by(
    code: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", "saved.plan.yaml", "--simulate", "--from", code, "--out", "cat.png"]) == 0
    out = capsys.readouterr().out
    assert "misses   none" in out
    assert "denoise" in out
    assert (saved / "cat.png").stat().st_size


def test_apply_with_a_catalogue_of_ones_own(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogue", "mine_saved:MySDXLPipeline", "-o", "my.catalogue.json"]) == 0
    given = ["--catalogue", "my.catalogue.json"]
    assert run(["validate", "saved.plan.yaml", *given]) == 0
    capsys.readouterr()
    assert run(["apply", "saved.plan.yaml", "--simulate", *given, "--from", "mine_saved:make"]) == 0
    out = capsys.readouterr().out
    assert "misses   none" in out
    assert "warning" not in out
    wrong = ["--set", "run.num_inference_step=3"]
    assert run(["apply", "saved.plan.yaml", "--simulate", *given, "--from", "mine_saved:make", *wrong]) == 1
    assert 'did you mean "num_inference_steps"?' in capsys.readouterr().out
    assert run(["apply", "saved.plan.yaml", "--simulate", "--catalogue", "none.json"]) in (1, 2)


@pytest.mark.parametrize("text", ["", "run: {}\n"])
def test_apply_without_run_lacks_what_the_call_needs_before_weights(
    text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """validate takes it: the plan may be for a script that calls the pipeline itself."""
    (here / "x.plan.yaml").write_text(PLAN + text)
    assert run(["validate", "x.plan.yaml", *SHOWN]) == 0
    capsys.readouterr()
    assert run(["apply", "x.plan.yaml", "--simulate", *SHOWN]) in (1, 4)
    assert 'needs an argument "prompt"' in capsys.readouterr().out


def test_a_catalogue_is_written_over_no_other_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / "x.plan.yaml").read_text()
    assert run(["catalogue", "mine_own:OmniGen2Pipeline", "-o", "x.plan.yaml"]) != 0
    assert "P940" in capsys.readouterr().out
    assert (here / "x.plan.yaml").read_text() == before


def test_a_class_that_names_no_component_is_told_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was seen, so that seeing it is not what is wanted."""
    (here / "mine_own.py").write_text(
        MODULE.read_text()
        + "\n\nclass Nameless(OmniGen2Pipeline):\n    def __init__(self, **parts):\n        pass\n"
    )
    (here / "x.plan.yaml").write_text("version: 1\npipeline: Nameless\n")
    shown = ["--from", "mine_own:Nameless"]
    assert run(["validate", "x.plan.yaml", *shown]) == 1
    assert run(["translate", "--improve", *shown]) == 1
    told = "".join(capsys.readouterr())
    assert told.count("P402") == 2
    assert told.count("takes no component by name") == 2
    assert "is seen with --from" not in told
