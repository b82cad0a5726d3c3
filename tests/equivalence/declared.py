"""Where diffusers' own offload and ours differ on purpose, each with its reason."""

from __future__ import annotations

"""Their ``__call__`` does not reach ``maybe_free_model_hooks``: what ran last stays on the device after
the call. With us a call ends when it ends."""

OWN_METHOD = {"KandinskyV22Img2ImgCombinedPipeline"}
"""Classes with a sequence and an ``enable_model_cpu_offload`` of their own, which hands on to two inner
pipelines: the string does not say what happens. Compared with what the string says."""

UNSEEN_IN_WALK = {
    "AceStepPipeline": {"audio_tokenizer.quantizer.get_output_from_indices"},
    "AnyFlowFARPipeline": {"vae._encode"},
    "AnyFlowPipeline": {"vae._encode"},
    "Ideogram4Pipeline": {
        "text_encoder.language_model.embed_tokens",
        "text_encoder.language_model.rotary_emb",
    },
    "StableDiffusionUpscalePipeline": {"watermarker.apply_watermark"},
    "UniDiffuserPipeline": {"text_decoder.encode", "text_decoder.generate_captions"},
}
"""Classes whose own walk calls a component by a method or a part that has no hook: diffusers leaves the
component on the CPU, where a card's pipeline stops with tensors on two devices (the watermarker, which
makes its own copies, goes on). We bring the component."""

REASONS = {
    "end": "diffusers frees components in the order of a Python set, another one in each process; "
    "excluded ones go to the CPU and back after each call, with us they stay",
    "failed": "an exception skips maybe_free_model_hooks: diffusers leaves everything on the device until "
    "the next call or until it is called by hand; with us the call's end frees it",
    "never": "the class never calls maybe_free_model_hooks; the same",
    "lost": "a use that no hook of diffusers sees: it moves nothing, with us it is a use like any other",
}
