"""Pasted Python: every statement is translated or told, at its line; and nothing of it is ever run."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.cli.main import run
from planner.diagnostics.diagnostic import Diagnostic, Severity, errors
from planner.diagnostics.render import text
from planner.plan.model import Plan, Policy
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.find import by_class
from planner.target.model import Target
from planner.translation.convert import class_of, from_script, from_tool, tool_of


def known(cls: str) -> Target:
    target = catalogue.find(cls, "0.42.1")
    assert target is not None
    return target


FLUX = known("FluxPipeline")
ACTS = [
    "pipe.enable_model_cpu_offload()",
    "pipe.enable_sequential_cpu_offload(gpu_id=0)",
    'pipe.enable_group_offload("cuda", offload_type="leaf_level")',
    'pipe.enable_group_offload(onload_device=torch.device("cuda"), num_blocks_per_group=1, use_stream=True)',
    'transformer.enable_group_offload("cuda", offload_type="leaf_level")',
    'apply_group_offloading(pipe.text_encoder_2, torch.device("cuda"), offload_type="leaf_level")',
    'apply_group_offloading(model, onload_device="cuda")',
    "pipe.unet.enable_group_offload('cuda', offload_type='leaf_level')",
    'pipe.to("cuda")',
    'pipe.vae.to("cuda", dtype=torch.float32)',
    "pipe.to(torch.float16)",
    "pipe.vae.half()",
    'pipe.text_encoder.to("cpu")',
    "pipe.to(device)",
    "vae.enable_tiling()",
    "pipe.enable_vae_tiling()",
    "pipe.disable_vae_tiling()",
    "pipe.vae.enable_slicing()",
    "pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn)",
    'pipe.unet.enable_layerwise_casting(torch.float8_e5m2, torch.bfloat16, skip_modules_pattern=("norm",))',
    "transformer.enable_layerwise_casting(torch.float8_e5m2, torch.bfloat16, skip_modules_pattern='norm')",
    "pipe.transformer.enable_layerwise_casting(storage_dtype=torch.int8)",
    'pipe = FluxPipeline.from_pretrained("a/b", torch_dtype=torch.bfloat16, device_map="balanced")',
    'pipe = DiffusionPipeline.from_pretrained("a/b", quantization_config=config)',
    'transformer = FluxTransformer2DModel.from_pretrained("c/d", quantization_config=QuantoConfig("int8"))',
    'pipe.transformer = torch.compile(pipe.transformer, mode="reduce-overhead")',
    "pipe.fuse_qkv_projections()",
    'pipe.load_lora_weights("x/y", adapter_name="z")',
    "pipe.set_adapters('z', 0.5)",
    "offload.profile(pipe, 4)",
    "offload.all(pipe, pinnedMemory=True, budgets={'*': 3000})",
    "cache_dit.layerwise_offload(pipe.transformer)",
    "transformer.set_offload(True, num_blocks_on_gpu=2)",
    "manager.enable_auto_cpu_offload(device='cuda', memory_reserve_margin='3GB')",
    "dispatch_model(pipe, {'': 0})",
    "pipe.something_new(3)",
    "helper(pipe)",
    "pipe.vae = None",
    "pipe.scheduler = S.from_config(pipe.scheduler.config)",
    "pipe._exclude_from_cpu_offload.append('vae')",
    "image = pipe(prompt='a cat').images[0]",
    "image.save('x.png')",
    "torch.cuda.empty_cache()",
    "del pipe",
    "while waiting:\n    pipe.enable_model_cpu_offload()",
    "if small:\n    pipe.enable_model_cpu_offload()",
    "for c in [pipe.vae, pipe.text_encoder]:\n    c.to('cuda')",
    "def f():\n    pipe.to('cuda')",
    "[c.to('cuda') for c in parts]",
    "assert pipe.to('cuda')",
    "lambda: pipe.to('cuda')",
    "x = pipe.to('cuda') if big else None",
    "class A:\n    def load(self):\n        self.pipe.to('cuda')",
    "class A:\n    def __init__(self):\n        self.pipe.to('cuda')",
    "async def f():\n    pipe.to('cuda')",
    "match x:\n    case 1:\n        pipe.to('cuda')",
    "pipe.enable_group_offload(**{'onload_device': 'cuda', 'offload_type': 'leaf_level'})",
    "pipe.enable_group_offload(**options)",
    "dispatch_model(pipe.transformer, {'': 'cpu', 'norm_out': 0})",
    "cpu_offload(pipe.vae, execution_device='cuda')",
    "pipe.transformer.transformer_blocks[0].to('cuda')",
    "for i in range(3):\n    pipe.vae.to('cuda')",
    "with torch.no_grad():\n    pipe.to('cuda')",
    "self.pipe = self.pipe.to('cuda')",
]


def loaded(made: str) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "made.plan.yaml"
        place.write_text(made, encoding="utf-8")
        result = planner.validate(place)
    assert result.plan is not None, (made, result.errors)
    return result.plan


def lines_told(found: tuple[Diagnostic, ...]) -> set[int]:
    return {problem.span.line for problem in found if problem.span is not None}


@pytest.mark.parametrize("act", ACTS)
def test_a_statement_is_translated_or_told(act: str) -> None:
    made, found = from_script(act, FLUX)
    assert bool(errors(found)) == (made == "")
    assert lines_told(found) & set(range(1, act.count("\n") + 2)), found
    text(found, [SourceText(name="settings", text=act)])
    if made:
        loaded(made)


@settings(max_examples=80)
@given(acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=6))
def test_every_statement_of_a_script_is_told_at_its_line(acts: list[str]) -> None:
    script = "\n".join(acts)
    made, found = from_script(script, FLUX)
    assert from_script(script, FLUX) == (made, found)
    told = lines_told(found)
    for statement in ast.parse(script).body:
        assert told & set(range(statement.lineno, (statement.end_lineno or 0) + 1)), ast.unparse(statement)
    if made:
        loaded(made)


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = f"open({str(mark)!r}, 'w').write('x')\n__import__('os').mkdir({str(mark)!r})\npipe.to('cuda')"
    made, _ = from_script(script, FLUX)
    assert made
    assert not mark.exists()


def test_what_is_said_of_a_component_is_said_of_it_alone() -> None:
    """A bare variable is the component of its name, and not the pipeline."""
    for receiver in (
        "transformer",
        "pipe.transformer",
        "self.pipe.transformer",
        "getattr(pipe, 'transformer')",
    ):
        script = f'{receiver}.enable_group_offload("cuda", offload_type="leaf_level")'
        made, _ = from_tool("group-offload", script, FLUX)
        said = loaded(made).components
        assert {name for name, each in said.items() if each.policy is Policy.STREAM} == {"transformer"}


def test_a_variable_is_the_component_that_it_is_given_as() -> None:
    script = (
        'te = T5EncoderModel.from_pretrained("a/b", torch_dtype=torch.bfloat16)\n'
        'pipe = FluxPipeline.from_pretrained("a/b", text_encoder_2=te, torch_dtype=torch.bfloat16)\n'
        'te.enable_group_offload("cuda", offload_type="leaf_level")\n'
    )
    made, found = from_script(script, FLUX)
    assert "  text_encoder_2: {policy: stream" in made
    assert not any(problem.code.name == "statement-left-out" for problem in found)


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ("BitsAndBytesConfig(load_in_8bit=True)", "backend: bitsandbytes, type: int8"),
        ("BitsAndBytesConfig(load_in_4bit=True)", "backend: bitsandbytes, type: fp4"),
        (
            "BitsAndBytesConfig(load_in_4bit=1, bnb_4bit_quant_type='nf4', bnb_4bit_use_double_quant=True)",
            "backend: bitsandbytes, type: nf4, double_quant: true",
        ),
        ("TorchAoConfig('int8wo')", "backend: torchao, type: int8_weight_only"),
        ("TorchAoConfig(Float8WeightOnlyConfig())", "backend: torchao, type: float8_weight_only"),
        ("TorchAoConfig(Int4WeightOnlyConfig(group_size=64))", "type: int4_weight_only, group_size: 64"),
        ("QuantoConfig(weights_dtype='float8')", "backend: quanto, type: float8"),
        ("QuantoConfig('int4', modules_to_not_convert=['proj_out'])", "type: int4, skip: [proj_out]"),
    ],
)
def test_quantization_configurations_are_rules(config: str, rule: str) -> None:
    script = (
        'transformer = FluxTransformer2DModel.from_pretrained("a/b", subfolder="transformer", '
        f"quantization_config={config})\n"
    )
    made, _ = from_script(script, FLUX)
    assert f"component: transformer, {rule}" in made or rule in made
    assert [r.component for r in loaded(made).quantization] == ["transformer"]
    mapped = f'PipelineQuantizationConfig(quant_mapping={{"transformer": {config}}})'
    whole = f'pipe = FluxPipeline.from_pretrained("a/b", quantization_config={mapped})'
    assert rule in from_script(whole, FLUX)[0]


@pytest.mark.parametrize(
    "config", ["TorchAoConfig('uint3wo')", "NVIDIAModelOptConfig('FP8')", "QuantoConfig('int3')", "config"]
)
def test_a_quantization_that_a_plan_lacks_is_told(config: str) -> None:
    script = f'transformer = FluxTransformer2DModel.from_pretrained("a/b", quantization_config={config})'
    made, found = from_script(script, FLUX)
    assert "quantization:" not in made
    assert "statement-left-out" in {problem.code.name for problem in found}


def test_a_file_needs_neither_tool_nor_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        'from diffusers import FluxPipeline\npipe = FluxPipeline.from_pretrained("a/b")\n'
        "pipe.enable_sequential_cpu_offload()\npipe.frobnicate()\n"
    )
    assert run(["translate", str(script)]) == 0
    out, err = capsys.readouterr()
    assert "pipeline: {class: FluxPipeline, source: a/b}" in out
    assert f"{script}:4:1: warning:" in err
    assert "4 | pipe.frobnicate()" in err
    script.write_text("pipe.enable_sequential_cpu_offload(1, 2, 3)\n")
    assert run(["translate", str(script), "--class", "FluxPipeline"]) == 1
    assert capsys.readouterr().out == ""
    assert run(["translate", str(script)]) == 2


COMMANDS = [
    ("sglang", "sglang generate --model-path M --dit-cpu-offload --vae-cpu-offload false"),
    ("sglang", "SGLANG_X=1 sglang serve --model-path=M --performance-mode memory --port 3000"),
    ("sglang", "$ sglang generate \\\n  --model-path M \\\n  --dit-layerwise-offload true \\\n  --seed 4"),
    ("vllm-omni", "vllm serve M --omni --enable-cpu-offload --port 8091"),
    ("vllm-omni", "vllm-omni serve diffusion M --enable-cpu-offload"),
    ("vllm-omni", "vllm serve M --omni --enable-distributed-layerwise-offload --dlo-no-use-allgather"),
]


@pytest.mark.parametrize(("tool", "command"), COMMANDS)
def test_a_command_line_as_it_is_pasted(
    tool: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool_of(command) == tool
    made, found = from_tool(tool, command, known("WanPipeline"))
    assert errors(found) == ()
    plan = loaded(made)
    assert plan.pipeline.source == "M"
    assert plan.components["transformer"].policy in (Policy.OFFLOAD, Policy.STREAM)
    place = tmp_path / "serve.sh"
    place.write_text(command + "\n")
    for given_as in (
        [command],
        [str(place)],
        ["--", *command.replace("\\\n", "").removeprefix("$ ").split()],
    ):
        if "=" in command.split()[0] and given_as[0] == "--":
            continue  # a shell would have taken the variable itself
        assert run(["translate", "--class", "WanPipeline", *given_as]) == 0
        assert body(capsys.readouterr().out) == body(made)


TOOLS = ["sglang", "vllm-omni"]


def body(made: str) -> str:
    return made.partition("version: 1\n")[2]


@pytest.mark.parametrize(("tool", "command"), COMMANDS)
def test_every_option_of_a_command_line_is_told(tool: str, command: str) -> None:
    _, found = from_tool(tool, command, known("WanPipeline"))
    told = {(p.span.line, p.span.column) for p in found if p.span is not None}
    for number, line in enumerate(command.split("\n"), 1):
        for at in range(len(line)):
            if line[at : at + 2] == "--" and (at == 0 or line[at - 1] == " "):
                assert (number, at + 1) in told, line[at:]


WORDS = [
    *(
        "sglang",
        "generate",
        "vllm",
        "serve",
        "--omni",
        "--dit-cpu-offload",
        "--vae-tiling=true",
        "true",
        "false",
    ),
    *("--component-residency", "dit=resident", "all=component-offload", "--dit-offload-prefetch-size", "0.5"),
    *("--model-path", "a/b", "--enable-cpu-offload", "--diffusion-offload-config", '\'{"mode": "layer"}\''),
    *(
        "--diffusion-offload-config.mode",
        "layer",
        "--",
        "-",
        "-x",
        "--=",
        "--.",
        "#",
        "|",
        "&&",
        "'",
        '"',
        "\\",
    ),
    *(
        "--dlo-resident-layers",
        "3",
        "-1",
        "--dtype",
        "bf16",
        "\\\n",
        "\n",
        "X=1",
        "$",
        "--vae-config.x",
        "é",
        "\ud800",
    ),
]


@settings(max_examples=150)
@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=10), tool=st.sampled_from(TOOLS))
def test_any_command_line(words: list[str], tool: str) -> None:
    command = " ".join(words)
    made, found = from_tool(tool, command, known("WanPipeline"))
    assert bool(errors(found)) == (made == "")
    text(found, [SourceText(name="settings", text=command)])
    if made:
        loaded(made)


def test_a_class_is_read_from_what_is_loaded() -> None:
    assert class_of("import x\nself.pipe = diffusers.FluxPipeline.from_pretrained('a')") == "FluxPipeline"
    assert class_of("pipe = DiffusionPipeline.from_pretrained('a')") is None
    assert class_of("FluxPipeline") is None


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("from diffusers import BitsAndBytesConfig as DBnb", "DBnb(load_in_8bit=True)"),
        ("from diffusers import BitsAndBytesConfig as DiffusersBitsAndBytesConfig", None),
        ("from transformers import BitsAndBytesConfig as HFConfig", "HFConfig(load_in_8bit=True)"),
        ("import torch\nfrom diffusers import (\n  BitsAndBytesConfig as _C,\n)", "_C(load_in_8bit=True)"),
        ("def f():\n    pass\nfrom diffusers import BitsAndBytesConfig as B", "B(load_in_8bit=True)"),
    ],
)
def test_a_name_that_was_imported_under_another_is_known(imports: str, call: str | None) -> None:
    call = call or "DiffusersBitsAndBytesConfig(load_in_8bit=True)"
    script = (
        f"{imports}\nfrom diffusers import FluxPipeline as FP, FluxTransformer2DModel as Model\n"
        f'transformer = Model.from_pretrained("a/b", subfolder="transformer", quantization_config={call})\n'
        'pipe = FP.from_pretrained("a/b", transformer=transformer)\n'
    )
    assert class_of(script) == "FluxPipeline"
    target, _ = by_class("FluxPipeline", catalogue.versions()[0])
    assert target is not None
    made, found = from_script(script, target)
    assert "{component: transformer, backend: bitsandbytes, type: int8}" in made
    assert not [d for d in found if d.severity is not Severity.NOTE]


def test_a_name_that_is_assigned_too_is_not_the_imported_one() -> None:
    target, _ = by_class("FluxPipeline", catalogue.versions()[0])
    assert target is not None
    script = (
        "from diffusers import BitsAndBytesConfig as C\nC = other()\n"
        'pipe = FluxPipeline.from_pretrained("a/b")\n'
        'model = FluxTransformer2DModel.from_pretrained("a/b", quantization_config=C(load_in_8bit=True))\n'
    )
    assert "backend: bitsandbytes" not in from_script(script, target)[0]
