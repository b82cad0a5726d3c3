"""``plan fit`` while it works: what a terminal shows, and what an interrupt leaves."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import run
from planner.fitting.watch import Watch

ROOT = Path(__file__).parents[2]
ASKED = ("fit", "mine.plan.yaml", "--vram", "840MiB", "--card", "h200")
PLAN = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, height: 64, width: 64, num_inference_steps: 4}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLOAD_PLANNER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "mine.plan.yaml").write_text(PLAN)
    monkeypatch.chdir(folder)
    return folder


def on_a_terminal(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, and what a terminal was shown on stderr."""
    master, slave = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    env |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "planner", *arguments], stdout=subprocess.PIPE, stderr=slave, env=env
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                more = os.read(master, 4096)
            except OSError:  # Linux has no other end of a terminal
                break
            if not more:
                break
            shown += more
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    return process.returncode, out.decode(), shown.decode()


@pytest.mark.wide
def test_a_terminal_shows_what_is_done_and_nothing_else_has_it(here: Path, capfd: Any) -> None:
    code, out, shown = on_a_terminal(*ASKED, "-o", "seen.plan.yaml")
    assert code == 0
    assert "plans, the best" in shown
    assert "\x1b[?25h" in shown, "the cursor is there again"
    for forced in ("0", "1"):
        env = os.environ | {"PYTHONPATH": str(ROOT), "FORCE_COLOR": forced}
        done = subprocess.run(
            [sys.executable, "-m", "planner", *ASKED, "-o", f"plain{forced}.plan.yaml"],
            capture_output=True,
            env=env,
            text=True,
        )
        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            "tracing the call",
            "searching",
            f"wrote plain{forced}.plan.yaml",
        ]
        assert Path(f"plain{forced}.plan.yaml").read_bytes() == Path("seen.plan.yaml").read_bytes()
        if forced == "0":
            assert done.stdout == out


def left(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def stops(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["begins", "priced", "bounded"])
def test_an_interrupted_search_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (here / "best.plan.yaml").write_text("mine")
    before = left(here)
    monkeypatch.setattr("planner.cli.fitting._Lines", type("Stopped", (Watch,), {where: stops}))
    assert run([*ASKED, "-o", "best.plan.yaml", "--force"]) == 130
    assert run([*ASKED, "-o", "new.plan.yaml"]) == 130
    assert run([*ASKED]) == 130
    assert left(here) == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("interrupted") == 3


@pytest.mark.parametrize(
    "where",
    ["planner.loading.written.to_disk", pytest.param("pathlib.Path.write_bytes", marks=pytest.mark.wide)],
)
def test_an_interrupted_write_leaves_what_was_there(
    here: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (here / "best.plan.yaml").write_text("mine")
    before = left(here)
    monkeypatch.setenv("OFFLOAD_PLANNER_CACHE", "")
    monkeypatch.setattr(where, stops)
    assert run([*ASKED, "-o", "best.plan.yaml", "--force"]) == 130
    assert run([*ASKED, "-o", "new.plan.yaml"]) == 130
    assert left(here) == before
