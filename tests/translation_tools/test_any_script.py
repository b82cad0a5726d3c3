"""Whatever a script calls, with whatever arguments: a plan that the checker takes, or errors of the table."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.cli.main import run
from planner.diagnostics.diagnostic import Diagnostic, Severity, errors
from planner.diagnostics.table.p3_target import NO_SUCH_SOURCE
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.convert import from_script


def known(cls: str) -> Target:
    target = catalogue.find(cls, catalogue.versions()[0])
    assert target is not None
    return target


CLASSES = ("FluxPipeline", "StableDiffusionXLPipeline", "WanPipeline", "StableDiffusionPipeline")
VALUES = st.sampled_from(
    [
        *('"cuda"', '"cpu"', "torch.device('cuda', 1)", "0", "-1", "True", "None", "DEVICE", "device", "x"),
        *("torch.bfloat16", "torch.float8_e4m3fn", "1.5", "1e400", "10**9", "...", "b'x'", "1j", "f'{x}'"),
        *(
            "[]",
            "{}",
            '["vae"]',
            "[['vae']]",
            "[3]",
            '{"a": 1}',
            '{0: "10GiB", "cpu": "30GiB"}',
            "(1,)",
            "{1, 2}",
        ),
        *(
            '{"transformer": 4000, "*": 2000}',
            '{"transformer": 0, "vae": "cpu"}',
            "lambda: 1",
            "[i for i in x]",
        ),
        *('"auto"', '"balanced"', '"leaf_level"', '"block_level"', '"nf4"', '"int8wo"', '""', '"é"', '"a/b"'),
        *("x if y else z", "not x", "*x", "BitsAndBytesConfig(load_in_4bit=True)", "pipe", "pipe.vae"),
    ]
)
NAMES = st.sampled_from(
    [
        *("device", "gpu_id", "dtype", "torch_dtype", "onload_device", "offload_type", "use_stream"),
        *("num_blocks_per_group", "exclude_modules", "storage_dtype", "compute_dtype", "device_map"),
        *("skip_modules_pattern", "skip_modules_classes", "adapter_names", "adapter_weights", "adapter_name"),
        *("weight_name", "quant_backend", "quant_kwargs", "components_to_quantize", "quant_mapping"),
        *(
            "quantization_config",
            "quant_type",
            "modules_to_not_convert",
            "group_size",
            "budgets",
            "profile_no",
        ),
        *("pinnedMemory", "quantizeTransformer", "max_memory", "execution_device", "subfolder", "variant"),
        *("pretrained_model_name_or_path", "vae", "transformer", "use_tiling", "memory_reserve_margin"),
        *("llm_int8_skip_modules", "bnb_4bit_quant_type", "weights_dtype", "prev_module_hook"),
    ]
)
OBJECTS = st.sampled_from(
    [
        *("pipe", "pipe.vae", "pipe.transformer", "pipe.unet", "pipe.scheduler", "vae", "pipe.vae.decoder"),
        *('pipe.components["vae"]', 'getattr(pipe, "text_encoder")', "pipe.transformer.blocks[0]", "other"),
    ]
)
METHODS = (
    *("to", "cuda", "half", "enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_tiling"),
    *("enable_group_offload", "enable_layerwise_casting", "load_lora_weights", "set_adapters", "fuse_lora"),
    *("_exclude_from_cpu_offload.append", "enable_vae_tiling", "from_pretrained"),
)
FUNCTIONS = (
    *("apply_group_offloading", "apply_layerwise_casting", "cpu_offload", "cpu_offload_with_hook"),
    *("dispatch_model", "offload.profile", "offload.all", "quantize", "quantize_", "torch.compile"),
)
MAKERS = (
    *("FluxPipeline.from_pretrained", "AutoModel.from_pretrained", "FluxPipeline.from_single_file"),
    *(
        "PipelineQuantizationConfig",
        "BitsAndBytesConfig",
        "TorchAoConfig",
        "QuantoConfig",
        "ComponentsManager",
    ),
)
ARGUMENTS = st.builds(
    lambda placed, named: [*placed, *(f"{name}={value}" for name, value in named.items() if value != "*x")],
    st.lists(VALUES, max_size=2),
    st.dictionaries(NAMES, VALUES, max_size=4),
)
STATEMENTS = st.one_of(
    st.builds(lambda of, m, a: f"{of}.{m}({', '.join(a)})", OBJECTS, st.sampled_from(METHODS), ARGUMENTS),
    st.builds(lambda f, of, a: f"{f}({', '.join([of, *a])})", st.sampled_from(FUNCTIONS), OBJECTS, ARGUMENTS),
    st.builds(
        lambda to, m, a: f"{to} = {m}({', '.join(a)})", OBJECTS, st.sampled_from(MAKERS), ARGUMENTS
    ).filter(lambda said: "getattr(" not in said.partition(" = ")[0]),
    st.builds(lambda to, value: f"{to} = {value}", st.sampled_from(("x", "device", "pipe.vae")), VALUES),
).filter(lambda said: " = *x" not in said)
BLOCKS = st.sampled_from(
    [
        *(
            "if x:",
            "if device == 'cuda':",
            "for c in [pipe.vae, pipe.unet]:",
            "for i in range(2):",
            "with a() as b:",
        ),
        *("while True:", "def main(device='cpu', x=None):", "async def load():", "class A:", "try:"),
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> str:
    lines = draw(st.lists(STATEMENTS, max_size=3))
    if draw(st.booleans()):
        head = draw(BLOCKS)
        inner = draw(st.lists(STATEMENTS, min_size=1, max_size=3))
        lines += [
            head,
            *(f"    {line}" for line in inner),
            *(["finally:", "    pass"] if head == "try:" else []),
        ]
    return "\n".join([*lines, *draw(st.lists(STATEMENTS, max_size=2))]) + "\n"


@settings(max_examples=300)
@given(script=scripts(), cls=st.sampled_from(CLASSES))
def test_any_script(script: str, cls: str) -> None:
    made, found = from_script(script, known(cls))
    assert bool(errors(found)) == (made == "")
    if made:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "made.plan.yaml"
            place.write_text(made, encoding="utf-8")
            result = planner.validate(place)
        assert not {d.code for d in result.errors} - {NO_SUCH_SOURCE}, result.errors


def translated(script: str, cls: str = "FluxPipeline") -> tuple[str, tuple[Diagnostic, ...]]:
    made, found = from_script(script, known(cls))
    assert made, found
    return made, found


HEAD = 'pipe = FluxPipeline.from_pretrained("a/b", torch_dtype=torch.bfloat16)\n'


@pytest.mark.parametrize(
    "condition",
    [
        *(
            "LOW",
            "not HIGH",
            'DEVICE == "cuda"',
            'DEVICE != "cpu"',
            "NOTHING is None",
            "LOW and DEVICE == 'cuda'",
        ),
        *("unknown or LOW", "not (HIGH or unknown is None and HIGH)", "__name__ == '__main__'"),
    ],
)
def test_conditions_that_literals_decide_are_decided(condition: str) -> None:
    script = (
        'DEVICE = "cuda" if torch.cuda.is_available() else "cpu"\nLOW, HIGH, NOTHING = True, False, None\n'
        f'{HEAD}if {condition}:\n    pipe.enable_model_cpu_offload()\nelse:\n    pipe.to("cuda")\n'
    )
    made, found = translated(script)
    assert "semantics: diffusers" in made
    assert not [d for d in found if d.severity is not Severity.NOTE]


@pytest.mark.parametrize(
    "condition",
    [
        *(
            "args.low",
            "os.name == 'nt'",
            "sys.platform",
            "unknown",
            "unknown and LOW",
            "torch.version.cuda == '12'",
        ),
        *("LOW and unknown", "len(x) == 3", "torch.device('cuda') == 'cuda'", "DEVICE in x"),
    ],
)
def test_other_conditions_are_left_open(condition: str) -> None:
    script = f'LOW, DEVICE = True, "cuda"\n{HEAD}if {condition}:\n    pipe.enable_model_cpu_offload()\n'
    made, found = translated(script)
    assert "semantics" not in made
    assert [d.code.id for d in found if d.severity is not Severity.NOTE] == ["P876"]


def test_a_variable_that_a_loop_may_set_is_not_known_after_it() -> None:
    made, found = translated(
        f'device = "cuda:0"\nwhile waiting():\n    device = other()\n{HEAD}pipe.to(device)\n'
    )
    assert "device:" not in made
    assert "P876" in {d.code.id for d in found}


@pytest.mark.parametrize(
    "script",
    [
        f"def load():\n    {HEAD}    pipe.enable_model_cpu_offload()\n    return pipe\n",
        f"async def load(low=True):\n    {HEAD}    if low:\n        pipe.enable_model_cpu_offload()\n",
        f"class P:\n    def setup(self):\n        self.{HEAD}        self.pipe.enable_model_cpu_offload()\n",
        f"def f():\n    {HEAD}    return pipe\ndef main():\n    p = f()\n    p.enable_model_cpu_offload()\n",
        "P = None\ndef load():\n    global P\n    P" + HEAD[4:] + "    P.enable_model_cpu_offload()\n",
        "def load():\n    global P\n    P" + HEAD[4:] + "load()\nP.enable_model_cpu_offload()\n",
    ],
)
def test_a_script_of_one_function_is_that_function(script: str) -> None:
    made, found = translated(script)
    assert "semantics: diffusers" in made
    assert "source: a/b" in made
    assert not [d for d in found if d.severity is not Severity.NOTE]


def test_of_two_functions_none_is_chosen() -> None:
    script = (
        f'def a():\n    {HEAD}    pipe.to("cuda")\ndef b():\n    {HEAD}    pipe.enable_model_cpu_offload()\n'
    )
    made, found = from_script(script, known("FluxPipeline"))
    assert made == ""
    assert [d.span.line for d in found if d.span and d.code.id == "P876"] == [1, 4]


def test_what_is_cast_last_is_the_dtype() -> None:
    made, found = translated(
        f"{HEAD}pipe.vae.to(torch.float32)\npipe.text_encoder.half()\npipe.to(torch.float16)\n"
    )
    assert "dtype: float16" in made
    assert [(d.code.id, d.span.line) for d in found if d.span and d.severity is not Severity.NOTE] == [
        ("P879", 2),
        ("P879", 3),
    ]


def test_a_part_of_a_component_that_is_cast_is_told() -> None:
    _, found = translated(f"{HEAD}pipe.vae.decoder.half()\n")
    assert "decoder" in next(d.message for d in found if d.code.id == "P876")
    assert not [d for d in found if "float16" in d.message and d.code.id != "P877"]


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        ("from_pretrained", "pretrained_model_name_or_path"),
        ("from_single_file", "pretrained_model_link_or_path"),
        ("from_single_file", "pretrained_model_link_or_path_or_dict"),
    ],
)
def test_a_source_is_read_by_its_name_too(loader: str, name: str) -> None:
    made, _ = translated(
        f'vae = AutoencoderKL.{loader}({name}="c/d")\npipe = FluxPipeline.{loader}({name}="a/b", vae=vae)\n'
    )
    assert "source: a/b" in made
    assert "vae: {source: c/d}" in made


def test_a_model_that_is_no_component_is_told() -> None:
    script = f'{HEAD}judge = CLIPModel.from_pretrained("c/d")\nother = CLIPModel.from_pretrained("e/f")\n'
    _, found = translated(script + "pipe.text_encoder = other\n")
    assert [(d.code.id, d.span.line) for d in found if d.span and d.severity is not Severity.NOTE] == [
        ("P876", 2)
    ]


def test_adapters_that_are_not_set_are_off() -> None:
    made, _ = translated(
        f'{HEAD}pipe.load_lora_weights("a/x", adapter_name="x")\n'
        'pipe.load_lora_weights("a/y", adapter_name="y")\n'
        'pipe.set_adapters(["x"], [0.5])\npipe.set_adapters("y", adapter_weights=0.25)\n'
    )
    assert "adapter_name: x, lora_scale: 0.0}" in made
    assert "adapter_name: y, lora_scale: 0.25}" in made


@pytest.mark.parametrize(
    ("general", "source", "cls"),
    [
        ("DiffusionPipeline", '"black-forest-labs/FLUX.1-dev"', "FluxPipeline"),
        ("AutoPipelineForText2Image", "MODEL", "FluxPipeline"),
        (
            "AutoPipelineForImage2Image",
            'pretrained_model_or_path="./sdxl"',
            "StableDiffusionXLImg2ImgPipeline",
        ),
        ("DiffusionPipeline", '"./sdxl"', "StableDiffusionXLPipeline"),
    ],
)
def test_a_general_class_is_the_one_of_what_it_loads(
    general: str,
    source: str,
    cls: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sdxl").mkdir()
    (tmp_path / "sdxl" / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    script = (
        f'MODEL = "black-forest-labs/FLUX.1-dev"\np = {general}.from_pretrained({source})\np.to("cuda")\n'
    )
    assert run(["translate", script]) == 0
    assert f"class: {cls}, " in capsys.readouterr().out


@pytest.mark.parametrize("source", ['"somebody/unknown"', '"./nowhere"', "args.model", ""])
def test_a_general_class_of_unknown_weights_needs_one(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["translate", f"p = DiffusionPipeline.from_pretrained({source})\np.to('cuda')\n"]) == 2
    assert "--class" in capsys.readouterr().err
