"""Rules while weights are read: exactly the modules that they take, by the libraries' own quantizers, with
their numbers; and what cannot be is refused before any weight is read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from accelerate import init_empty_weights
from covering import covering
from quantized import formats, linears, picture, plain, plan_of, refused
from session.test_compile import Cpu

import planner
from planner.api import attach
from planner.diagnostics.diagnostic import PlanError
from planner.forms.formats import quantization_of, taken_of
from planner.loading.builtin import builtin_folder
from planner.loading.quantize import built, config_of, only
from planner.quantization.backends import BACKENDS
from planner.virtual.device import SimDevice

SINGLE = r"^single_.*(to_q|proj_out)$"
MATCHES = {
    "transformer": SINGLE,
    "text_encoder": "layers.1.*fc1$",
    "text_encoder_2": r"block.[02].*\.(q|o)$",
}
CELLS = [(b.name, kind) for b in BACKENDS.values() if b.name != "gguf" for kind in b.types]
POLICIES = ["resident", "offload", "stream"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], torch.Tensor]:
    """The picture of a pipeline that diffusers quantized itself, on the device as a whole; each made once."""
    SimDevice()
    known: dict[str, torch.Tensor] = {}

    def make(name: str, mapping: Callable[[], dict[str, Any]]) -> torch.Tensor:
        from diffusers import FluxPipeline, PipelineQuantizationConfig

        if name not in known:
            pipe = FluxPipeline.from_pretrained(
                builtin_folder("tiny-flux"),
                dtype=torch.bfloat16,
                quantization_config=PipelineQuantizationConfig(quant_mapping=mapping()),
            )
            known[name] = picture(pipe.to("sim:0"))
        return known[name]

    return make


@pytest.mark.parametrize(("kind", "policy"), covering(["int8", "float8", "int4", "int2"], POLICIES))
def test_quanto_as_diffusers_does_it(kind: str, policy: str, theirs: Any, tmp_path: Path) -> None:
    from diffusers import QuantoConfig

    lines = (
        f"components: {{transformer: {policy}}}",
        f"quantization: [{{component: transformer, backend: quanto, type: {kind}}}]",
    )
    if refused(tmp_path, "quanto", kind, [policy, "sim"], *lines):
        return
    expected = theirs(kind, lambda: {"transformer": QuantoConfig(weights_dtype=kind)})
    plan = plan_of(tmp_path, *lines)
    pipe = planner.load_pipeline(plan)
    every = {name for name, _ in linears(pipe.transformer)}
    assert formats(pipe.transformer) == dict.fromkeys(every, ("quanto", kind))
    with planner.apply(plan, pipe, device="sim:0"):
        assert torch.equal(picture(pipe), expected)
        assert torch.equal(picture(pipe), expected)


def test_torchao_as_diffusers_and_transformers_do_it(theirs: Any, tmp_path: Path) -> None:
    import diffusers
    import transformers
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    def mapping() -> dict[str, Any]:
        return {
            "transformer": diffusers.TorchAoConfig(Int8WeightOnlyConfig()),
            "text_encoder_2": transformers.TorchAoConfig(
                # T5 keeps it in float32; torchao's path in transformers 5.23 misses it by its name alone.
                Float8WeightOnlyConfig(),
                modules_to_not_convert=["wo.weight"],
            ),
        }

    plan = plan_of(
        tmp_path,
        "quantization:",
        "  - {component: transformer, backend: torchao, type: int8_weight_only}",
        "  - {component: text_encoder_2, backend: torchao, type: float8_weight_only}",
    )
    pipe = planner.load_pipeline(plan)
    with planner.apply(plan, pipe, device="sim:0"):
        assert torch.equal(picture(pipe), theirs("torchao", mapping))


@pytest.mark.parametrize("backend", ["quanto", "torchao"])
def test_exactly_the_modules_that_the_rules_take(backend: str, tmp_path: Path) -> None:
    """Names that are part of others, and a last part that one block's layer shares with the model's own."""
    kind = "int8" if backend == "quanto" else "int8_weight_only"
    plan = plan_of(
        tmp_path,
        "quantization:",
        *(
            f"  - {{component: {name}, match: '{match}', backend: {backend}, type: {kind}}}"
            for name, match in MATCHES.items()
        ),
    )
    pipe, untouched = planner.load_pipeline(plan), plain(tmp_path)
    for name, match in MATCHES.items():
        model = getattr(pipe, name)
        wanted = {name for name, _ in linears(model, match)}
        assert wanted
        assert formats(model) == dict.fromkeys(wanted, (backend, kind))
        mine = dict(model.named_parameters())
        for key, value in getattr(untouched, name).named_parameters():
            layer, _, part = key.rpartition(".")
            assert (layer in wanted and part == "weight") or torch.equal(mine[key], value)
    assert "proj_out" not in formats(pipe.transformer)


def test_a_weight_that_two_modules_share_is_not_quantized(tmp_path: Path) -> None:
    from transformers import QuantoConfig, Qwen2Config, Qwen2ForCausalLM

    made = Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, vocab_size=50, tie_word_embeddings=True,
        )
    )  # fmt: skip
    made.save_pretrained(tmp_path / "qwen")
    plan = plan_of(tmp_path, "quantization: [{component: text_encoder, backend: quanto, type: int8}]")
    names = taken_of(plan, "text_encoder", built(type(made), tmp_path / "qwen", ""))[0].names
    assert names == {name for name, _ in linears(made)} - {"lm_head"}
    with only(names):
        config = QuantoConfig("int8", modules_to_not_convert=[])
        loaded = type(made).from_pretrained(tmp_path / "qwen", quantization_config=config)
    assert formats(loaded).keys() == names
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_several_formats_of_torchao_on_one_component(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "quantization:",
        "  - {component: transformer, match: 'to_q$', backend: torchao, type: int8_dynamic}",
        "  - {component: transformer, match: '^single', backend: torchao, type: float8_weight_only}",
        "  - {component: transformer, match: 'to_k$', backend: torchao, type: int8_weight_only}",
        "  - {component: transformer, backend: layerwise_cast}",
    )
    pipe = planner.load_pipeline(plan)
    found = formats(pipe.transformer)
    for name, _ in linears(pipe.transformer):
        kind = (
            "int8_dynamic"
            if name.endswith("to_q")
            else "float8_weight_only"
            if name.startswith("single")
            else "int8_weight_only"
            if name.endswith("to_k")
            else ""
        )
        assert found.get(name) == (("torchao", kind) if kind else None)
    SimDevice()
    with planner.apply(plan, pipe, device="sim:0"):
        assert ("layerwise_cast", "float8_e4m3fn") in formats(pipe.transformer).values()
        picture(pipe)
    assert formats(pipe.transformer) == found


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("name", ["transformer", "text_encoder_2"])
def test_bitsandbytes_would_replace_exactly_those_layers(kind: str, name: str, tmp_path: Path) -> None:
    """diffusers asks for an accelerator before it quantizes: up to there, on the meta device."""
    from diffusers.quantizers import DiffusersAutoQuantizer
    from transformers.quantizers.auto import AutoHfQuantizer

    options = ", threshold: 4" if kind == "int8" else ", double_quant: true, compute_dtype: float16"
    match = SINGLE if name == "transformer" else r"block.0.*\.(q|o)$"
    plan = plan_of(
        tmp_path,
        f"quantization: [{{component: {name}, match: '{match}', backend: bitsandbytes, "
        f"type: {kind}{options}}}]",
    )
    real = getattr(plain(tmp_path), name)
    with init_empty_weights():
        model = type(real).from_config(real.config) if name == "transformer" else type(real)(real.config)
    wanted = {name for name, _ in linears(model, match)}
    config = config_of(plan.quantization[0], "bfloat16", diffusers=name == "transformer")
    auto = DiffusersAutoQuantizer if name == "transformer" else AutoHfQuantizer
    quantizer = auto.from_config(config, pre_quantized=False)
    with only(frozenset(wanted)):
        quantizer.preprocess_model(model, device_map=None)
    replaced = {
        n: part for n, part in model.named_modules() if type(part).__module__.startswith("bitsandbytes")
    }
    assert replaced.keys() == wanted
    assert {type(part).__name__ for part in replaced.values()} == {
        "Linear8bitLt" if kind == "int8" else "Linear4bit"
    }
    part = next(iter(replaced.values()))
    if kind == "int8":
        assert part.state.threshold == 4
    else:
        assert part.weight.quant_type == kind
        assert part.weight.compress_statistics
        assert part.compute_dtype is torch.float16
    assert {n for n, _ in linears(model)} == {n for n, _ in linears(real)}


@torch.no_grad()
def by_bitsandbytes(pipe: Any, kind: str) -> None:
    """As its quantizer would, on the CPU: bitsandbytes has kernels for it, and diffusers wants none."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for name, plain_one in [*linears(pipe.transformer, SINGLE)]:
        layer: Any = plain_one
        shape = layer.in_features, layer.out_features, layer.bias is not None
        if kind == "int8":
            layer = Linear8bitLt(*shape, has_fp16_weights=False)
            layer.load_state_dict(plain_one.state_dict())
        else:
            layer = Linear4bit(*shape, torch.bfloat16, compress_statistics=True, quant_type=kind)
            layer.load_state_dict(plain_one.state_dict())
            layer.support_avx512bf16_for_cpu = False  # else its forward packs the weights anew
            layer = layer.to(torch.bfloat16)
        pipe.transformer.set_submodule(name, layer.to("cpu"))


