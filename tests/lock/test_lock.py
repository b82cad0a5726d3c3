"""Locks: written, compared, and not believed where they were changed."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hollow import hollow_flux
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.cards.data import CardData
from planner.cards.shipped import FOLDER, card_at, names
from planner.cli.locks import kept_to
from planner.cli.main import run
from planner.document.schema import schema_text
from planner.loading.calibrations import keep, named
from planner.lock import known
from planner.lock.compare import differences
from planner.lock.model import Lock, lock_path
from planner.lock.read import parse_lock, read_lock
from planner.lock.words import words
from planner.predict.calibration import Calibration, MeasuredUse
from planner.schedule.card import imagined, imagined_as

PLAN = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux', dtype: bfloat16}
budget: {vram: 4MiB}
components:
  transformer: {policy: stream, resident: 50%}
run: {prompt: a cat, num_inference_steps: 4}
"""
COMMIT = "0123456789" * 4


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    return tmp_path


def lock() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("x.plan.lock.json").read_text())
    return found


def drifted(**how: Any) -> list[str]:
    result = planner.validate("x.plan.yaml", locked=True, **how)
    assert {d.code.id for d in result.errors} <= {"P954"}
    return [d.message for d in result.errors]


def edited(old: str, new: str) -> None:
    assert old in PLAN
    Path("x.plan.yaml").write_text(PLAN.replace(old, new))


def test_it_is_written_beside_the_plan_and_is_what_its_schema_says(here: Path) -> None:
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    first = Path("x.plan.lock.json").read_bytes()
    jsonschema.validate(lock(), json.loads(schema_text("lock.v1.schema.json")))
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert Path("x.plan.lock.json").read_bytes() == first
    assert planner.compile("x.plan.yaml").lock().to_json().encode() == first
    assert run(["compile", "x.plan.yaml", "--check"]) == 0
    assert run(["validate", "x.plan.yaml", "--locked"]) == 0
    assert lock()["pipeline"]["sequence"].startswith("text_encoder->")
    assert [stage["id"] for stage in lock()["pipeline"]["walk"]] == ["prompt", "image", "denoise", "decode"]


def test_other_processes_with_other_hashes_write_the_same_bytes(here: Path) -> None:
    made = set()
    for seed in ("1", "2"):
        code = "import planner; print(planner.compile('x.plan.yaml').lock().to_json())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(planner.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        made.add(done.stdout)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ("a/x.plan.yaml", "a/x.plan.lock.json"),
        ("x.plan.yml", "x.plan.lock.json"),
        ("y.yaml", "y.plan.lock.json"),
    ],
)
def test_its_name(plan: str, name: str) -> None:
    assert lock_path(plan) == Path(name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("vram: 4MiB", "vram: 5MiB", "budget vram: was 4.00 MiB, is 5.00 MiB"),
        ("resident: 50%", "resident: 25%", "placements transformer stays: was 1.16 MiB, is "),
        (
            "policy: stream, resident: 50%",
            "policy: offload",
            "placements transformer policy: was stream, is offload",
        ),
        ("dtype: bfloat16", "dtype: float32", "picture dtype: was bfloat16, is float32"),
        ("dtype: bfloat16", "dtype: float32", "components vae bytes: was 586.00 KiB, is 1.08 MiB"),
        ("FluxPipeline", "FluxImg2ImgPipeline", "pipeline class: was FluxPipeline, is FluxImg2ImgPipeline"),
        ("run:", "idle: keep\nrun:", "budget idle: was release, is keep"),
        ("components:\n", "components:\n  vae: {tiling: on}\n", "picture tiling vae: was none, is yes"),
        ("components:\n", "components:\n  vae: {slicing: on}\n", "picture slicing vae: was none, is yes"),
        ("num_inference_steps: 4", "num_inference_steps: 8", "totals moved: was 7.54 MiB, is "),
    ],
)
def test_drift_is_told_item_by_item(old: str, new: str, told: str, here: Path) -> None:
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    edited(old, new)
    assert any(line.startswith(told) for line in drifted())
    assert run(["compile", "x.plan.yaml", "--check"]) == 1
    assert run(["validate", "x.plan.yaml", "--locked"]) == 1
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert drifted() == []


