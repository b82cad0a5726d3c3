"""``plan batch``: rows checked at once, outputs published once, resumed by what is on disk."""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.batches.check import derived_seed
from planner.batches.disk import held
from planner.batches.metrics import metrics
from planner.batches.results import write_results
from planner.cli.main import run

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""
BATCH = ["batch", "x.plan.yaml", "--simulate", "--out", "out", "--inputs"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    Path("r.jsonl").write_text('{"id": "a"}\n{"id": "b", "prompt": "a\\ndog", "seed": 7}\n')
    return tmp_path


def codes(inputs: str | Path, **options: Any) -> set[str]:
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", inputs, "out", simulate=True, **options)
    return {d.code.id for d in raised.value.diagnostics}


def results() -> dict[str, dict[str, object]]:
    return {r["id"]: r for r in map(json.loads, Path("out/results.jsonl").read_text().splitlines())}


def test_outputs_seeds_and_a_second_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*BATCH, "r.jsonl", "--metrics", "x.prom"]) == 0
    assert 'offload_plan_batch_rows_done_total{plan="x"} 2.0' in Path("x.prom").read_text()
    first = {p.name: p.read_bytes() for p in Path("out").glob("*.png")}
    assert {*first} == {"a.png", "b.png"}
    assert results()["a"]["seed"] == derived_seed(3, "a")
    assert results()["b"]["seed"] == 7
    os.unlink("out/b.png")
    assert run([*BATCH, "r.jsonl"]) == 0
    assert "1 done, 1 finished before, 0 failed, 0 left" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in Path("out").glob("*.png")} == first
    assert run([*BATCH, "r.jsonl", "--set", "run.num_inference_steps=2"]) == 2
    assert "P965" in capsys.readouterr().out
    assert run([*BATCH, "r.jsonl", "--set", "run.num_inference_steps=2", "--force"]) == 0
    assert Path("out/a.png").read_bytes() != first["a.png"]


def test_rows_of_parquet_and_their_places(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"id": ["a", "b"], "height": [64, None], "prompt": ["x", "y"]})
    parquet.write_table(table, "r.parquet")
    assert planner.batch("x.plan.yaml", "r.parquet", "out", simulate=True, dry_run=True).left == 2
    parquet.write_table(table.set_column(0, "id", pa.array(["a", "../b"])), "r.parquet")
    assert run([*BATCH, "r.parquet"]) == 1
    assert "r.parquet:2:1: " in capsys.readouterr().out
    Path("r.parquet").write_bytes(b"no")
    assert codes("r.parquet") == {"P962"}