@pytest.mark.parametrize(("kind", "policy"), covering(["nf4", "fp4", "int8"], POLICIES, start=2))
def test_bitsandbytes_that_is_loaded_is_compared_and_runs(kind: str, policy: str, tmp_path: Path) -> None:
    rule = f"{{component: transformer, match: '{SINGLE}', backend: bitsandbytes, type: {kind}}}"
    plan = plan_of(tmp_path, f"components: {{transformer: {policy}}}", f"quantization: [{rule}]")
    pipe = plain(tmp_path)
    by_bitsandbytes(pipe, kind)
    expected = picture(pipe)
    device: Any = Cpu(torch.device("cpu"))
    with attach(plan, pipe, device)[0]:
        assert torch.equal(picture(pipe), expected)
        assert torch.equal(picture(pipe), expected)
    assert torch.equal(picture(pipe), expected)
    other = plan_of(tmp_path, f"quantization: [{rule.replace(kind, 'nf4' if kind == 'fp4' else 'fp4')}]")
    with pytest.raises(PlanError, match="P723 quantized-otherwise"):
        attach(other, pipe, device)


@pytest.mark.parametrize(("ran", "policy"), covering([False, True], POLICIES))
def test_8_bit_layers_compute_with_what_is_bound_and_are_given_back_movable(
    ran: bool, policy: str, tmp_path: Path
) -> None:
    """A layer that ran has its int8 weight and scales in its state, which ``Module.to`` does not move."""
    rule = f"{{component: transformer, match: '{SINGLE}', backend: bitsandbytes, type: int8}}"
    plan = plan_of(tmp_path, f"components: {{transformer: {policy}}}", f"quantization: [{rule}]")
    pipe = plain(tmp_path)
    by_bitsandbytes(pipe, "int8")
    layers = [part for part in pipe.transformer.modules() if type(part).__name__ == "Linear8bitLt"]
    hosts = {layer: (layer.weight, layer.weight.SCB) for layer in layers}
    expected = picture(pipe) if ran else None
    read: list[bool] = []

    def looks(layer: Any, *_: object) -> None:
        same_bytes = layer.state.CB.data_ptr() == layer.weight.data_ptr()
        others = layer.weight is not hosts[layer][0] and layer.state.SCB is not hosts[layer][1]
        read.append(same_bytes and others and layer.weight.CB is None)

    device: Any = Cpu(torch.device("cpu"))
    with attach(plan, pipe, device)[0]:
        hooks = [layer.register_forward_pre_hook(looks) for layer in layers]
        first = picture(pipe)
        assert torch.equal(picture(pipe), first)
        assert read
        assert all(read)
        for hook in hooks:
            hook.remove()
    assert expected is None or torch.equal(first, expected)
    for layer in layers:
        assert layer.weight is hosts[layer][0]
        assert layer.weight.SCB is hosts[layer][1]
        assert layer.weight.CB.data_ptr() == layer.weight.data_ptr()
        assert layer.state.CB is layer.state.SCB is None
    pipe.transformer.to("cpu")
    assert torch.equal(picture(pipe), first)