def test_a_finding_stands_at_its_line(here: Path) -> None:
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    edited("vram: 4MiB", "vram: 5MiB")
    spans = [d.span for d in planner.validate("x.plan.yaml", locked=True).errors if "vram" in d.message]
    assert [span.line for span in spans if span] == [3]


def test_slicing_drifts_at_its_line(here: Path) -> None:
    """A plan of a lock that says nothing of slicing says it; then it says otherwise."""
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert "slicing" not in Path("x.plan.lock.json").read_text()
    for said, told, line in [
        ("  vae: {slicing: on}\n", "picture slicing vae: was none, is yes", 5),
        ("  vae: {slicing: off}\n", "picture slicing vae: was yes, is no", 5),
        ("", "picture slicing vae: was no, is none", 1),
    ]:
        edited("components:\n", f"components:\n{said}")
        (found,) = planner.validate("x.plan.yaml", locked=True).errors
        assert (found.message, found.code.id) == (told, "P954")
        assert found.span is not None
        assert found.span.line == line
        assert run(["compile", "x.plan.yaml", "--lock"]) == 0
        assert drifted() == []


@pytest.mark.parametrize(
    ("old", "new"), [("version: 1\n", "# a comment\n\nversion: 1\n"), ("a cat", "a dog")]
)
def test_what_changes_no_move_is_no_drift(old: str, new: str, here: Path) -> None:
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    edited(old, new)
    assert drifted() == []


def test_another_version_of_diffusers_is_told(here: Path) -> None:
    edited("version: 1", "version: 1\nrequires: {diffusers: '<0.42'}")
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert lock()["versions"]["diffusers"] == "0.41.0"
    Path("x.plan.yaml").write_text(PLAN)
    assert "versions diffusers: was 0.41.0, is 0.42.1" in drifted()


def test_a_class_that_runs_something_else_there_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.target import catalogue

    text = "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"
    Path("x.plan.yaml").write_text(text)
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    newer = copy.deepcopy(dict(catalogue._file("0.42.1")))
    record = newer["classes"]["FluxPipeline"]
    record["sequence"] = "text_encoder->transformer->vae"
    record["walk"] = [stage for stage in record["walk"] if stage["id"] != "image"]
    monkeypatch.setattr(catalogue, "_file", lambda version: newer)
    catalogue.find.cache_clear()
    try:
        told = drifted()
    finally:
        catalogue.find.cache_clear()
    assert any(line.startswith("pipeline sequence: was text_encoder->text_encoder_2") for line in told)
    assert any(line.startswith("pipeline walk: was ") for line in told)


def test_the_card_is_kept_and_another_is_told(here: Path) -> None:
    edited("budget: {vram: 4MiB}\n", "")
    assert run(["compile", "x.plan.yaml", "--card", "12GiB", "--lock"]) == 0
    assert lock()["card"]["total"] == 12 << 30
    assert drifted() == []
    assert "card total: was 12.00 GiB, is 24.00 GiB" in drifted(card=imagined(24 << 30))
    assert run(["compile", "x.plan.yaml", "--check", "--card", "24GiB"]) == 1


def codes() -> list[str]:
    return [d.code.id for d in planner.validate("x.plan.yaml", locked=True).errors]


def test_a_missing_lock_is_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codes() == ["P951"]
    for arguments in (["compile", "--check"], ["validate", "--locked"], ["apply", "--locked", "--simulate"]):
        verb, *options = arguments
        assert run([verb, "x.plan.yaml", *options]) == 1
        assert "P951" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "<<<<<<< HEAD\n{}\n",
        '{"format": 2, "digest": ""}',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        "\x00",
        "[" * 90000,
    ],
    ids=range(9),
)
def test_what_is_no_lock_is_said(text: str, here: Path) -> None:
    Path("x.plan.lock.json").write_text(text)
    assert codes() == ["P952"]


def test_one_that_lacks_something_is_said_though_its_digest_fits(here: Path) -> None:
    content = dict(planner.compile("x.plan.yaml").lock().content)
    del content["totals"]
    Path("x.plan.lock.json").write_text(Lock(content).to_json())
    assert codes() == ["P952"]


