"""A checkpoint of the released code holds tensors only. Most of its shape can be read off them; the rest stands in the
yaml it was trained with. Together they give our config.

What the released code does wrongly is not configured but left out (the additive text mask, frequencies in the wrong unit), except
where its weights depend on it: the zero border of its spatial filters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from video2act.config import DenoisingConfig, DitConfig, FormerConfig, PretrainedConfig, System1Config
from video2act.interop.released_names import layers_of, num_blocks
from video2act.interop.released_streams import STREAMS

HEAD_DIM = 64
"""of its formers; not configurable there"""


@dataclass(frozen=True)
class Sources:
    """Where the frozen encoders come from, and what the robot is. None of it is in a checkpoint."""

    text: str = "google/t5-v1_1-xxl"
    text_cache: str = ""
    image: str = "google/siglip-so400m-patch14-384"
    embodiment: str = "aloha_agilex"


def system1_config(state: Mapping[str, Tensor], settings: Mapping[str, Any], *, sources: Sources) -> System1Config:
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
            sources.text, _width_in(state, "lang_adaptor"), cache=sources.text_cache, max_tokens=text[1]
        ),
        text_adaptor=_adaptor(state, "lang_adaptor"),
        image_encoder=PretrainedConfig(sources.image, _width_in(state, "img_adaptor")),
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
        raise ValueError(
            f"noise_scheduler: expected type ddpm with beta_schedule squaredcos_cap_v2, got {kind} with {betas}"
        )
    prediction = settings.get("prediction_type", "sample")
    if prediction not in ("sample", "epsilon"):
        raise ValueError(
            f"noise_scheduler: prediction_type {prediction!r} is not sample or epsilon; the released code trains every other one "
            "as a sample, and denoises with it as with something else"
        )
    return DenoisingConfig(
        schedule="ddpm",
        prediction=prediction,
        num_steps=settings.get("num_inference_timesteps", 5),
        num_train_timesteps=settings.get("num_train_timesteps", 1000),
    )


def former_config(state: Mapping[str, Tensor], stream: str, *, head_dim: int = HEAD_DIM) -> FormerConfig:
    """The former of one of our streams.

    Raises:
        ValueError: its attention is not of whole heads.
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
    query = f"{prefix}layers.0.0.to_q.weight"
    inner = _shape(state, query)[0]
    if inner % head_dim:
        raise ValueError(
            f"{query} has {inner} channels, which are not whole heads of {head_dim}, as the released code's are"
        )
    return FormerConfig(
        num_tokens=frames * per_frame,
        depth=depth,
        num_heads=inner // head_dim,
        kind="frame_resampler",
        width=width,
        head_dim=head_dim,
        num_frames=frames,
        is_temporal=f"{prefix}layers.0.1.qkv.weight" in state,
        adaptor=adaptor,
    )


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        some = ", ".join(sorted(state)[:5]) or "nothing"
        raise ValueError(f"no tensor {name}; this is not a checkpoint of the released code (it holds {some}, ...)")
    return tuple(state[name].shape)


def _adaptor(state: Mapping[str, Tensor], name: str) -> str:
    layers = layers_of(state, name)
    if not layers:
        raise ValueError(
            f"neither {name}.0.weight (mlpNx_gelu) nor {name}.weight (linear); this is not a checkpoint of the released code"
        )
    return f"mlp{len(layers)}x_gelu"


def _width_in(state: Mapping[str, Tensor], name: str) -> int:
    """What an adaptor takes."""
    layers = layers_of(state, name)
    return _shape(state, f"{layers[0] if layers else name}.weight")[1]