def test_another_thread_loads_as_ever(tmp_path: Path) -> None:
    from threading import Thread

    from diffusers import QuantoConfig
    from diffusers.quantizers import DiffusersAutoQuantizer

    model = plain(tmp_path).transformer
    quantizer = DiffusersAutoQuantizer.from_config(QuantoConfig("int8"), pre_quantized=False)
    with only(frozenset()):
        thread = Thread(target=quantizer.preprocess_model, args=(model,), kwargs={"device_map": None})
        thread.start()
        thread.join()
    assert any(type(part).__name__ == "QLinear" for part in model.modules())


def write_gguf(path: Path, model: torch.nn.Module, kind: gguf.GGMLQuantizationType) -> Path:
    """The weights of Linears whose rows are whole blocks in ``kind``, everything else as float32."""
    layers = {
        f"{name}.weight" for name, part in linears(model) if part.get_parameter("weight").shape[1] % 32 == 0
    }
    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if name in layers:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "policy"), covering(["Q8_0", "Q4_0"], POLICIES))
def test_a_gguf_file(kind: str, policy: str, tmp_path: Path) -> None:
    """A CPU stands for the accelerator: diffusers' parameters cannot be made over virtual tensors."""
    from diffusers import FluxTransformer2DModel, GGUFQuantizationConfig

    folder = builtin_folder("tiny-flux")
    number = getattr(gguf.GGMLQuantizationType, kind)
    file = write_gguf(tmp_path / "t.gguf", plain(tmp_path).transformer, number)
    plan = plan_of(
        tmp_path,
        f"components: {{transformer: {{source: ./t.gguf, policy: {policy}}}}}",
        "quantization: [{component: transformer, backend: gguf, compute_dtype: bfloat16}]",
    )
    loaded = planner.load_pipeline(plan)
    hand = FluxTransformer2DModel.from_single_file(
        str(file),
        config=str(folder),
        subfolder="transformer",
        dtype=torch.bfloat16,
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16),
    )
    assert set(formats(loaded.transformer).values()) == {("gguf", "file")}
    assert formats(loaded.transformer) == formats(hand)
    theirs = copy.copy(loaded)
    theirs.register_modules(transformer=hand)
    expected = picture(theirs)
    device: Any = Cpu(torch.device("cpu"))
    with attach(plan, loaded, device)[0]:
        assert torch.equal(picture(loaded), expected)
        assert torch.equal(picture(loaded), expected)