def test_a_folder_or_bytes_in_its_place_are_said(here: Path) -> None:
    Path("x.plan.lock.json").write_bytes(b"\xff\xfe{}")
    assert codes() == ["P952"]
    Path("x.plan.lock.json").unlink()
    Path("x.plan.lock.json").mkdir()
    assert codes() == ["P952"]


def test_line_ends_of_git_are_no_change(here: Path) -> None:
    data = planner.compile("x.plan.yaml").lock().to_json().encode()
    assert parse_lock(data.replace(b"\n", b"\r\n"), "x")[0] is not None


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from _paths(below, (*path, key))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("lock") / "x.plan.yaml"
    path.write_text(PLAN.replace("vram: 4MiB", "vram: 4GiB"))
    return planner.compile(path, card=imagined(12 << 30)).lock().to_json()


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


def test_tampering_at_every_key_is_found_and_is_a_difference(written: str) -> None:
    values = json.loads(written)
    for path in _paths(values):
        changed = copy.deepcopy(values)
        *above, last = path
        holder = changed
        for key in above:
            holder = holder[key]
        holder[last] = "tampered"
        data = (json.dumps(changed, indent=2) + "\n").encode()
        lock, found = parse_lock(data, "x")
        assert lock is None
        assert [d.code.id for d in found] == ["P952" if path == ("format",) else "P953"], path
        if path[0] not in ("format", "digest"):
            before = {k: v for k, v in values.items() if k not in ("format", "digest")}
            after = {k: v for k, v in changed.items() if k not in ("format", "digest")}
            if path[0] != "steps" or len(path) > 2:  # others are no steps: the schema refuses them
                assert differences(before, after), path


@settings(max_examples=150)
@given(data=st.data())
def test_no_edit_of_a_value_or_a_byte_is_believed(data: st.DataObject, written: str) -> None:
    values = json.loads(written)
    path = data.draw(st.sampled_from(sorted(_paths(values), key=str)))
    *above, last = path
    holder = values
    for key in above:
        holder = holder[key]
    before, after = holder[last], data.draw(VALUES)
    holder[last] = after
    if json.dumps(before) != json.dumps(after):
        lock, found = parse_lock((json.dumps(values, indent=2) + "\n").encode(), "x")
        assert lock is None
        assert found[0].code.id in ("P952", "P953")
    at = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.sampled_from('0a} "'))
    if written[at] != byte:
        assert parse_lock((written[:at] + byte + written[at + 1 :]).encode(), "x")[0] is None


def _hub(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository = here / "hub" / "models--somebody--flux"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    hollow_flux(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "hub"))
    Path("x.plan.yaml").write_text(
        "version: 1\npipeline: {class: FluxPipeline, source: somebody/flux, dtype: bfloat16}\n"
        "budget: {vram: 11GiB}\nrun: {prompt: a cat, num_inference_steps: 4}\n"
    )
    return repository


def test_of_a_hub_it_has_the_commit_and_the_sizes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = _hub(here, monkeypatch)
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert lock()["pipeline"]["commit"] == COMMIT
    assert lock()["components"]["transformer"]["bytes"] > 20 << 30
    repository.rename(here / "elsewhere")  # a machine without the cache
    assert drifted() == []
    assert not [d for d in planner.validate("x.plan.yaml", locked=True).diagnostics if d.code.strict]
    assert planner.validate("x.plan.yaml", locked=True, strict=True)
    found, _ = read_lock(Path("x.plan.lock.json"))
    assert planner.compile("x.plan.yaml", lock=found).schedule.peak == lock()["totals"]["peak"]
    plan = planner.load("x.plan.yaml", overrides=["budget.vram=20GiB"])
    assert "budget vram: was 11.00 GiB, is 20.00 GiB" in [
        d.message for d in planner.validate(plan, locked=True).errors
    ]
    too_small = planner.validate("x.plan.yaml", locked=True, overrides=["budget.vram=64MiB"])
    assert "P601" in [d.code.id for d in too_small.errors]


def test_without_a_cache_a_hub_is_locked_without_sizes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(here, monkeypatch).rename(here / "elsewhere")
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert lock()["pipeline"]["commit"] is None
    assert lock()["totals"]["peak"] is None
    assert drifted() == []


