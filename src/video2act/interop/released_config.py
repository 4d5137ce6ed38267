"""A checkpoint of the released code holds tensors only. Most of its shape can be read off them; the rest stands in the
yaml it was trained with. Together they give our config.

What the released code does wrongly is not configured but left out (the additive text mask, frequencies in the wrong unit), except
where its weights depend on it: the zero border of its spatial filters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from video2act.config import DenoisingConfig, DitConfig, FilterConfig, FormerConfig, PretrainedConfig, System1Config
from video2act.interop.released_names import layers_of, num_blocks

RELEASED_FPS = 16.0
"""the rate that the released code takes its latents to have; its bands are in these Hz, whatever the video's rate is"""
HEAD_DIM = 64
"""of its formers; not configurable there"""
SPATIAL = {"sobel": "sobel", "scharr": "scharr", "laplace": "laplacian"}
STREAMS = {"spatial": ("video", "raw_stream"), "motion": ("motion", "motion_stream")}
"""our name of a stream -> its name in their tensors, and in their yaml"""


@dataclass(frozen=True)
class Sources:
    """Where the frozen encoders come from, and what the robot is. None of it is in a checkpoint."""

    text: str = "google/t5-v1_1-xxl"
    text_cache: str = ""
    image: str = "google/siglip-so400m-patch14-384"
    embodiment: str = "aloha_agilex"


def system1_config(state: Mapping[str, Tensor], settings: Mapping[str, Any], sources: Sources) -> System1Config:
    """System 1 as the tensors describe it; `settings` is the yaml's `model` section.

    Raises:
        ValueError: the tensors are not those of such a policy, or the noise schedule is not one that we have.
    """
    position, head = _shape(state, "model.x_pos_embed"), _shape(state, "model.blocks.0.attn.q_norm.weight")
    text, image = _shape(state, "model.lang_cond_pos_embed"), _shape(state, "model.img_cond_pos_embed")
    return System1Config(
        hidden=position[2],
        depth=num_blocks(state, "model.blocks"),
        num_heads=position[2] // head[0],
        denoising=denoising_config(settings.get("noise_scheduler", {})),
        dit=DitConfig(
            norm="variance",
            clock="frequency",
            sinusoids=_shape(state, "model.t_embedder.mlp.0.weight")[1],
            sinusoid_activation="silu",
            state_adaptor=_adaptor(state, "state_adaptor"),
            action_adaptor=_adaptor(state, "state_adaptor"),
            pools_text=False,
            num_text_positions=text[1],
            num_image_positions=image[1],
        ),
        text_encoder=PretrainedConfig(
            sources.text, _shape(state, "lang_adaptor.0.weight")[1], cache=sources.text_cache, max_tokens=text[1]
        ),
        text_adaptor=_adaptor(state, "lang_adaptor"),
        image_encoder=PretrainedConfig(sources.image, _shape(state, "img_adaptor.0.weight")[1]),
        image_adaptor=_adaptor(state, "img_adaptor"),
        embodiment=sources.embodiment,
    )


def horizon(state: Mapping[str, Tensor]) -> int:
    """Actions in a chunk; the other three tokens are timestep, control rate and state."""
    return _shape(state, "model.x_pos_embed")[1] - 3


def denoising_config(settings: Mapping[str, Any]) -> DenoisingConfig:
    """The yaml's `noise_scheduler` section."""
    kind, betas = settings.get("type", "ddpm"), settings.get("beta_schedule", "squaredcos_cap_v2")
    if kind != "ddpm" or betas != "squaredcos_cap_v2":
        raise ValueError(f"noise_scheduler: expected type ddpm with beta_schedule squaredcos_cap_v2, got {kind} with {betas}")
    return DenoisingConfig(
        schedule="ddpm",
        prediction=settings.get("prediction_type", "sample"),
        num_steps=settings.get("num_inference_timesteps", 5),
        num_train_timesteps=settings.get("num_train_timesteps", 1000),
    )


