"""What a plan names as a source, as its author sees it: the verdict, the place and the mend."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.diagnostics.diagnostic import Diagnostic
from planner.target import catalogue
from planner.target.causes import Broken
from planner.target.gguf import BLOCKS, read_gguf
from planner.target.place import place_of

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167534\n"
WORDS = {"F32": 4, "F16": 2, "BF16": 2}


def save(path: Path, dtype: str = "F32", /, **tensors: int) -> Path:
    """A safetensors file of zeros: elements by name."""
    header, at = {}, 0
    for name, count in tensors.items():
        end = at + count * WORDS[dtype]
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return path


def pipeline(root: Path, cls: str, *, of: str | None = None, **entries: Any) -> Path:
    """A folder of ``cls`` with what its constructor needs, every model of 256 floats; ``of``: the class whose
    components it has."""
    target = catalogue.find(of or cls)
    assert target is not None
    index: dict[str, Any] = {"_class_name": cls}
    for name, info in target.components.items():
        if info.optional and not name.startswith(("text_encoder", "tokenizer", "transformer")):
            continue
        library = "transformers" if name.startswith(("text", "tokenizer")) else "diffusers"
        index[name] = [library, info.classes[0] if info.classes else "X"]
        if info.module:
            stem = "model" if library == "transformers" else "diffusion_pytorch_model"
            save(root / name / f"{stem}.safetensors", w=256)
            (root / name / "config.json").write_text("{}")
    root.mkdir(exist_ok=True)
    (root / "model_index.json").write_text(json.dumps(index | entries))
    return root


Check = Callable[..., list[Diagnostic]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """What is said of a plan with this ``pipeline`` and these further lines, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def validate(what: str, *lines: str, **more: Any) -> list[Diagnostic]:
        Path("x.plan.yaml").write_text("\n".join(("version: 1", f"pipeline: {{{what}}}", *lines)) + "\n")
        return list(planner.validate("x.plan.yaml", **more).diagnostics)

    return validate


def codes(found: list[Diagnostic]) -> list[str]:
    return [d.code.name for d in found]


def told(found: list[Diagnostic], severity: str = "error") -> list[tuple[str, int, str, str]]:
    """Code, line, message and mend."""
    return [
        (d.code.name, d.span.line if d.span else 0, d.message, d.hint)
        for d in found
        if d.severity.value == severity
    ]


SD = "class: StableDiffusionPipeline, source: ./sd"
XL = "class: StableDiffusionXLPipeline, source: ./xl"