def test_the_locked_commit_is_what_apply_loads(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(here, monkeypatch)
    monkeypatch.setattr("planner.cli.locks._installed", lambda: "0.42.1")
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert kept_to(planner.load("x.plan.yaml"), None, ()).pipeline.revision == COMMIT


def test_apply_of_another_diffusers_is_told_before_anything_loads(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("planner.loading.pipeline.load_pipeline", never)
    monkeypatch.setattr("planner.cli.locks._installed", lambda: "0.41.0")
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert run(["apply", "x.plan.yaml", "--simulate", "--locked"]) == 1
    assert "versions diffusers: was 0.42.1, is 0.41.0 here [P954" in capsys.readouterr().out
    monkeypatch.setattr("planner.cli.locks._installed", lambda: "0.42.1")
    edited("resident: 50%", "resident: 25%")
    assert run(["apply", "x.plan.yaml", "--simulate", "--locked"]) == 1
    assert "placements transformer stays" in capsys.readouterr().out


def test_apply_as_locked_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.cli.locks._installed", lambda: "0.42.1")
    Path("x.plan.yaml").write_text(
        PLAN.replace("budget: {vram: 4MiB}\n", "").replace("a cat,", "a cat, height: 64, width: 64,")
    )
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    assert run(["apply", "x.plan.yaml", "--simulate", "--locked", "--out", "x.png"]) == 0
    assert Path("x.png").exists()


def test_checking_needs_no_torch(here: Path) -> None:
    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['diffusers'] = None\n"
        "from planner.cli.main import run\n"
        "assert run(['validate', 'x.plan.yaml', '--locked']) == 0\n"
        "assert run(['compile', 'x.plan.yaml', '--check']) == 0\n"
        "assert run(['diff', 'x.plan.yaml', 'x.plan.lock.json', '--exit-code']) == 0\n"
    )
    env = {"PYTHONPATH": str(Path(planner.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)


@pytest.mark.parametrize("option", ["--lock", "--check"])
def test_a_lock_is_of_a_file(option: str, here: Path) -> None:
    assert run(["compile", "-", option]) == 2
    assert run(["compile", "x.plan.yaml", option, "--target", "FluxPipeline"]) == 2
    assert not Path("x.plan.lock.json").exists()


def test_predicted_activations_are_in_it(here: Path) -> None:
    from planner.graph.activations import Activations

    assert run(["compile", "x.plan.yaml", "--lock"]) == 0
    predicted = {"transformer": Activations(reserved=1 << 20, needed=1 << 19)}
    content = planner.compile("x.plan.yaml", activations=predicted).lock().content
    assert content["prediction"] == {"activations": {"transformer": {"reserved": 1 << 20, "needed": 1 << 19}}}
    assert any(line.startswith("prediction: was none, is ") for line in drifted(activations=predicted))


SHIPPED = """\
version: 1
pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev, dtype: bfloat16}
budget: {vram: 11GiB}
run: {prompt: a cat, num_inference_steps: 28, height: 1024, width: 1024}
"""
"""Of a call that ships: a card whose rates are known forecasts it without torch."""
FORESEEN = ["compile", "x.plan.yaml", "--card", "rtx-4090"]


@pytest.fixture
def foreseen(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(here / "home"))
    Path("x.plan.yaml").write_text(SHIPPED)
    return here


def faster(data: CardData, factor: float = 2.0) -> CardData:
    return replace(data, bandwidth=data.bandwidth * factor)


def calibrate(seconds: float) -> Path:
    plan, card = planner.load("x.plan.yaml"), imagined_as(card_at("rtx-4090"))
    ships = planner.api.shipping(plan, card_at("rtx-4090").kernels)
    assert ships is not None
    assert ships.call is not None
    used = MeasuredUse(component="transformer", entry="", seconds=seconds)
    call = ships.call
    return keep(
        plan,
        call,
        card,
        Calibration(
            pipeline=call.pipeline,
            card=named(card),
            arguments=call.arguments,
            versions=call.versions,
            uses=(used,),
        ),
    )


def test_the_rates_that_a_forecast_went_by_are_kept(foreseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = card_at("rtx-4090")
    assert run([*FORESEEN, "--lock"]) == 0
    jsonschema.validate(lock(), json.loads(schema_text("lock.v1.schema.json")))
    assert lock()["card"]["data"] == {"name": data.name, "source": data.source, "digest": data.digest}
    assert lock()["calibration"] is None
    assert drifted() == []
    assert run([*FORESEEN, "--check"]) == 0
    monkeypatch.setattr(known, "find_card", lambda name: (faster(data), []))
    told = f"card data digest: was {data.digest}, is {faster(data).digest}"
    assert told in drifted()
    assert run(["validate", "x.plan.yaml", "--locked"]) == 1


def test_rates_that_decided_nothing_are_not_kept(here: Path) -> None:
    edited("budget: {vram: 4MiB}\n", "")
    assert run([*FORESEEN, "--lock"]) == 0
    assert "data" not in lock()["card"]


def test_a_card_of_ones_own_is_told_where_it_is_not_given(
    foreseen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (FOLDER / "rtx-4090.yaml").read_text(encoding="utf-8")
    Path("my.card.yaml").write_text(re.sub(r"^name: .*$", "name: mine", text, flags=re.M))
    assert run([*FORESEEN[:2], "--card", "my.card.yaml", "--lock"]) == 0
    assert any(line.startswith("card data: was name mine") and line.endswith("is none") for line in drifted())
    assert run([*FORESEEN[:2], "--card", "my.card.yaml", "--check"]) == 0
    assert drifted(card=imagined_as(card_at("my.card.yaml"))) == []


def test_a_lock_of_an_earlier_version_is_read_and_told_nothing_of_rates(foreseen: Path) -> None:
    assert run([*FORESEEN, "--lock"]) == 0
    content = {key: value for key, value in lock().items() if key not in ("format", "digest")}
    del content["card"]["data"]
    Path("x.plan.lock.json").write_text(Lock(content).to_json())
    assert drifted(card=imagined_as(card_at("rtx-4090"))) == []


def test_what_was_measured_is_kept_and_told(foreseen: Path) -> None:
    path = calibrate(0.5)
    assert run([*FORESEEN, "--lock"]) == 0
    jsonschema.validate(lock(), json.loads(schema_text("lock.v1.schema.json")))
    kept = lock()["calibration"]
    assert (kept["card"], kept["uses"]) == (card_at("rtx-4090").name, ["transformer"])
    assert kept["digest"] == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert drifted() == []
    assert run([*FORESEEN, "--check"]) == 0
    calibrate(0.6)
    now = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"calibration digest: was {kept['digest']}, is {now}" in drifted()
    path.unlink()
    assert any(line.startswith("calibration: was card RTX 4090, uses transformer") for line in drifted())
    assert run([*FORESEEN, "--check"]) == 1
    assert run([*FORESEEN, "--lock"]) == 0
    calibrate(0.5)  # nothing on this machine changes what a lock without it says
    assert drifted() == []
    assert run([*FORESEEN, "--check"]) == 1  # which is asked for this machine


def test_a_card_has_one_digest_however_it_is_laid_out(tmp_path: Path) -> None:
    text = (FOLDER / "h200.yaml").read_text(encoding="utf-8")
    path = tmp_path / "h200.yaml"
    path.write_text("# another comment\n" + text.replace("plan doctor", "plan  doctor"))
    assert card_at(str(path)).digest == card_at("h200").digest
    assert len({card_at(name).digest for name in names()}) == len(names())


def test_no_bytes_are_told_as_a_bare_number() -> None:
    """Of a plan with a card and a forecast, that has every section."""
    plan = planner.load(Path(__file__).parents[2] / "plans" / "flux-12gb.plan.yaml")
    call = planner.profile(plan, kernels=card_at("rtx-4090").kernels)
    made = planner.compile(plan, card="rtx-4090", call=call).lock().content

    def numbers(key: str, value: Any) -> Iterator[tuple[str, int]]:
        if isinstance(value, dict):
            for name, one in value.items():
                yield from numbers(name, one)
        elif isinstance(value, list) and key != "blocks":
            for one in value:
                yield from numbers(key, one)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value

    assert made["prediction"] is not None
    large = [(key, value) for key, value in numbers("", made) if value >= 1 << 16]
    assert {"reserved", "needed", "peak", "total"} <= {key for key, _ in large}
    assert not [key for key, value in large if words(key, value) == str(value)]