def test_a_component_from_its_own_folder_is_quantized_too(tmp_path: Path) -> None:
    pipe = plain(tmp_path)
    pipe.text_encoder_2.save_pretrained(tmp_path / "t5")
    plan = plan_of(
        tmp_path,
        "components: {text_encoder_2: {source: ./t5}}",
        "quantization: [{component: text_encoder_2, match: 'SelfAttention', backend: quanto, type: int8}]",
    )
    loaded = planner.load_pipeline(plan).text_encoder_2
    assert type(loaded) is type(pipe.text_encoder_2)
    assert formats(loaded).keys() == {name for name, _ in linears(loaded, "SelfAttention")}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["{component: transformer, match: atn, backend: quanto, type: int8}"], "P374 unmatched-rule"),
        (["{component: text_encoder_2, match: '^wo$', backend: torchao, type: int8_dynamic}"], "P374"),
        (["{component: transformer, classes: [Conv2d], backend: layerwise_cast}"], "P374"),
        (
            [
                "{component: transformer, match: 'to_(q|k)', backend: quanto, type: int8}",
                "{component: transformer, match: 'to_q', backend: quanto, type: int8}",
            ],
            "P373 shadowed-rule",
        ),
        (
            [
                "{component: transformer, match: to_q, backend: quanto, type: int8}",
                "{component: transformer, match: to_k, backend: quanto, type: int4}",
            ],
            "P376 refused-pair",
        ),
        (["{component: transformer, backend: bitsandbytes, type: nf4}"], "P706 no-accelerator"),
        (["{component: transformer, backend: torchao, type: int4_weight_only}"], "P706 no-accelerator"),
        (["{component: nobody, backend: torchao, type: int8_dynamic}"], 'has no component "nobody"'),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    rules: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path)  # made now, if it is not there
    monkeypatch.setattr("safetensors.safe_open", unread)
    monkeypatch.setattr("safetensors.torch.load_file", unread)
    with pytest.raises(PlanError, match=said) as caught:
        planner.load_pipeline(plan_of(tmp_path, "quantization:", *(f"  - {rule}" for rule in rules)))
    found = caught.value.diagnostics[0].span
    assert found is not None
    assert found.line >= 4


