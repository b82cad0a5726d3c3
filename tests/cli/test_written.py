"""What apply writes: judged before the run, whole or not at all, never over what is there or what is read."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import planner
from planner.cli.main import run
from planner.document.schema import schema_text
from planner.loading import keep
from planner.loading.destination import Destination
from planner.loading.reads import read_by
from planner.loading.written import written as write_whole

PLAN = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    (tmp_path / "video.plan.yaml").write_text(PLAN.replace("Flux", "Wan").replace("flux", "wan"))
    return tmp_path


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr("planner.loading.pipeline.load_pipeline", loads)
    monkeypatch.setattr("planner.loading.make.from_factory", loads)


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make(folder: Path) -> None:
    """What a wrong name may hit."""
    (folder / "taken.png").write_bytes(b"mine")
    (folder / "taken.json").write_bytes(b"mine")
    (folder / "model").mkdir()
    (folder / "model/w.safetensors").write_bytes(b"weights")
    (folder / "w.gguf").write_bytes(b"weights")
    (folder / "base.plan.yaml").write_text(PLAN)
    (folder / "link.json").symlink_to("taken.json")
    (folder / "dangling.png").symlink_to("nowhere.png")
    os.link(folder / "x.plan.yaml", folder / "hard.json")
    os.mkfifo(folder / "pipe.json")


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
@pytest.mark.parametrize(
    ("file", "options", "codes"),
    [
        ("video", ["--out", "v.png"], ["P918"]),
        ("video", ["--out", "v.wav"], ["P918"]),
        ("x", ["--out", "v.mp4"], ["P918"]),
        ("x", ["--out", "v.gif"], ["P918"]),
        ("x", ["--out", "v.tiff"], ["P918"]),
        ("x", ["--out", "v"], ["P918"]),
        ("x", ["--out", "no/such/v.png"], ["P919"]),
        ("x", ["--out", "x.plan.yaml/v.png"], ["P919"]),
        ("x", ["--out", "a" * 300 + ".png"], ["P919"]),
        ("x", ["--out", "dangling.png"], ["P941"]),
        ("x", ["--report", "no/such/r.json"], ["P919"]),
        ("x", ["--report", "model"], ["P919"]),
        ("x", ["--report", "pipe.json"], ["P919"]),
        ("x", ["--report", "x.plan.yaml"], ["P941"]),
        ("x", ["--report", "./model/../x.plan.yaml"], ["P941"]),
        ("x", ["--report", "hard.json"], ["P941"]),
        ("x", ["--report", "link.json"], ["P941"]),
        ("x", ["--report", "base.plan.yaml"], ["P941"]),
        ("x", ["--report", "w.gguf"], ["P941"]),
        ("x", ["--report", "model/w.safetensors"], ["P941"]),
        ("x", ["--set", "run.output_type=latent"], ["P920"]),
        ("video", ["--out", "v.png", "--report", "no/r.json"], ["P918", "P919"]),
        ("x", ["--out", "v.docx", "--report", "no/r.json"], ["P918", "P919"]),
    ],
)
def test_faults_are_found_before_anything_is_loaded(
    here: Path, file: str, options: list[str], codes: list[str], force: list[str], capsys: Any
) -> None:
    make(here)
    before = files(here)
    assert run(["apply", f"{file}.plan.yaml", "--simulate", *options, *force]) in (2, 4)
    out = capsys.readouterr().out
    assert [code for code in ("P918", "P919", "P920", "P940", "P941") if f"[{code} " in out] == codes
    assert files(here) == before


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("options", [["--out", "taken.png"], ["--report", "taken.json"]])
def test_what_is_there_is_not_written_over(here: Path, options: list[str], capsys: Any) -> None:
    make(here)
    before = files(here)
    assert run(["apply", "x.plan.yaml", "--simulate", *options]) == 2
    assert "[P940 output-taken]" in capsys.readouterr().out
    assert files(here) == before


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("key", ["image", "mask_image", "control_image"])
def test_an_image_that_a_run_reads_is_an_input(here: Path, key: str) -> None:
    (here / "in.png").write_bytes(b"pixels")
    cls = "StableDiffusionXLControlNetInpaintPipeline"  # has all three
    text = f"version: 1\npipeline: {cls}\nrun: {{prompt: a cat, {key}: in.png}}\n"
    (here / "i.plan.yaml").write_text(text)
    plan = planner.load(here / "i.plan.yaml")
    assert read_by(plan, here / "in.png") == f'the "{key}" of run'
    assert read_by(plan, here / "other.png") is None


def test_every_image_of_a_run_has_a_name_that_is_free(here: Path, capsys: Any) -> None:
    (here / "cat-1.png").write_bytes(b"mine")
    many = ["--set", "run.num_images_per_prompt=2", "--out", "cat.png"]
    assert run(["apply", "x.plan.yaml", "--simulate", *many]) == 2
    assert '--out "cat-1.png" is there already' in capsys.readouterr().out


def test_force_writes_over_an_output_of_before(here: Path) -> None:
    (here / "cat.png").write_bytes(b"old")
    (here / "r.json").write_bytes(b"old")
    both = ["--out", "cat.png", "--report", "r.json", "--force"]
    assert run(["apply", "x.plan.yaml", "--simulate", *both]) == 0
    assert (here / "cat.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((here / "r.json").read_text())["measured"]["ended"] == "done"
    assert not list(here.glob(".writing-*"))


def test_a_result_is_kept_when_its_place_goes_during_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from planner.loading import call

    attempt = call.attempt

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        (here / "cat.png").write_bytes(b"another's")
        (here / "r.json").write_bytes(b"another's")
        return attempt(*arguments, **more)

    monkeypatch.setattr("planner.loading.call.attempt", meanwhile)
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "cat.png", "--report", "r.json"]) == 4
    out = capsys.readouterr().out
    assert out.count("[P942 output-elsewhere]") == 2
    assert (here / "cat.png").read_bytes() == (here / "r.json").read_bytes() == b"another's"
    assert (here / "x-0.png").exists()
    assert json.loads((here / "r-2.json").read_text())["outputs"] == ["x-0.png"]
    assert 'kept as "x-0.png"' in out
    assert 'kept as "r-2.json"' in out


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, MemoryError])
def test_a_file_is_whole_or_not_at_all(
    tmp_path: Path, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def half(to: Path) -> None:
        to.write_text("ha")
        raise stop

    for replace in (False, True):
        with pytest.raises(stop):
            write_whole(path, half, replace=replace)
        assert files(tmp_path) == {"a.txt": b"before"}


@pytest.mark.parametrize("links", [True, False], ids=["links", "no hard links"])
def test_a_name_is_taken_once(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refused(*_: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "a.txt"
    write_whole(path, lambda to: to.write_text("first"))
    with pytest.raises(FileExistsError):
        write_whole(path, lambda to: to.write_text("second"))
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "link", lambda to: to.write_text("second"))
    assert files(tmp_path) == {"a.txt": b"first"}


def _write(folder: str, number: int, start: Any) -> None:
    start.wait()
    keep.write_or_keep(Path(folder, "r.json"), str(number))


def test_runs_at_one_moment_lose_nothing(tmp_path: Path) -> None:
    """Several processes to one name: one gets it, the others the numbers after."""
    context = multiprocessing.get_context("fork")
    start = context.Event()
    runs = [context.Process(target=_write, args=(str(tmp_path), n, start)) for n in range(8)]
    for process in runs:
        process.start()
    start.set()
    for process in runs:
        process.join(60)
    assert sorted(map(int, files(tmp_path).values())) == list(range(8))


def test_a_folder_without_permission(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("planner.loading.destination.writable", refused)
    (found,) = Destination("--report", Path("r.json")).faults()
    assert (found.code.id, "Permission denied" in found.message) == ("P919", True)


class TestInterrupt:
    """Ctrl-C in the middle of a run: what ran is told, nothing half-made stays."""

    @pytest.fixture(autouse=True)
    def _as_in_a_terminal(self) -> Iterator[None]:
        """A shell's background jobs, and what they start, ignore SIGINT."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.fixture
    def stopped(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
        def at(component: str, number: signal.Signals = signal.SIGINT) -> int:
            from planner.loading import progress

            observe = progress.Bars.observe

            def stop(bars: Any, what: str, name: str) -> None:
                observe(bars, what, name)
                if (what, name) == ("use", component):
                    signal.raise_signal(number)

            monkeypatch.setattr(progress.Bars, "observe", stop)
            return run(["apply", "x.plan.yaml", "--simulate", "--report", "r.json", "--out", "cat.png"])

        return at

    @pytest.mark.parametrize(("component", "stage"), [("text_encoder_2", "prompt"), ("vae", "decode")])
    def test_the_report_is_of_what_ran(
        self, stopped: Callable[[str], int], here: Path, component: str, stage: str, capsys: Any
    ) -> None:
        assert stopped(component) == 130
        out, err = capsys.readouterr()
        assert "interrupted in" in out
        assert "interrupted: no output was written" in err
        report = json.loads((here / "r.json").read_text())
        jsonschema.validate(report, json.loads(schema_text("report.v1.schema.json")))
        assert report["measured"]["ended"] == "interrupted"
        assert report["measured"]["moved"] > 0
        assert report["outputs"] == []
        assert sorted(files(here)) == ["r.json", "video.plan.yaml", "x.plan.yaml"]

    def test_sigterm_is_an_interrupt(self, stopped: Callable[..., int], here: Path, capsys: Any) -> None:
        before = signal.getsignal(signal.SIGTERM)
        assert stopped("vae", signal.SIGTERM) == 130
        assert "terminated: no output was written" in capsys.readouterr().err
        assert json.loads((here / "r.json").read_text())["measured"]["moved"] > 0
        assert signal.getsignal(signal.SIGTERM) is before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize(
        "where", ["loading.pipeline.load_pipeline", "loading.inputs.call_of", "cli.apply.attach"]
    )
    def test_one_before_the_call_leaves_a_report_of_nothing(
        self, number: signal.Signals, where: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            signal.raise_signal(number)

        monkeypatch.setattr(f"planner.{where}", stop)
        assert run(["apply", "x.plan.yaml", "--simulate", "--report", "r.json"]) == 130
        assert "no output was written" in capsys.readouterr().err
        report = json.loads((here / "r.json").read_text())
        jsonschema.validate(report, json.loads(schema_text("report.v1.schema.json")))
        assert (report["measured"]["ended"], report["measured"]["moved"]) == ("interrupted", 0)
        assert report["outputs"] == []

    def test_in_another_thread_nothing_is_handled(self, here: Path) -> None:
        done: list[int] = []
        worker = threading.Thread(target=lambda: done.append(run(["apply", "x.plan.yaml", "--simulate"])))
        worker.start()
        worker.join()
        assert done == [0]


def test_a_run_that_fails_leaves_its_report_too(here: Path, capsys: Any) -> None:
    options = ["--report", "r.json", "--set", "run.max_sequence_length=9999"]
    assert run(["apply", "x.plan.yaml", "--simulate", *options]) == 4
    assert "P004 run-failed" in capsys.readouterr().out


def test_a_streamed_plans_report_is_as_its_schema_says(here: Path) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--report", "r.json", "--set", "budget.vram=4MiB"]) in (
        0,
        5,
    )
    report = json.loads((here / "r.json").read_text())
    jsonschema.validate(report, json.loads(schema_text("report.v1.schema.json")))
    promised, measured = report["promised"]["moved"], report["measured"]["moved"]
    assert promised <= measured <= promised * 1.1  # a first call brings a few blocks in vain
    compiled = planner.compile("x.plan.yaml", overrides=["budget.vram=4MiB", "run.num_inference_steps=null"])
    assert compiled.schedule.each_step > 0
    assert compiled.schedule.moved is not None
    assert compiled.schedule.moved + 2 * compiled.schedule.each_step == promised


@pytest.mark.skipif(os.name == "nt", reason="permissions are other things there")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_of_what_is_replaced_and_of_what_is_new(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, new, fresh = tmp_path / "there", tmp_path / "new", tmp_path / "fresh"
    there.write_text("old")
    there.chmod(0o604)
    before = os.umask(mask)
    try:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(os, "umask", None)  # the process's: other threads would write without one
            for path in (there, new):
                write_whole(path, lambda to: to.write_text("made"), replace=True)
        fresh.touch()
    finally:
        os.umask(before)
    assert there.stat().st_mode & 0o777 == 0o604
    assert new.stat().st_mode == fresh.stat().st_mode
