"""What the catalogue knows of diffusers' pipeline classes."""

from __future__ import annotations

import pytest
from models import stages

from planner.target import catalogue
from planner.target.model import WalkStage


def walk(cls: str) -> str:
    """A class's walk on a line: ``*`` loops steps, ``+`` loops otherwise, ``?`` is optional."""
    target = catalogue.find(cls)
    assert target is not None
    return stages(target.walk or ())


WALKS = {
    # read from each class's own __call__ in diffusers 0.42.1
    "StableDiffusionXLPipeline": "(text_encoder text_encoder_2)? (image_encoder)? (unet)* (vae.decode)?",
    "StableDiffusionXLImg2ImgPipeline": (
        "(text_encoder text_encoder_2)? (vae.encode)? (image_encoder)? (unet)* (vae.decode)?"
    ),
    "StableDiffusionXLControlNetPipeline": (
        "(text_encoder text_encoder_2)? (image_encoder)? (controlnet unet)* (vae.decode)?"
    ),
    "FluxPipeline": "(text_encoder text_encoder_2)? (image_encoder)? (transformer)* (vae.decode)?",
    "WanPipeline": "(text_encoder)? (transformer transformer_2)* (vae.decode)?",
    "WanImageToVideoPipeline": (
        "(text_encoder)? (image_encoder)? (vae.encode) (transformer transformer_2)* (vae.decode)?"
    ),
    "WanAnimatePipeline": (
        "(text_encoder)? (image_encoder)? (vae.encode) ((vae.encode) (transformer)* (vae.decode))+"
    ),
    "QwenImageEditPipeline": "(text_encoder)? (vae.encode)? (transformer)* (vae.decode)?",
    "StableVideoDiffusionPipeline": "(image_encoder) (vae.encode) (unet)* (vae.decode)?",
    "KandinskyV22CombinedPipeline": (
        "(prior_text_encoder) (prior_prior)* (prior_prior.post_process_latents) (prior_image_encoder)? "
        "(unet)* (movq.decode)?"
    ),
    "StableDiffusionInpaintPipeline": (
        "(text_encoder text_encoder.text_model.final_layer_norm)? (image_encoder)? (vae.encode)? (unet)* "
        "(vae.encode vae.decode)? (safety_checker)?"
    ),
    "StableDiffusionControlNetPipeline": (
        "(text_encoder text_encoder.text_model.final_layer_norm)? (image_encoder)? (controlnet unet)* "
        "(vae.decode)? (safety_checker)?"
    ),
    "FluxKontextPipeline": (
        "(text_encoder text_encoder_2)? (vae.encode)? (image_encoder)? (transformer)* (vae.decode)?"
    ),
    "QwenImagePipeline": "(text_encoder)? (transformer)* (vae.decode)?",
    "LTXPipeline": (
        "(text_encoder)? (transformer)* (vae.latents_mean.view vae.latents_std.view vae.decode)?"
    ),
    "HunyuanVideoPipeline": "(text_encoder text_encoder_2)? (transformer)* (vae.decode)?",
    "HunyuanVideoImageToVideoPipeline": (
        "(vae.encode) (text_encoder text_encoder_2)? (transformer)* (vae.decode)?"
    ),
    "IFPipeline": "(text_encoder)? (unet)* (safety_checker)? (watermarker.apply_watermark)?",
    "StableCascadeCombinedPipeline": (
        "(prior_text_encoder)? (prior_image_encoder)? (prior_prior)* "
        "(text_encoder)? (decoder)* (vqgan.decode)?"
    ),
    "StableAudioPipeline": "(text_encoder)? (projection_model) (vae.encode)? (transformer)* (vae.decode)?",
    "AnimateDiffPipeline": (
        "(text_encoder text_encoder.text_model.final_layer_norm)? (image_encoder)? ((unet)*)+ (vae.decode)?"
    ),
    "CogVideoXPipeline": "(text_encoder)? (transformer)* (vae.decode)?",
    "PixArtAlphaPipeline": "(text_encoder)? (transformer)* (vae.decode)?",
    "Lumina2Pipeline": "(text_encoder)? (transformer)* (vae.decode)?",
    "MochiPipeline": "(text_encoder)? (transformer)* (vae.decode)?",
    "SkyReelsV2DiffusionForcingPipeline": "(text_encoder)? ((transformer)*)+ (vae.decode)?",
    "HeliosPyramidPipeline": "(text_encoder)? (vae.encode)? (((transformer)*)+ (vae.decode))+",
    "LTXLatentUpsamplePipeline": (
        "(vae.encode? vae.latents_mean.view vae.latents_std.view latent_upsampler vae.decode?)"
    ),
}