def test_figures_for_prometheus(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    path = here / "batch.prom"
    measure = metrics(path, "x", 3)
    measure({"seconds": 2.0, "peak": 5, "moved": 7}, True)
    measure({"seconds": 3.0, "peak": 4, "moved": 1}, True)
    measure({"seconds": None, "peak": None, "moved": None}, False)
    families = parser.text_string_to_metric_families(path.read_text())
    found = {sample.name: sample.value for family in families for sample in family.samples}
    said = {"rows_done_total": 2, "rows_failed_total": 1, "rows_left": 0, "row_seconds_sum": 5}
    said |= {"row_seconds_count": 2, "weights_peak_bytes": 5, "moved_bytes_total": 8}
    assert {name: found[f"offload_plan_batch_{name}"] for name in said} == said
    assert found["offload_plan_batch_rows_per_minute"] > 0
    path.unlink()
    path.mkdir()
    measure({"seconds": 2.0, "peak": 5, "moved": 7}, True)  # the rows go on
    assert codes("r.jsonl", metrics=path) == {"P919"}
    monkeypatch.setattr("planner.batches.metrics.find_spec", lambda name: None)
    assert codes("r.jsonl", metrics=path) == {"P983"}
    assert not list(here.glob("out/*.png"))


def test_results_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    record = {"id": "a", "status": "done", "seed": 1 << 63, "seconds": 0.5, "peak": 3, "moved": 4}
    record |= {"outputs": ["a-0.png", "a-1.png"], "digest": "d", "finding": None, "key": "k"}
    empty = dict.fromkeys(["seconds", "peak", "moved", "digest"])
    failed = record | empty | {"id": "b", "outputs": [], "finding": {"code": "P004", "message": "no"}}
    with held(tmp_path) as folder:
        folder.keep(record)
        folder.keep(failed)
        path = write_results(folder, ["b", "c", "a"])
        assert parquet.read_table(tmp_path / "results.parquet").to_pylist() == [failed, record]
        assert [json.loads(line) for line in path.read_text().splitlines()] == [failed, record]
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        write_results(folder, ["a"])
        assert not (tmp_path / "results.parquet").exists()


def test_all_bad_rows_at_once_with_their_places(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.jsonl").write_text('{"id": "a", "promt": "x"}\n{"id": "../b", "height": "x"}\n{"id": \n')
    assert run([*BATCH, "bad.jsonl"]) == 1
    out = capsys.readouterr().out
    for said in ("bad.jsonl:1:13: ", "bad.jsonl:2:2: ", "bad.jsonl:2:16: ", "bad.jsonl:3:8: "):
        assert said in out
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"id": "con.x"}', "P961"),
        ('{"id": "x"}\n{"id": "X"}', "P961"),
        ('{"id": "x"}\n{"id": "x-0"}', "P961"),
        ('{"prompt": "x"}\n{"prompt": "x"}', "P961"),
        ('{"id": "x", "id": "y"}', "P960"),
        ('{"guidance_scale": NaN}', "P960"),
        ("[1]", "P960"),
        ('{"prompt": "' + "x" * (1 << 20) + '"}', "P960"),
        ('{"seed": -1}', "P916"),
        ('{"id": true}', "P961"),
        ('{"id": -5}', "P961"),
        ('{"id": 5}\n{"id": "5"}', "P961"),
        ('{"id": "x", "prompt;seed": "x"}', "P915"),
    ],
)
def test_rows_that_are_refused(text: str, code: str, here: Path) -> None:
    Path("bad.jsonl").write_text(text)
    assert codes("bad.jsonl") == {code}


def test_csv_and_its_places(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.csv").write_text('id,prompt,height\n1,"a, ""cat""\nsits",64\nb,12,oops\nc,x,64,more\n')
    assert run([*BATCH, "r.csv"]) == 1
    out = capsys.readouterr().out
    assert "r.csv:4:6: " in out
    assert "r.csv:5:8: 4 values under 3 names" in out
    Path("r.csv").write_text('id,prompt,height\na,x,64\n\nb,"c\u2028d"\n,,\n"c\nd"\n')
    assert run([*BATCH, "r.csv"]) == 1
    out = capsys.readouterr().out
    assert "r.csv:4:3: 2 values under 3 names" in out
    assert "r.csv:6:1: 1 values under 3 names" in out
    assert "r.csv:5:" not in out  # a row of a spreadsheet with nothing in it
    Path("r.csv").write_text('id,prompt,height\n1,"a, ""cat""\nsits",64\nb,12,\n')
    assert planner.batch("x.plan.yaml", "r.csv", "out", simulate=True, dry_run=True).left == 2
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("id;prompt\na;x\n", "P915", 2),  # the plan's own prompt was taken in silence
        ("id\tprompt\na\tx\n", "P915", 2),
        ('id,prompt\na,x\nb,"y\nc,z\n', "P960", 3),  # rows were lost in one cell
        ('id,prompt\na,"x"y\n', "P960", 2),
        ("id,guidance_scale\na,1\nb,NaN\nc,-Infinity\n", "P916", 3),
    ],
)
def test_csv_that_is_refused(text: str, code: str, at: int, here: Path) -> None:
    Path("bad.csv").write_text(text)
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "bad.csv", "out", simulate=True)
    assert {d.code.id for d in raised.value.diagnostics} == {code}
    first = raised.value.diagnostics[0].span
    assert first is not None
    assert first.line == at


def test_numbers_are_ids_and_what_should_be_looked_at_is_told_once(here: Path) -> None:
    Path("x.plan.yaml").write_text(PLAN.replace("Flux", "StableDiffusionXL").replace("flux", "sdxl"))
    Path("r.jsonl").write_text('{"id": 5, "elsewhere": 1}\n{"id": 6, "elsewhere": 1}\n')
    told: list[str] = []
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True, dry_run=True, tell=told.append)
    assert made.left == 2
    assert len(told) == 1
    assert "r.jsonl:1:" in told[0]
    assert "P915" in told[0]


