"""What a request may say, and what is refused before anything runs."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.docs.pages import FOLDER
from planner.loading.inputs import call_of, input_findings
from planner.plan.run import IMAGES, VIDEOS
from planner.serving.arguments import NAMES as ARGUMENTS
from planner.serving.arguments import Arguments, read_arguments
from planner.serving.build import Built, build
from planner.serving.request import TEXTS, Asked, as_json, named
from planner.target.call import read_call
from planner.target.catalogue import find, names

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64}
"""
TAKES = (
    "prompt: str | list[str] = None, image: image = None, video: list[image] = None, audio_file: str = None, "
    "cross_attention_kwargs: dict = None, other: image | str = None, loose: any = None, "
    "num_inference_steps: int = 50, height: int = None, width: int = None"
)


def inline(kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 10, 30)).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> planner.Plan:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    return planner.load("x.plan.yaml")


@pytest.fixture
def asked(plan: planner.Plan) -> Asked:
    return Asked(plan=plan, call=read_call(TAKES), cls="FluxPipeline")


def codes(asked: Asked, body: bytes | dict[str, Any]) -> list[str]:
    with pytest.raises(PlanError) as raised:
        asked.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    said = json.loads(as_json(raised.value.diagnostics))["errors"]
    assert all(one["message"] and len(one["message"]) <= 500 for one in said)
    return [one["code"] for one in said]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff{}",
        b"[1]",
        b'"a cat"',
        b'{"prompt": "a", "prompt": "b"}',
        b'{"seed": NaN}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_no_object(asked: Asked, body: bytes) -> None:
    assert codes(asked, body) == ["P986"]


def test_arguments_are_checked_as_a_rows_are(asked: Asked) -> None:
    assert asked.read(b'{"prompt": ["a", "b"], "seed": 7}') == {"prompt": ["a", "b"], "seed": 7}
    assert asked.read(b"{}") == {}
    assert codes(asked, {"promt": "x", "seed": "lucky", "num_inference_steps": 0}) == ["P916", "P915", "P916"]
    assert codes(asked, {"generator": 1}) == ["P916"]
    assert codes(asked, {"image": 5}) == ["P916"]