@pytest.mark.parametrize("cls", WALKS)
def test_walks_read_from_the_source(cls: str) -> None:
    assert walk(cls) == WALKS[cls]


def test_the_catalogue_has_every_class() -> None:
    names = catalogue.names("0.42.1")
    targets = [catalogue.find(name) for name in names]
    assert len(names) == 307
    assert all(t is not None for t in targets)
    sequenced = [t for t in targets if t is not None and t.sequence]
    assert len(sequenced) >= 283
    assert [t.cls for t in sequenced if t.walk is None] == []
    unknown = [t.cls for t in targets if t is not None and t.walk is None]
    assert all("Onnx" in name or name == "VersatileDiffusionPipeline" for name in unknown), unknown
    assert len(unknown) == 7


def test_what_denoises_is_looped() -> None:
    def loops(walk: tuple[WalkStage, ...]) -> bool:
        return any(stage.loop == "steps" or loops(stage.stages) for stage in walk)

    targets = filter(None, map(catalogue.find, catalogue.names()))
    plain = {t.cls for t in targets if t.walk and not loops(t.walk)}
    assert plain == {
        # encoders, upsamplers and decoders on their own, and a language model that has blocks, not steps
        "FluxPriorReduxPipeline",
        "LLaDA2Pipeline",
        "LTX2LatentUpsamplePipeline",
        "LTX2VideoDiffusionDecodePipeline",
        "LTXLatentUpsamplePipeline",
    }


def test_what_is_none_excluded_and_optional() -> None:
    target = catalogue.find("StableDiffusionPipeline", "0.42.1")
    assert target is not None
    assert target.sequence == "text_encoder->image_encoder->unet->vae"
    assert target.excluded == ("safety_checker",)
    assert target.modules == ("vae", "text_encoder", "unet", "safety_checker", "image_encoder")
    assert [n for n, c in target.components.items() if c.optional] == [
        "safety_checker",
        "feature_extractor",
        "image_encoder",
    ]
    assert target.components["unet"].classes == ("UNet2DConditionModel",)
    assert target.components["vae"].entries == ("decode",)
    assert all(c.bytes is None for c in target.components.values())
    assert catalogue.find("NoSuchPipeline") is None


def test_modules_that_stay_in_float32() -> None:
    assert "rope" in catalogue.kept_in_float32("WanTransformer3DModel", "bfloat16")
    assert catalogue.kept_in_float32("WanTransformer3DModel", "float32") == ()
    assert catalogue.kept_in_float32("T5EncoderModel", "float16") == ("wo",)
    assert catalogue.kept_in_float32("T5EncoderModel", "bfloat16") == ()
    assert catalogue.kept_in_float32("NoSuchModel", "float16") == ()


def test_every_use_of_a_walk_is_a_component_with_weights() -> None:
    for name in catalogue.names():
        target = catalogue.find(name)
        assert target is not None
        pending = list(target.walk or ())
        while pending:
            stage = pending.pop()
            pending += stage.stages
            assert bool(stage.stages) != bool(stage.runs), name
            for use in stage.runs:
                assert target.components[use.component].module, (name, str(use))


@pytest.mark.parametrize(
    ("specifier", "admitted"),
    [(None, True), (">=0.40", True), ("==0.42.1", True), ("<0.20", False), (">99", False)],
)
def test_the_newest_shipped_version_that_is_admitted(specifier: str | None, admitted: bool) -> None:
    version, found = catalogue.pick(specifier)
    assert found is admitted
    assert version in catalogue.versions()