class TestNotWhole:
    @pytest.mark.parametrize(
        ("data", "cause", "mend"),
        [
            (LFS, "is a Git LFS pointer: its 3.20 GiB are not here", "git lfs pull"),
            (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer", "git lfs pull"),
            (b"", "is empty (0 bytes)", "again"),
            (b"<!DOCTYPE html><html>Sign in</html>", "is a web page", "hf auth login"),
            (b"PK\x03\x04" + bytes(60), "is pickled, under another suffix", "again"),
            (b"GGUF" + bytes(60), "is a GGUF file", "again"),
            (struct.pack("<Q", 900) + b'{"a": ', "is cut short: 14 bytes", "again"),
        ],
    )
    @pytest.mark.parametrize("name", ["unet", "text_encoder"])
    def test_a_weight_file(
        self, name: str, data: bytes, cause: str, mend: str, check: Check, tmp_path: Path
    ) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        (file,) = (folder / name).glob("*.safetensors")
        file.write_bytes(data)
        ((code, line, message, hint),) = told(check(SD))
        assert (code, line) == ("broken-folder", 2)
        assert message.startswith(f'"sd": {name}/{file.name} ')
        assert cause in message
        assert mend in hint

    @pytest.mark.parametrize("file", ["model_index.json", "unet/config.json"])
    def test_a_pointer_in_the_place_of_json(self, file: str, check: Check, tmp_path: Path) -> None:
        (pipeline(tmp_path / "sd", "StableDiffusionPipeline") / file).write_bytes(LFS)
        ((code, _, message, hint),) = told(check(SD))
        assert (code, hint[:15]) == ("broken-folder", "run `git lfs pu")
        assert f"{file} is a Git LFS pointer" in message

    def sharded(self, folder: Path, table: dict[str, str], **shards: tuple[str, ...]) -> None:
        for file in (folder / "unet").glob("*.safetensors"):
            file.unlink()
        for name, tensors in shards.items():
            save(folder / f"unet/{name}.safetensors", **dict.fromkeys(tensors, 8))
        index = {"weight_map": {key: f"{place}.safetensors" for key, place in table.items()}}
        path = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
        path.write_text(json.dumps(index))

    @pytest.mark.parametrize(
        ("table", "shards", "said"),
        [
            ({"a": "s1", "b": "s2"}, {"s1": ("a",)}, 'unet lacks the shard "s2.safetensors"'),
            (
                {"a": "s1", "b": "s2", "c": "s3"},
                {"s1": ("a",)},
                'unet lacks the shard "s2.safetensors", and 1 more of 3',
            ),
            (
                {"a": "s1", "b": "s2"},
                {"s1": ("b",), "s2": ("a",)},
                'unet/s1.safetensors lacks the tensor "a" that its index names',
            ),
            (
                {"a": "s1", "b": "s2"},
                {"s1": ("a", "b"), "s2": ("b",)},
                'unet/s1.safetensors has the tensor "b", which is in "s2.safetensors" by its index',
            ),
            (
                {"a": "s1"},
                {"s1": ("a", "z")},
                'unet/s1.safetensors has the tensor "z", which is not in its index',
            ),
        ],
    )
    def test_shards(self, table: Any, shards: Any, said: str, check: Check, tmp_path: Path) -> None:
        self.sharded(pipeline(tmp_path / "sd", "StableDiffusionPipeline"), table, **shards)
        ((code, line, message, hint),) = told(check(SD))
        assert (code, line, message) == ("broken-folder", 2, f'"sd": {said}')
        assert "download or copy" in hint

    def test_a_shard_that_is_a_pointer_and_an_index_that_names_a_pickle(
        self, check: Check, tmp_path: Path
    ) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        self.sharded(folder, {"a": "s1"}, s1=("a",))
        (folder / "unet/s1.safetensors").write_bytes(LFS)
        assert "unet/s1.safetensors is a Git LFS pointer" in told(check(SD))[0][2]
        index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "s1.bin"}}))
        assert 'names a shard that is no safetensors file: "s1.bin"' in told(check(SD))[0][2]

    def test_a_link_to_nothing(self, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        (file,) = (folder / "vae").glob("*.safetensors")
        file.unlink()
        file.symlink_to("../../blobs/gone")
        ((_, _, message, _),) = told(check(SD))
        assert message.endswith("is a link to a file that is not there: its download did not finish")

    def test_each_component_is_told(self, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        for file in folder.rglob("*.safetensors"):
            file.write_bytes(LFS)
        assert len(told(check(SD))) == 3


class TestVariants:
    def only(self, folder: Path, **names: str) -> None:
        """Renames the weights of components: ``unet="fp16"``."""
        for name, variant in names.items():
            (file,) = (folder / name).glob("*.safetensors")
            file.rename(file.with_name(file.name.replace(".", f".{variant}.", 1)))

    @pytest.mark.parametrize(
        "beside", ["", "diffusion_pytorch_model.fp16.bin", "optimizer.bin", "training_args.bin"]
    )
    def test_only_one_and_none_asked(self, beside: str, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        self.only(folder, unet="fp16", vae="fp16", text_encoder="fp16")
        if beside:
            (folder / "unet" / beside).write_bytes(b"PK")
        found = told(check(SD))
        assert [f[:2] for f in found] == [("no-such-variant", 2)] * 3
        assert {f[3] for f in found} == {"--set pipeline.variant=fp16, or variant: fp16 beside source"}
        assert told(check(f"{SD}, variant: fp16")) == []
        assert told(check(f"{SD}, variant: bf16"))[0][2].endswith(
            'neither plain files nor any of variant "bf16", only of variant "fp16"'
        )

    def test_mixed_with_plain_ones(self, check: Check, tmp_path: Path) -> None:
        self.only(pipeline(tmp_path / "sd", "StableDiffusionPipeline"), unet="fp16")
        ((_, _, message, hint),) = told(check(SD))
        assert message == '"unet" of "sd" has no plain files, only of variant "fp16"'
        assert "variant=fp16" in hint
        found = check(f"{SD}, variant: fp16")
        assert told(found) == []
        assert [d.code.name for d in found if d.severity.value == "warning"] == ["no-such-variant"] * 2

    def test_several_that_have_none_in_common(self, check: Check, tmp_path: Path) -> None:
        self.only(pipeline(tmp_path / "sd", "StableDiffusionPipeline"), unet="fp16", vae="bf16")
        assert all("rename the files of" in hint for _, _, _, hint in told(check(SD)))
        ((_, _, message, hint),) = told(check(f"{SD}, variant: fp16"))
        assert '"vae"' in message
        assert "bf16" in hint

    def test_plain_ones_that_are_pickled(self, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        self.only(folder, unet="fp16")
        (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"PK")
        ((code, _, _, hint),) = told(check(SD), "warning")
        assert code == "pickled-weights"
        assert hint.startswith("--set pipeline.variant=fp16; plan apply --allow-pickle")

    @pytest.mark.parametrize("name", ["optimizer.bin", "training_args.bin", "scheduler.pt", "x.ckpt"])
    def test_what_is_no_weights(self, name: str, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        next((folder / "unet").glob("*.safetensors")).rename(folder / "unet" / name)
        assert told(check(SD))[0][2] == '"sd": unet has no weight files'

    def test_those_of_another_framework(self, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        file = next((folder / "unet").glob("*.safetensors"))
        file.rename(folder / "unet/diffusion_flax_model.msgpack")
        assert told(check(SD))[0][2] == '"sd": unet has weights for Flax only'


def gguf(path: Path, *tensors: tuple[str, int, tuple[int, ...]], alignment: int = 32) -> Path:
    """A GGUF file with metadata of every shape, and ``tensors``: name, type, dimensions."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    values = [
        text("general.architecture") + struct.pack("<I", 8) + text("flux"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
        text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 0, 2) + bytes(2),
        text("general.alignment") + struct.pack("<II", 4, alignment),
    ]
    head, at = b"", 0
    for name, kind, shape in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, at)
        elements, nbytes = BLOCKS[kind]
        count = 1
        for n in shape:
            count *= n
        at += -(-(count // elements * nbytes) // alignment) * alignment
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + head
    path.write_bytes(start + bytes(-len(start) % alignment) + bytes(at))
    return path


FLUX = "class: FluxPipeline, source: ./flux, dtype: bfloat16"
Q4_K, F32, F16 = 12, 0, 1


class TestSingleFiles:
    def size(self, check: Check, what: str, *lines: str, component: str = "transformer") -> int | None:
        assert told(check(what, *lines)) == []
        return planner.compile("x.plan.yaml").target.components[component].bytes

    def test_a_components_file(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "flux", "FluxPipeline")
        save(tmp_path / "t.safetensors", **{"double_blocks.0.w": 1024, "img_in.bias": 256})
        lines = ("components:", "  transformer: {source: ./t.safetensors}")
        assert self.size(check, FLUX, *lines) == 2048 + 512
        assert not [d for d in check(FLUX, *lines) if d.code.name == "sizes-not-known"]

    def test_a_gguf_file_keeps_what_is_quantized(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "flux", "FluxPipeline")
        gguf(tmp_path / "t.gguf", ("a.weight", Q4_K, (256, 8)), ("a.bias", F32, (256,)), ("n", F16, (512,)))
        lines = ("components:", "  transformer: {source: ./t.gguf}")
        expected = 1536 + 512 + 1024  # 8 blocks of 144 bytes, and two tensors in bfloat16, in pieces of 512
        assert self.size(check, FLUX, *lines) == expected
        rule = "quantization: [{component: transformer, backend: gguf, compute_dtype: bfloat16}]"
        assert self.size(check, FLUX, *lines, rule) == expected

    def test_the_fit_of_a_hub_pipeline_with_a_file_is_checked(self, check: Check, tmp_path: Path) -> None:
        save(tmp_path / "t.safetensors", **{f"blocks.{n}.w": 1 << 20 for n in range(2)})
        found = check(
            "class: FluxPipeline, source: me/flux",
            "budget: {vram: 1MiB}",
            "components: {transformer: {source: ./t.safetensors, policy: resident}}",
        )
        assert "component-too-large" in codes(found)

    def test_a_checkpoint_of_a_whole_pipeline(self, check: Check, tmp_path: Path) -> None:
        names = {
            "model.diffusion_model.input_blocks.0.w": 4096,
            "first_stage_model.encoder.w": 1024,
            "conditioner.embedders.0.transformer.w": 512,
            "conditioner.embedders.1.model.w": 2048,
            "model_ema.decay": 128,
        }
        save(tmp_path / "xl.safetensors", "F16", **names)
        what = "class: StableDiffusionXLPipeline, source: ./xl.safetensors, dtype: float16"
        assert told(check(what)) == []
        components = planner.compile("x.plan.yaml").target.components
        sizes = {name: components[name].bytes for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
        assert sizes == {"unet": 8192, "vae": 2048, "text_encoder": 1024, "text_encoder_2": 4096}
        assert "sizes-not-known" not in codes(check(what))

    def test_a_file_of_the_denoiser_alone(self, check: Check, tmp_path: Path) -> None:
        save(tmp_path / "flux.safetensors", **{"double_blocks.0.w": 1024})
        found = check("class: FluxPipeline, source: ./flux.safetensors, dtype: bfloat16")
        (note,) = (d.message for d in found if d.code.name == "sizes-not-known")
        assert '"text_encoder_2"' in note
        assert '"transformer"' not in note
        assert planner.compile("x.plan.yaml").target.components["transformer"].bytes == 2048

    def test_a_vae_of_a_whole_checkpoint(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "xl", "StableDiffusionXLPipeline")
        save(tmp_path / "w.safetensors", **{"first_stage_model.w": 512, "model.diffusion_model.w": 4096})
        assert self.size(check, XL, "components: {vae: {source: ./w.safetensors}}", component="vae") == 2048

    @pytest.mark.parametrize("name", ["t.safetensors", "t.gguf"])
    @pytest.mark.parametrize("data", [b"", LFS, b"x" * 40, b"GGUF\x03\0\0\0" + b"\xff" * 40])
    def test_one_that_is_damaged(self, name: str, data: bytes, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "flux", "FluxPipeline")
        (tmp_path / name).write_bytes(data)
        ((code, line, message, _),) = told(check(FLUX, "components:", f"  transformer: {{source: ./{name}}}"))
        assert (code, line) == ("broken-folder", 4)
        assert message.startswith(f'"transformer" from "./{name}": {name} ')

    def test_both_that_are_missing_are_told(self, check: Check, tmp_path: Path) -> None:
        save(tmp_path / "vae.safetensors", w=8)
        found = check(
            "class: FluxPipeline, source: ./flux",
            "components:",
            "  transformer: {source: ./t.gguf}",
            "  vae: {source: ./vea.safetensors}",
        )
        assert [(c, line) for c, line, _, _ in told(found)] == [
            ("no-such-source", 2),
            ("no-such-source", 4),
            ("no-such-source", 5),
        ]
        assert found[-1].hint == 'did you mean "vae.safetensors"?'

    @pytest.mark.parametrize("name", ["t.ckpt", "t.dat", "t.BIN"])
    def test_a_pickle(self, name: str, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "flux", "FluxPipeline")
        (tmp_path / name).write_bytes(b"PK")
        found = check(FLUX, "components:", f"  transformer: {{source: ./{name}}}")
        assert [(c, line) for c, line, _, _ in told(found, "warning")] == [("pickled-weights", 4)]

    def test_gguf_cut_anywhere_is_broken(self, tmp_path: Path) -> None:
        path = gguf(tmp_path / "t.gguf", ("a", Q4_K, (256, 2)), ("b", F16, (16,)))
        assert [(t.name, t.numel, t.nbytes) for t in read_gguf(path)] == [("a", 512, 288), ("b", 16, 32)]
        whole = path.read_bytes()
        for end in range(0, len(whole) - 1, 3):
            path.write_bytes(whole[:end])
            with pytest.raises(Broken):
                read_gguf(path)

    def test_sizes_of_types_are_those_of_gguf(self) -> None:
        theirs = pytest.importorskip("gguf")
        sizes = {int(kind): size for kind, size in theirs.GGML_QUANT_SIZES.items()}
        assert {kind: sizes[kind] for kind in BLOCKS if kind in sizes} == {
            kind: size for kind, size in BLOCKS.items() if kind in sizes
        }


class TestHubCaches:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        repository = tmp_path / "hub/models--me--sd"
        pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        os.makedirs(repository / "snapshots")
        (tmp_path / "sd").rename(repository / "snapshots/abc123")
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text("abc123")
        return repository

    @pytest.mark.parametrize("inside", ["", "snapshots", "snapshots/abc123", "refs/main"])
    def test_any_part_of_it_is_the_snapshot(self, inside: str, cache: Path, check: Check) -> None:
        what = f"class: StableDiffusionPipeline, source: hub/models--me--sd/{inside}"
        assert told(check(what)) == []
        assert planner.compile("x.plan.yaml").target.components["unet"].bytes == 1024

    def test_a_revision_says_which(self, cache: Path, check: Check) -> None:
        os.makedirs(cache / "snapshots/def456")
        what = "class: StableDiffusionPipeline, source: hub/models--me--sd"
        assert told(check(what)) == []
        assert place_of(str(cache), revision="def456").path.name == "def456"
        ((code, line, message, hint),) = told(check(f"{what}, revision: v2"))
        assert (code, line, hint) == ("no-such-source", 2, "it has abc123, def456")
        assert 'without a snapshot of "v2"' in message

    def test_one_that_is_empty_and_one_of_several_models(self, cache: Path, check: Check) -> None:
        ((_, _, message, hint),) = told(check("class: StableDiffusionPipeline, source: ./hub"))
        assert "does not say which of its models" in message
        assert hint == "such as ./hub/models--me--sd"
        import shutil

        shutil.rmtree(cache / "snapshots")
        found = told(check("class: StableDiffusionPipeline, source: hub/models--me--sd"))
        assert found[0][3] == "download it again"


class TestOtherClasses:
    @pytest.mark.parametrize(
        ("cls", "held", "lacks"),
        [
            ("StableDiffusionXLControlNetPipeline", "StableDiffusionXLPipeline", "controlnet"),
            ("StableDiffusionControlNetPipeline", "StableDiffusionPipeline", "controlnet"),
            ("FluxControlNetPipeline", "FluxPipeline", "controlnet"),
            ("StableDiffusionXLAdapterPipeline", "StableDiffusionXLPipeline", "adapter"),
            ("AnimateDiffPipeline", "StableDiffusionPipeline", "motion_adapter"),
            ("StableDiffusion3ControlNetPipeline", "StableDiffusion3Pipeline", "controlnet"),
        ],
    )
    def test_a_component_that_could_come_from_elsewhere(
        self, cls: str, held: str, lacks: str, check: Check, tmp_path: Path
    ) -> None:
        pipeline(tmp_path / "it", held)
        ((code, line, message, hint),) = told(check(f"class: {cls}, source: ./it"))
        assert (code, line) == ("source-lacks-component", 2)
        assert f'"{lacks}"' in message
        assert held in message
        assert f"components.{lacks}.source" in hint
        save(tmp_path / "own/diffusion_pytorch_model.safetensors", w=256)
        (tmp_path / "own/config.json").write_text("{}")
        assert told(check(f"class: {cls}, source: ./it", f"components: {{{lacks}: {{source: ./own}}}}")) == []

    @pytest.mark.parametrize(
        ("cls", "held"),
        [
            ("FluxPipeline", "StableDiffusionXLPipeline"),
            ("WanPipeline", "FluxPipeline"),
            ("StableDiffusionXLPipeline", "StableDiffusionPipeline"),
            ("StableDiffusionPipeline", "StableDiffusionXLPipeline"),
            ("StableDiffusion3Pipeline", "StableDiffusionPipeline"),
            ("QwenImagePipeline", "ZImagePipeline"),
        ],
    )
    def test_a_folder_of_another_model(self, cls: str, held: str, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "it", held)
        found = told(check(f"class: {cls}, source: ./it"))
        assert found, "loads, and fails in the call"
        assert {f[0] for f in found} <= {"other-class", "source-lacks-component"}
        assert all(held in f[2] and f"class: {held}" in f[3] for f in found)

    @pytest.mark.parametrize(
        ("cls", "held"),
        [
            ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLPipeline"),
            ("StableDiffusionXLInpaintPipeline", "StableDiffusionXLPipeline"),
            ("StableDiffusionImg2ImgPipeline", "StableDiffusionPipeline"),
            ("FluxImg2ImgPipeline", "FluxPipeline"),
            ("FluxPipeline", "FluxInpaintPipeline"),
            ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3Pipeline"),
            ("WanVideoToVideoPipeline", "WanPipeline"),
        ],
    )
    def test_a_folder_that_serves(self, cls: str, held: str, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "it", held)
        assert told(check(f"class: {cls}, source: ./it")) == []
        assert planner.compile("x.plan.yaml").target.cls == cls

    @pytest.mark.parametrize(
        ("cls", "held", "meant"),
        [
            ("DiffusionPipeline", "FluxPipeline", "FluxPipeline"),
            ("AutoPipelineForText2Image", "StableDiffusionXLPipeline", "StableDiffusionXLPipeline"),
            ("AutoPipelineForImage2Image", "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
            ("AutoPipelineForInpainting", "FluxPipeline", "FluxInpaintPipeline"),
        ],
    )
    def test_a_generic_class(self, cls: str, held: str, meant: str, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "it", held)
        assert codes(check(f"class: {cls}, source: ./it")) == ["fit-not-checked"]
        compiled = planner.compile("x.plan.yaml")
        assert compiled.target.cls == meant
        found = told(check(f"class: {cls}, source: ./it", "order: unt -> vae"))
        assert [f[0] for f in found] == ["unknown-component"]

    def test_a_generic_class_without_one_for_the_task(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "it", "WanPipeline")
        ((code, line, _, hint),) = told(check("class: AutoPipelineForInpainting, source: ./it"))
        assert (code, line, hint) == ("other-class", 2, "class: WanPipeline")

    def test_generic_classes_on_built_ins(self, check: Check) -> None:
        assert told(check("class: AutoPipelineForImage2Image, source: 'builtin:tiny-sdxl'")) == []
        assert planner.compile("x.plan.yaml").target.cls == "StableDiffusionXLImg2ImgPipeline"

    def test_a_class_of_ones_own_on_a_known_folder(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "it", "FluxPipeline")
        found = check("class: AcmeSomethingElse, source: ./it", "order: text_encoder -> transformer -> vae")
        assert told(found) == []


class TestComponents:
    def test_from_another_pipelines_folder(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "xl", "StableDiffusionXLPipeline")
        other = pipeline(tmp_path / "other", "StableDiffusionXLImg2ImgPipeline")
        save(other / "unet/diffusion_pytorch_model.safetensors", w=4096)
        assert told(check(XL, "components: {unet: {source: ./other}}")) == []
        components = planner.compile("x.plan.yaml").target.components
        assert (components["unet"].bytes, components["vae"].bytes) == (16384, 1024)

    def test_what_is_wrong_there_stands_at_its_line(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "xl", "StableDiffusionXLPipeline")
        other = pipeline(tmp_path / "other", "FluxPipeline")
        lines = ("components:", "  vae: {tiling: on}", "  unet: {source: ./other}")
        ((code, line, message, hint),) = told(check(XL, *lines))
        assert (code, line) == ("broken-folder", 5)
        assert message == '"unet" from "./other": it holds a FluxPipeline, which has no "unet"'
        assert "transformer" in hint
        (other / "vae/diffusion_pytorch_model.safetensors").write_bytes(LFS)
        ((code, line, message, hint),) = told(check(XL, "components:", "  vae: {source: ./other}"))
        assert (code, line) == ("broken-folder", 4)
        assert "vae/diffusion_pytorch_model.safetensors is a Git LFS pointer" in message
        assert "git lfs pull" in hint

    def test_a_folder_one_level_too_high(self, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "xl", "StableDiffusionXLPipeline")
        save(tmp_path / "repo/unet/diffusion_pytorch_model.safetensors", w=8)
        (tmp_path / "repo/unet/config.json").write_text("{}")
        ((_, line, _, hint),) = told(check(XL, "components:", "  unet: {source: ./repo}"))
        assert (line, hint) == (4, "source: ./repo/unet")

    def test_on_a_built_in_too(self, check: Check, tmp_path: Path) -> None:
        save(tmp_path / "t.safetensors", w=1 << 20)
        what = "class: FluxPipeline, source: 'builtin:tiny-flux'"
        assert told(check(what, "components: {transformer: {source: ./t.safetensors}}")) == []
        assert planner.compile("x.plan.yaml").target.components["transformer"].bytes == 4 << 20

    @pytest.mark.parametrize("name", ["unet", "scheduler"])
    def test_a_class_of_a_foreign_package(self, name: str, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "sd", "StableDiffusionPipeline")
        index = json.loads((folder / "model_index.json").read_text())
        index[name] = ["evil", index[name][1]]
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        save(folder / "safety_checker/model.safetensors", w=8)
        (folder / "safety_checker/config.json").write_text("{}")
        (folder / "model_index.json").write_text(json.dumps(index))
        found = told(check(SD), "warning")
        assert [(f[0], f[1]) for f in found] == [("foreign-code", 2)]
        assert '"evil"' in found[0][2]
        assert "--trust-remote-code" in found[0][3]


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "code"),
        [
            ("Nope", "unknown-class"),
            ("FluxPipline", "unknown-class"),
            ("./no-such", "no-such-source"),
            ("no/such", "no-such-source"),
            ("x.safetensors", "no-such-source"),
            ("builtin:tiny-flx", "unknown-builtin"),
            ("builtin:", "unknown-builtin"),
        ],
    )
    def test_what_is_none(self, target: str, code: str, check: Check) -> None:
        found = check("class: FluxPipeline", target=target)
        assert [f[:2] for f in told(found)] == [(code, 0)]

    @pytest.mark.parametrize(
        "target", ["FluxPipeline", "builtin:tiny-flux", "./flux", "flux", "t.safetensors"]
    )
    def test_what_is_one(self, target: str, check: Check, tmp_path: Path) -> None:
        pipeline(tmp_path / "flux", "FluxPipeline")
        save(tmp_path / "t.safetensors", **{"double_blocks.0.w": 64})
        assert told(check("class: FluxPipeline", target=target)) == []

    def test_its_faults_stand_in_no_line(self, check: Check, tmp_path: Path) -> None:
        folder = pipeline(tmp_path / "flux", "FluxPipeline")
        (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(LFS)
        assert told(check("class: FluxPipeline", target="./flux"))[0][:2] == ("broken-folder", 0)
