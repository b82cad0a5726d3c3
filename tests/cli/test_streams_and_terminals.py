"""What reaches a stream: any encoding takes it, nothing in it steers a terminal, colour only where it is
seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from covering import covering

import planner
from planner.cli.main import run
from planner.source.visible import escaped, hidden, visible

ROOT = Path(__file__).parents[2]
GOOD = "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}\n"
CHINESE = GOOD + "run: {prompt: 一只猫坐在窗边}\nbudgte: 猫\n"
STEERS = [
    "\x1b",
    "\x07",
    "\x9b",
    "\x7f",
    "\u200e",
    "\u200f",
    "\u061c",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
]
STEERS += ["\U000e0041", "\U000e007f", "\u00ad", "\u2028", "\ue000"]


def plan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONUTF8", "NO_COLOR", "FORCE_COLOR")}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0"} | environment
    return subprocess.run([sys.executable, "-m", "planner", *arguments], capture_output=True, env=env)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.plan.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.plan.yaml").write_text(CHINESE, encoding="utf-8")
    return tmp_path


VERBS: list[tuple[tuple[str, ...], int]] = [
    (("validate", "bad.plan.yaml"), 1),
    (("validate", "bad.plan.yaml", "--format", "github"), 1),
    (("explain", "good.plan.yaml", "--set", "name=猫"), 0),
    (("explain", "good.plan.yaml", "--as", "yaml", "--set", "name=猫"), 0),
    (("explain", "猫"), 2),
    (("猫",), 2),
]


@pytest.mark.parametrize(("verb", "encoding"), covering(VERBS, ["cp1252", "ascii", "utf-8", "shift_jis"]))
def test_every_encoding_takes_every_verb(
    here: Path, verb: tuple[tuple[str, ...], int], encoding: str
) -> None:
    arguments, code = verb
    done = plan(*arguments, PYTHONIOENCODING=f"{encoding}:strict")
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    done.stdout.decode("utf-8" if "yaml" in arguments else encoding)


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_what_machines_read_is_utf8_whatever_the_locale(here: Path, form: str) -> None:
    done = plan("validate", "bad.plan.yaml", "--format", form, LC_ALL="C", PYTHONIOENCODING="cp1252")
    assert done.returncode == 1
    assert "P201" in json.dumps(json.loads(done.stdout.decode("utf-8")))


def test_the_caret_stays_beneath_a_value_after_what_cannot_be_shown(here: Path) -> None:
    (here / "x.plan.yaml").write_text(GOOD + "run: {prompt: 猫, seed: 1}\nname: 'é' # 猫\n", encoding="utf-8")
    (here / "x.plan.yaml").write_text(GOOD + "name: {猫: [}\n", encoding="utf-8")
    for encoding in ("ascii", "utf-8"):
        done = plan("validate", "x.plan.yaml", PYTHONIOENCODING=encoding)
        line, caret = done.stdout.decode(encoding).splitlines()[1:3]
        assert len(caret.rstrip("~")) <= len(line) + 1 + ("猫" in line)


@pytest.mark.parametrize("character", STEERS, ids=lambda c: f"U+{ord(c):04X}")
def test_what_hides_is_known_by_its_category(character: str) -> None:
    assert hidden(character)
    assert character not in visible(f"a{character}b")
    assert escaped(escaped(character)) == escaped(character)


def test_no_control_or_format_character_of_unicode_passes() -> None:
    controls = [
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")
    ]
    for c in controls:
        assert c in "\t\n" or c not in visible(c)
    assert visible("猫 é ß \u0301 \t x") == "猫 é ß \u0301 \t x"


@pytest.mark.parametrize("character", ["\x1b", "\u200e", "\u061c", "\U000e0041", "\u202e"])
@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_names_of_files_and_components_steer_nothing(
    here: Path, character: str, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"a{character}b.plan.yaml"
    (here / name).write_text(GOOD + f'components: {{"u{escaped_in_yaml(character)}net": offload}}\n', "utf-8")
    assert run(["validate", name, "--format", form]) == 1
    assert run(["validate", f"missing{character}.yaml", "--format", form]) == 1
    out, err = capfd.readouterr()
    assert character not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "no\x1b[2Jsuch"],
        ["no\u202esuch"],
        ["validate", "--no\u200esuch"],
        ["explain", "good.plan.yaml", "--set", 'name="a\\u202eb\\e[31m"'],
        ["validate", "good.plan.yaml", "--set", "x\U000e0041=1"],
        ["translate", "a\x1b[1m", "--tool", "mmgp\x1b[1m", "--class", "FluxPipeline"],
        ["explain", "a" * 300],
        ["validate", "a" * 300],
        ["explain", "good.plan.yaml", "--card", "1\x1b2"],
    ],
)
def test_words_of_the_command_line_steer_nothing(
    here: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    run(arguments)
    out, err = capfd.readouterr()
    assert not [c for c in out + err if hidden(c) and c not in "\n\t"]


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ([], {}, False),
        (["--color", "always"], {}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "0"}, False),
    ],
)
def test_colour_is_for_who_asks_or_looks(
    here: Path,
    options: list[str],
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(["validate", "bad.plan.yaml", *options]) == 1
    shown = capsys.readouterr().out
    assert ("\x1b[1;31m" in shown) is coloured
    assert run(["validate", "bad.plan.yaml", "--format", "json", *options]) == 1
    assert "\x1b" not in capsys.readouterr().out


def escaped_in_yaml(character: str) -> str:
    return f"\\U{ord(character):08x}"


CLOSED_OR_FULL = {
    "validate - <&-": 1,
    "translate - <&-": 1,
    "validate good.plan.yaml >&-": 0,
    "validate bad.plan.yaml >&- 2>&-": 1,
    "explain good.plan.yaml >&-": 0,
    "validate bad.plan.yaml >/dev/full": 4,
    "validate bad.plan.yaml --format json >/dev/full": 4,
    "explain good.plan.yaml >/dev/full": 4,
    "explain nope.plan.yaml >/dev/full": 4,
    "explain good.plan.yaml --as yaml >/dev/full": 4,
    "validate bad.plan.yaml 2>/dev/full": 1,
}
"""Commands of a shell, with the code that each ends with."""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize(("command", "unbuffered"), covering([*CLOSED_OR_FULL], ["", "1"]))
def test_streams_that_are_closed_or_full(here: Path, command: str, unbuffered: str) -> None:
    code = CLOSED_OR_FULL[command]
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("no such device here")
    line = f"exec {sys.executable} -m planner {command}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert (b"No space left" in done.stderr) == (code == 4)


WARNS = (
    "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\nbudget: {vram: 900GiB}\n"
    "order: text_encoder_2 -> text_encoder -> transformer -> vae\n"
    "run: {prompt: a cat, height: 64, width: 64, num_inference_steps: 2}\n"
)
"""Warnings, and a note at the least, whatever is done with it."""


LOSES = "pipe.enable_model_cpu_offload()\npipe.unheard_of()"
FIT = ["fit", "x.plan.yaml", "--card", "rtx-4090"]
AS_YAML = ["explain", "x.plan.yaml", "--as", "yaml"]


@pytest.mark.parametrize(
    ("verb", "reads"),
    [
        (FIT, yaml.safe_load),
        ([*FIT, "--frontier", "x.svg"], yaml.safe_load),
        ([*AS_YAML, "--card", "rtx-4090"], yaml.safe_load),
        (["compile", "x.plan.yaml", "--format", "json", "--card", "rtx-4090"], json.loads),
        (["diff", "x.plan.yaml", "x.plan.yaml", "--format", "json", "--card", "rtx-4090"], json.loads),
        (
            ["translate", LOSES, "--class", "FluxPipeline"],
            yaml.safe_load,
        ),
        (["schema", "--for", "x.plan.yaml"], json.loads),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_file_on_stdout_is_that_file_alone(
    verb: list[str],
    reads: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """``plan fit x > y`` makes a plan, whatever there is to say about it."""
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(WARNS)
    code = run(verb)
    out, err = capfd.readouterr()
    made = reads(out)
    assert isinstance(made, dict)
    assert code in (0, 1)
    if verb[0] in ("fit", "explain", "translate"):
        assert "warning" in err
        Path("y.plan.yaml").write_text(out)
        assert not planner.validate("y.plan.yaml").errors


@pytest.mark.parametrize("verb", [FIT, AS_YAML])
def test_what_made_no_file_is_told_beside_it(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text("version: 1\npipeline: {class: FluxPipeline, source: ./nowhere}\n")
    assert run(verb) in (1, 4)
    out, err = capfd.readouterr()
    assert out == ""
    assert "./nowhere" in err