@pytest.mark.parametrize("column", ["resident", "offload", "stream", "lora", "cuda", "xpu", "mps"])
@pytest.mark.parametrize(("backend", "kind"), CELLS)
def test_each_pair_that_the_matrix_refuses_is_refused_before_anything_is_loaded(
    backend: str, kind: str, column: str, tmp_path: Path
) -> None:
    line = f"components: {{transformer: {column}}}"
    if column == "lora":
        line = "loras: [{lora_id: ./x}]"
    elif column in ("cuda", "xpu", "mps"):
        line = f"device: {column}"
    key = BACKENDS[backend].type_key
    rule = f"quantization: [{{component: transformer, backend: {backend}, {key}: {kind}}}]"
    if not refused(tmp_path, backend, kind, [column], line, rule):
        assert plan_of(tmp_path, line, rule).quantization


def unread(*_: Any, **__: Any) -> Any:
    raise AssertionError("a weight was read")


@pytest.mark.parametrize(
    ("distribution", "rule"),
    [("torchao", "backend: torchao, type: int8_dynamic"), ("optimum-quanto", "backend: quanto, type: int8")],
)
def test_a_package_that_is_missing_or_old(
    distribution: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    real = metadata.version
    plan = plan_of(tmp_path, f"quantization: [{{component: transformer, {rule}}}]")
    for code, answer in (("P902", "0.1.0"), ("P901", None)):

        def version(name: str, answer: str | None = answer) -> str:
            if name != distribution:
                return real(name)
            if answer is None:
                raise metadata.PackageNotFoundError(name)
            return answer

        monkeypatch.setattr("planner.quantization.probe.metadata.version", version)
        with pytest.raises(PlanError, match=code) as caught:
            planner.load_pipeline(plan)
        assert f"pip install '{distribution}>=" in caught.value.diagnostics[0].hint


def test_a_single_file_cannot_be_quantized_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"")
    plan = plan_of(
        tmp_path,
        "components: {transformer: {source: ./x.safetensors}}",
        "quantization: [{component: transformer, backend: quanto, type: int8}]",
    )
    with pytest.raises(PlanError, match="P376 refused-pair"):
        planner.load_pipeline(plan)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["quantization: [{component: transformer, backend: gguf}]"], "P318 no-gguf-file"),
        (
            [
                "components: {transformer: {source: ./t.gguf}}",
                "quantization: [{component: transformer, backend: torchao, type: int8_dynamic}]",
            ],
            "P316 two-backends",
        ),
    ],
)
def test_gguf_is_a_files_own(lines: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=said):
        plan_of(tmp_path, *lines)


def test_what_the_libraries_call_their_formats_is_known() -> None:
    assert quantization_of(torch.nn.Linear(2, 2)) is None
    assert quantization_of(torch.nn.Linear(2, 2).to(torch.float8_e4m3fn)) == (
        "diffusers",
        "layerwise casting",
    )
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    assert quantization_of(Linear4bit(64, 64, quant_type="nf4").to("cpu")) == ("bitsandbytes", "nf4")
    assert quantization_of(Linear8bitLt(64, 64, has_fp16_weights=False)) == ("bitsandbytes", "int8")
