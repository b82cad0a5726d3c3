"""What the pages show is so: plans are valid, commands run in order, what they print is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from blocks import Block, blocks

import planner
from planner.docs.pages import FOLDER, PAGES, Page

ROOT = Path(__file__).parents[2]
WRITTEN = [page for page in PAGES if (FOLDER / f"{page.name}.md").is_file()]
ELSEWHERE = ("pip ", "hf ", "pre-commit ")
"""They need a network, and are run in .ci/run and .ci/wheel."""
THERE = "offload-plans" in metadata.entry_points(group="pytest11").names
PLUGIN = "" if THERE else "-p planner.pytest_plugin"
SHELL = f"""\
plan() {{ "{sys.executable}" -m planner "$@"; }}
pytest() {{ "{sys.executable}" -m pytest {PLUGIN} -p no:cacheprovider "$@"; }}
"""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        ["bash", "-c", SHELL + command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


SLOW = {"skill", "start"}
"""Pages whose commands take long: run with ``-m wide``. The first page has the README's, which CI runs
as they stand there."""
LONG = {"ci": "pytest --plans plans/ --plans-simulate -rs\n"}
"""A block that takes long, of a page whose others do not: run with ``-m wide``. Of the plugin's simulation
there is a shorter test in tests/pytest_plugin."""


def pages() -> Iterator[Any]:
    """Each page, without its block in LONG; and as it is."""
    for page in WRITTEN:
        name, wide = page.name, pytest.mark.wide
        if name in LONG:
            yield pytest.param(page, LONG[name], id=name)
            yield pytest.param(page, "", id=f"{name}, all of it", marks=wide)
        else:
            yield pytest.param(page, "", id=name, marks=wide if name in SLOW else ())


@pytest.mark.parametrize(("page", "without"), [*pages()])
def test_a_page_does_what_it_says(page: Page, without: str, tmp_path: Path) -> None:
    shown = [*blocks(page.text())]
    assert not without or without in [block.text for block in shown]
    for block in (one for one in shown if one.text != without):
        if block.file:
            path = tmp_path / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        check = CHECKS.get(block.kind)
        if check is not None:
            check(block, tmp_path)


def plan(block: Block, folder: Path) -> None:
    """Plans have no errors; other YAML is tested below."""
    if block.file.endswith(".plan.yaml") or not block.file:
        path = folder / (block.file or "shown.plan.yaml")
        path.write_text(block.text, encoding="utf-8")
        assert planner.validate(path).errors == (), block.text
        assert not [d for d in planner.validate(path).notes if d.code.name == "unused-ignore"]


def commands(block: Block, folder: Path) -> None:
    kept = "\n".join(line for line in block.text.splitlines() if not line.startswith(ELSEWHERE))
    done = shell(f"set -eo pipefail\n{kept}", folder)
    # grep and head that have seen enough end what writes to them
    assert done.returncode in (0, 141), f"{kept}\n{done.stdout}"


def console(block: Block, folder: Path) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        assert shell(command, folder).stdout.rstrip() == printed.rstrip()


def script(block: Block, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0


def is_json(block: Block, folder: Path) -> None:
    json.loads(block.text)


CHECKS = {"yaml": plan, "sh": commands, "console": console, "python": script, "json": is_json}


def named(name: str, page: str) -> str:
    return next(block.text for block in blocks((FOLDER / page).read_text("utf-8")) if block.file == name)


def workflow_schema() -> Any:
    builtin = pytest.importorskip("check_jsonschema.builtin_schemas")
    return builtin.get_builtin_schema("vendor.github-workflows")


@pytest.mark.parametrize("which", ["ours", "the example"])
def test_a_workflow_is_one(which: str) -> None:
    ours = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    text = ours if which == "ours" else named(".github/workflows/plans.yml", "ci.md")
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    workflow = {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()}
    jsonschema.validate(workflow, workflow_schema())


def test_the_commands_of_the_example_workflow_run(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/quickstart.plan.yaml").write_text(
        (ROOT / "plans/quickstart.plan.yaml").read_text("utf-8")
    )
    workflow = yaml.safe_load(named(".github/workflows/plans.yml", "ci.md"))
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    ran = [step for step in steps if not step.startswith("pip install")]
    assert len(ran) == 2
    for step in ran:
        done = shell(f"set -e\n{step}", tmp_path)
        assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "plans.sarif").read_text("utf-8"))["version"] == "2.1.0"
    (tmp_path / "plans/wrong.plan.yaml").write_text("version: 1\npipeline: StableDiffusionXLPipelin\n")
    done = shell(ran[0], tmp_path)
    assert done.returncode == 1
    assert "::error file=plans/wrong.plan.yaml,line=2" in done.stdout


def test_the_hook_is_the_one_that_the_page_names() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    (repo,) = yaml.safe_load(named(".pre-commit-config.yaml", "ci.md"))["repos"]
    assert {hook["id"] for hook in repo["hooks"]} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        assert re.search(hook["files"], "plans/x.plan.yaml")
        assert not re.search(hook["files"], "plans/x.plan.yaml.md")


def test_the_hook_is_one_for_pre_commit() -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib")
    (hook,) = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert hook["entry"] == "plan validate"


def test_the_extension_is_found_by_hf(tmp_path: Path) -> None:
    """As ``hf extensions install`` leaves it: a folder, a manifest, and the console script that the page's
    file declares. The install itself fetches from GitHub; .ci/wheel installs the same file from a folder."""
    import tomllib

    extensions = pytest.importorskip("huggingface_hub.cli.extensions")
    said = tomllib.loads(named("hf-plan/pyproject.toml", "hub.md"))
    ((script, target),) = said["project"]["scripts"].items()
    module, function = target.split(":")
    assert said["project"]["name"] == script
    folder = tmp_path / ".local/share/hf/extensions" / script
    folder.mkdir(parents=True)
    executable = folder / script
    executable.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    executable.chmod(0o755)
    from datetime import datetime

    extensions.ExtensionManifest(
        owner="o",
        repo=script,
        repo_id=f"o/{script}",
        short_name=script.removeprefix("hf-"),
        executable_path=str(executable),
        type="python",
        installed_at=datetime.now(UTC),
    ).save(folder)
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", script.removeprefix("hf-"), "explain", "P302"],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        },
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("P302 unknown-component")