def stream_names(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """`spatial`, and `motion` if the checkpoint has two streams and its yaml does not say otherwise."""
    has_motion = any(name.startswith(("motion_layernorm.", "motion_token_compressor.")) for name in state)
    return ("spatial", "motion") if has_motion and settings.get("use_dual_stream_framepack", True) else ("spatial",)


def former_config(state: Mapping[str, Tensor], stream: str, settings: Mapping[str, Any]) -> FormerConfig:
    """The former of one of our streams; only its number of heads may have to come from the yaml.

    Raises:
        ValueError: the heads that the yaml names do not fit the tensors.
    """
    name = STREAMS[stream][0]
    prefix = f"{name}_token_compressor."
    if f"{prefix}latents" not in state:
        return FormerConfig(kind="projection", adaptor=_adaptor(state, f"{name}_adaptor"))
    frames, per_frame, width = _shape(state, f"{prefix}latents")
    depth = num_blocks(state, f"{prefix}layers")
    adaptor = _adaptor(state, "video_adaptor")
    if depth == 0:
        return FormerConfig(num_tokens=frames * per_frame, kind="constant", width=width, adaptor=adaptor)
    inner = _shape(state, f"{prefix}layers.0.0.to_q.weight")[0]
    num_heads = int(settings.get("token_compressor_heads", inner // HEAD_DIM))
    if num_heads < 1 or inner % num_heads:
        raise ValueError(f"token_compressor_heads={num_heads} does not divide the {inner} channels of {prefix}layers.0.0.to_q")
    return FormerConfig(
        num_tokens=frames * per_frame,
        depth=depth,
        num_heads=num_heads,
        kind="frame_resampler",
        width=width,
        head_dim=inner // num_heads,
        num_frames=frames,
        is_temporal=f"{prefix}layers.0.1.qkv.weight" in state,
        adaptor=adaptor,
    )


def filter_config(extraction: str | None, video: Mapping[str, Any], latent_fps: float) -> FilterConfig:
    """Their word for what is kept of a stream -> our filter.

    Args:
        video: the yaml's video section, whose `motion_extraction` holds the band.
        latent_fps: the true rate of the stream's latents. A band is a set of frequency bins, and the bins stay the same: 1 Hz
            of theirs, at 16 latents a second, is `latent_fps / 16` Hz.
    Raises:
        ValueError: a word that we cannot take over, with the reason.
    """
    if extraction in (None, "", "none", "None"):
        return FilterConfig()
    if extraction in SPATIAL:
        return FilterConfig(SPATIAL[extraction], border="zeros")  # type: ignore[arg-type]
    # either order in the name means the temporal filter first
    then = "sobel" if extraction in ("fft+sobel", "sobel+fft") else "none"
    if extraction == "fft" or then != "none":
        band = video.get("motion_extraction") or {}
        unit = latent_fps / float(video.get("fps", RELEASED_FPS))
        is_bandpass = band.get("filter_type", "bandpass") == "bandpass"
        low_hz = float(band.get("freq_low", 1.0)) if is_bandpass else 0.0
        high_hz = float(band.get("freq_high", 10.0))
        # the border is the spatial filter's
        border = "replicate" if then == "none" else "zeros"
        return FilterConfig("temporal_bandpass", unit * low_hz, unit * high_hz, then=then, border=border)
    if extraction == "moft":
        raise ValueError("extraction 'moft': the released code chooses channels for a whole batch at once; ours for each sample")
    raise ValueError(f"extraction {extraction!r} is not one of none, {', '.join(SPATIAL)}, fft, fft+sobel")


def check_selection(settings: Mapping[str, Any]) -> None:
    """Raise ValueError where the yaml thins out latent frames after the video model's codec. Ours chooses frames before it."""
    word = settings.get("motion_frame_select")
    if word not in (None, "", "none", "None", "all"):
        raise ValueError(
            f"motion_frame_select {word!r} drops latent frames of a clip; choose frames by num_frames and stride instead"
        )


def extraction_of(stream: str, settings: Mapping[str, Any]) -> str | None:
    """What the yaml says is kept of a stream. With a single stream the released code applies none."""
    if not settings.get("use_dual_stream_framepack", True):
        return None
    streams = settings.get("dual_stream_framepack") or {}
    return (streams.get(STREAMS[stream][1]) or {}).get("extraction")


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        some = ", ".join(sorted(state)[:5]) or "nothing"
        raise ValueError(f"no tensor {name}; this is not a checkpoint of the released code (it holds {some}, ...)")
    return tuple(state[name].shape)


def _adaptor(state: Mapping[str, Tensor], name: str) -> str:
    layers = layers_of(state, name)
    if not layers:
        raise ValueError(f"no tensor {name}.0.weight; this is not a checkpoint of the released code")
    return f"mlp{len(layers)}x_gelu"