@pytest.mark.parametrize(
    "values",
    [
        {"image": "/etc/passwd"},
        {"image": "in.png"},
        {"image": "https://example.org/a.png"},
        {"image": "file:///etc/passwd"},
        {"image": " data:image/png;base64,"},
        {"image": [["in.png"]]},
        {"video": "data:video/mp4;base64,AAAA"},
        {"video": ["in.png"]},
        {"audio_file": "/etc/passwd"},
        {"audio_file": "data:audio/wav;base64,AAAA"},
        {"cross_attention_kwargs": {"a": ["/etc/passwd"]}},
        {"other": "/etc/passwd"},
        {"loose": "/etc/passwd"},
        {"loose": [{"image": "/etc/passwd"}]},
    ],
)
def test_no_text_of_a_request_is_opened(
    asked: Asked, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("it was opened")

    Image.new("RGB", (8, 8)).save("in.png")
    monkeypatch.setattr("planner.loading.inputs.read_image", opened)
    monkeypatch.setattr("planner.loading.inputs.read_video", opened)
    assert "P987" in codes(asked, values)


def test_texts_that_a_request_may_give_of_every_class() -> None:
    """Prompts, and what somebody looked at; ``fonts`` are paths that diffusers opens."""
    given = set()
    for name in names():
        target = find(name)
        assert target is not None
        for argument in target.call.arguments.values() if target.call is not None else ():
            if argument.name != "seed" and named(argument.name, "/etc/passwd", argument) is None:
                given.add(argument.name)
    assert not given & (IMAGES | VIDEOS | {"fonts", "audio_file"})
    assert {name for name in given if "prompt" not in name} == TEXTS


def test_what_may_not_be_asked_for(plan: planner.Plan) -> None:
    asked = Asked(
        plan=plan, call=read_call(TAKES + ", **kwargs"), cls="FluxPipeline", arguments=("prompt", "seed")
    )
    assert asked.names == ("prompt", "seed")
    assert asked.read(b'{"prompt": "a", "seed": 1}')
    assert codes(asked, {"num_inference_steps": 10**9}) == ["P988"]
    opened = Asked(plan=plan, call=read_call(TAKES), cls="FluxPipeline", arguments=("other", "image"))
    assert opened.read(b'{"other": "a word"}')
    assert codes(opened, {"image": "in.png"}) == ["P987"]
    open_to_all = Asked(plan=plan, call=read_call(TAKES + ", **kwargs"), cls="FluxPipeline")
    assert "P915" in codes(open_to_all, {"whatever": 1})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_images_come_inline(asked: Asked, kind: str) -> None:
    assert asked.read(json.dumps({"image": inline(kind)}).encode())["image"].startswith("data:")
    assert asked.read(json.dumps({"video": [inline(kind)] * 2}).encode())


@pytest.mark.parametrize(
    "text",
    [
        "data:,x",
        "data:image/png;base64,!!",
        "data:image/png;base64,AAAA",
        "data:image/png,AAAA",
        "data:application/postscript;base64," + base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n").decode(),
        inline("PPM"),
        inline()[:-40],
    ],
)
def test_images_that_are_none(asked: Asked, text: str) -> None:
    assert codes(asked, {"image": text}) == ["P917"]


def test_images_have_so_many_pixels_in_all(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.loading.inputs.MOST_INLINE", 3 * 64)
    assert asked.read(json.dumps({"video": [inline()] * 2, "image": inline()}).encode())
    assert codes(asked, {"video": [inline()] * 3, "image": inline()}) == ["P917"]


def test_a_plans_own_paths_and_inline_images(plan: planner.Plan) -> None:
    class Img2Img:
        def __call__(self, prompt: str, image: Any = None, mask_image: Any = None) -> None: ...

    Image.new("RGB", (5, 6)).save("in.png")
    from dataclasses import replace
    from types import MappingProxyType

    run = MappingProxyType({"prompt": "x", "image": "in.png", "mask_image": inline("PNG", (7, 8))})
    made = call_of(replace(plan, run=run), Img2Img(), inline=True).arguments
    assert (made["image"].size, made["mask_image"].size) == ((5, 6), (7, 8))
    assert made["mask_image"].getpixel((0, 0)) == (200, 10, 30)
    # Elsewhere a text is a path, whatever it begins with.
    assert [d.code.id for d in input_findings(replace(plan, run=run))] == ["P917"]


def built(**given: Any) -> Built:
    return build(read_arguments({"plan": "x.plan.yaml", **given}), given.pop("gpus", None))


def refused(**given: Any) -> set[str]:
    with pytest.raises(PlanError) as raised:
        built(**given)
    return {d.code.id for d in raised.value.diagnostics}


def test_what_is_built(plan: planner.Plan) -> None:
    made = built(simulate="true", num_replicas="2", set="run.height=32")
    assert (made.device, made.replicas) == ("sim:0", 2)
    assert made.asked.plan.run["height"] == 32
    assert made.info["class"] == "FluxPipeline"
    assert made.info["arguments"][-1] == "seed"
    told = {*made.info["arguments"]}
    assert {"prompt", "sigmas", "height", "ip_adapter_image"} <= told
    assert not {"generator", "callback_on_step_end_tensor_inputs", "output_type"} & told
    assert Path(made.asked.plan.document.sources[0].name).is_absolute()
    assert build(read_arguments({"plan": "x.plan.yaml"}), 3).replicas == 3


def test_what_is_refused_before_a_replica_starts(plan: planner.Plan) -> None:
    assert refused(simulate="yes and no") == {"P985"}
    assert refused(num_replicas=0, max_queued_requests=-1, replicas=3, arguments=5) == {"P985"}
    with pytest.raises(PlanError) as raised:
        read_arguments({})
    assert [d.code.id for d in raised.value.diagnostics] == ["P985"]
    assert read_arguments({"plan": "x", "arguments": "[prompt, seed]"}) == Arguments(
        plan="x", arguments=("prompt", "seed")
    )
    assert refused(plan="gone.plan.yaml") == {"P101"}
    assert refused() == {"P968"}  # no GPU here
    assert refused(set="device=cuda:1") == {"P968"}
    assert refused(simulate=True, arguments="[promt]") == {"P985"}
    Path("x.plan.yaml").write_text(PLAN.replace("run: {", "order: transfomer\nrun: {"))
    assert "P302" in refused(simulate=True)
    Path("x.plan.yaml").write_text(PLAN.replace("FluxPipeline", "FluxPipelin"))
    assert refused(simulate=True)
    Path("x.plan.yaml").write_text(PLAN.replace("a cat", "a cat, promt: x"))
    assert "P915" in refused(simulate=True)


def test_the_page_has_every_argument_and_figure() -> None:
    page = (FOLDER / "serving.md").read_text(encoding="utf-8")
    assert {*ARGUMENTS} <= {*re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)}
    said = {name.removesuffix("_total") for name in re.findall(r"ray_offload_plan_serve_(\w+)", page)}
    source = FOLDER.with_name("serving") / "metrics.py"  # which Ray alone could import
    assert said == {*re.findall(r'f"{PREFIX}_(\w+)"', source.read_text(encoding="utf-8"))}


def test_without_ray_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    monkeypatch.setattr("planner.serving.there.find_spec", lambda name: None)
    monkeypatch.delitem(__import__("sys").modules, "planner.serve", raising=False)
    with pytest.raises(PlanError) as raised:
        importlib.import_module("planner.serve")
    assert [d.code.id for d in raised.value.diagnostics] == ["P984"]
    monkeypatch.setattr("planner.serving.there.find_spec", lambda name: True)
    monkeypatch.setattr("planner.loading.packages._installed", lambda name: None)
    with pytest.raises(PlanError) as raised:
        importlib.import_module("planner.serve")
    assert {d.code.id for d in raised.value.diagnostics} == {"P901"}