@pytest.mark.parametrize("value", [5, True, {"bytes": "x", "path": "y"}, [5], [["x", 5]], 1.5])
def test_images_that_are_no_paths(value: object, here: Path) -> None:
    kind = "StableDiffusionXLImg2ImgPipeline"
    Path("x.plan.yaml").write_text(
        f"version: 1\npipeline: {{class: {kind}, source: 'builtin:tiny-sdxl'}}\nrun: {{prompt: a cat}}\n"
    )
    Path("bad.jsonl").write_text(json.dumps({"id": "a", "image": value}))
    assert codes("bad.jsonl") == {"P916"}


def test_numbers_of_parquet(here: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids, scales = pa.array([1, 2]), [Decimal("7.5"), Decimal("3")]
    parquet.write_table(pa.table({"id": ids, "guidance_scale": pa.array(scales)}), "r.parquet")
    assert planner.batch("x.plan.yaml", "r.parquet", "out", simulate=True, dry_run=True).left == 2
    parquet.write_table(pa.table({"id": ids, "guidance_scale": [1.5, float("nan")]}), "r.parquet")
    assert codes("r.parquet") == {"P960"}


def test_inputs_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert codes("r.xlsx") == {"P962"}
    assert codes("none.csv") == {"P962"}
    Path("latin.jsonl").write_bytes(b'{"id": "a"}\n{"prompt": "\xe9"}')
    assert codes("latin.jsonl") == {"P960"}
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert codes("r.parquet") == {"P963"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.jsonl", ""),
        ("r.jsonl", "\n \n"),
        ("r.csv", ""),
        ("r.csv", "\ufeffid,prompt\n"),
        ("r.csv", "id\n\n"),
    ],
)
def test_inputs_without_a_row(name: str, text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_text(text)
    for more in ([], ["--dry-run"]):
        assert run([*BATCH, name, *more]) == 2
        assert f'{name}:1:1: no rows in "{name}" [P990 no-rows]' in capsys.readouterr().out
    assert not Path("out").exists()


def test_parquet_and_stdin_without_a_row(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        pa.table({"id": pa.array([], pa.string())}), "r.parquet"
    )
    assert codes("r.parquet") == {"P990"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert codes("-") == {"P990"}


def test_a_row_that_fails_is_set_aside_and_the_others_go_on(here: Path) -> None:
    Path("r.jsonl").write_text('{"id": "a", "max_sequence_length": 9999}\n{"id": "b"}\n')
    assert run([*BATCH, "r.jsonl"]) == 4
    assert [results()[k]["status"] for k in "ab"] == ["failed", "done"]
    again = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (again.done, again.skipped, again.failed) == (0, 1, 1)
    again = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True, retry=True)
    assert (again.done, again.skipped, again.failed) == (0, 1, 1)


def test_the_third_death_sets_a_row_aside(here: Path) -> None:
    Path("out/.batch/started").mkdir(parents=True)
    Path("out/.batch/started/a").write_text("...")
    assert run([*BATCH, "r.jsonl"]) == 4
    assert results()["a"]["finding"]["code"] == "P966"  # type: ignore[index]
    assert results()["b"]["status"] == "done"


def test_two_batches_in_one_folder(here: Path) -> None:
    Path("out/.batch").mkdir(parents=True)
    with open("out/.batch/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert codes("r.jsonl") == {"P964"}


def test_a_file_of_others_is_not_written_over(here: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    assert codes("r.jsonl") == {"P940"}
    assert Path("out/a.png").read_text() == "mine"


def test_a_folder_that_cannot_be_made(here: Path) -> None:
    Path("out").write_text("a file")
    assert codes("r.jsonl") == {"P967"}


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_nothing_is_lost_or_doubled(seed: int, here: Path) -> None:
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(12)))
    planner.batch("x.plan.yaml", "r.jsonl", "whole", simulate=True)
    command = [sys.executable, "-m", "planner", *BATCH, "r.jsonl"]
    moments = random.Random(seed)
    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        had = len([*Path("out").glob("*.png")])
        while process.poll() is None and len([*Path("out").glob("*.png")]) < had + 2:
            time.sleep(0.02)
        time.sleep(moments.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, capture_output=True).returncode == 0
    made = [{p.name: p.read_bytes() for p in Path(d).glob("*.png")} for d in ("whole", "out")]
    assert made[0] == made[1]
    assert len(made[1]) == 12
