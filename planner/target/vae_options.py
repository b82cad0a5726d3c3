"""Tiling and slicing: which classes of components encode and decode in tiles, or one item of a batch at a
time."""

from __future__ import annotations

import re
from collections.abc import Iterable

VAE_OPTIONS = ("tiling", "slicing")
"""Keys of a component in a plan; diffusers' methods are ``enable_tiling``, ``disable_tiling`` and so on."""

_AUTOENCODER = re.compile(r"autoencoder|vae|vq|decoder", re.IGNORECASE)
"""In the names of all classes of diffusers that have one of these options."""
_NEITHER = frozenset(
    {
        *("AsymmetricAutoencoderKL", "AutoencoderKLTemporalDecoder", "LongCatAudioDiTVae", "VQModel"),
        *("AutoencoderKLMiniMaxH3Audio", "AutoencoderSAME", "Cosmos3AVAEAudioTokenizer", "Kandinsky6SRVAE"),
        *("MMAudioVAE", "MiniMaxMusic3RVQDepthDecoder", "PaellaVQModel", "RFD4ProteinaAutoencoder"),
        *("T5FilmDecoder", "UniDiffuserTextDecoder"),
    }
)
_LACK = {
    "tiling": _NEITHER | {"AutoencoderKLKVAEAudio", "AutoencoderKLLTX2Audio", "AutoencoderRAE"},
    "slicing": _NEITHER | {"LTX2VideoDiffusionDecoderModel"},
}
"""Classes of diffusers 0.42 with such a name and without the option; some inherit a method that refuses."""


def may_have(option: str, classes: Iterable[str]) -> bool:
    """Whether a component of one of ``classes`` has ``option``, as far as names tell, so True where there are
    none: of classes that are not diffusers' it is seen when the component is loaded (P719)."""
    names = tuple(classes)
    return not names or any(_AUTOENCODER.search(cls) and cls not in _LACK[option] for cls in names)
