"""Checks of single parts against the released code: filters, schedules, formers, the action transformer."""

import re
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from wan_features import load_wan, wan_tokens, with_lora

from golden import Golden, Report, additive_attention, under
from video2act import layers
from video2act.config import DenoisingConfig, FilterConfig, NormForm
from video2act.layers import RmsNorm, sinusoidal_embedding
from video2act.system1.action_dit import ActionDiT
from video2act.system1.denoising import Denoising
from video2act.system2.filters import make_filter
from video2act.system2.former import make_former
from video2act.system2.latents import show
from video2act.types import Conditions, Tokens, Video
from video2act_released.config import HEAD_DIM, former_config
from video2act_released.core import action_transformer
from video2act_released.settings import Stream
from video2act_released.streams import selected
from video2act_released.weights import frame_former_names, rename

FILTER, POLICY = 1e-6, 2e-5

SPATIAL = {"sobel": "sobel", "scharr": "scharr", "laplace": "laplacian"}
BF16_STEP = 2**-7
"""relative spacing of bfloat16"""


def check_filters(golden: Golden, report: Report) -> None:
    tensors = golden.tensors()
    for name, expected in under(tensors, "out.").items():
        suffix = re.search(r"_(t\d+)$", name)
        grid = tensors[f"x_{suffix[1]}" if suffix else "x"]
        word = name.removesuffix(suffix[0]) if suffix else name
        is_half = word.endswith("_bf16in")
        word = word.removesuffix("_bf16in")
        if is_half:
            grid = grid.bfloat16()
        fps = re.search(r"_fps(\d+)", word)
        video = Video(grid, float(fps[1]) if fps else 16.0)
        # rounded to bfloat16 at the end, so equal up to one step of it
        tolerance = FILTER + is_half * BF16_STEP * float(expected.abs().max())
        if word.startswith("moft"):
            _check_moft(report, word, video, expected, tolerance)
        elif word in SPATIAL:
            _check_spatial(report, name, SPATIAL[word], video, expected, tolerance)
        elif word.startswith("fft") or word.endswith("fft"):
            _check_temporal(report, name, word, video, expected, tolerance)
        elif word in ("none", "None", "identity"):
            report.close(name, make_filter(FilterConfig())(video).grid.float(), expected, tolerance)
        else:
            report.equal(name, f"unknown filter {word}", "a filter that this test knows")


def _check_spatial(report: Report, name: str, ours: str, video: Video, expected: Tensor, tolerance: float) -> None:
    zeros = FilterConfig(ours, border="zeros")  # type: ignore[arg-type]
    report.close(f"{name}, zero border", make_filter(zeros)(video).grid.float(), expected, tolerance)
    # ours differs at the border, and takes off the constant that keeps the square root smooth
    inside = (..., slice(1, -1), slice(1, -1))
    constant = 0.0 if ours == "laplacian" else 1e-3
    own = make_filter(FilterConfig(ours))(video).grid.float()  # type: ignore[arg-type]
    report.close(f"{name}, inside", own[inside] + constant, expected[inside], tolerance)


def _check_temporal(report: Report, name: str, word: str, video: Video, expected: Tensor, tolerance: float) -> None:
    low_hz, high_hz = (1.0, 10.0) if "default" in word else (1.0, 7.0)
    lowpass = re.search(r"lowpass_hi(\d+)", word)
    if lowpass:
        low_hz, high_hz = 0.0, float(lowpass[1])
    then, border = ("sobel", "zeros") if "sobel" in word else ("none", "replicate")
    keep = make_filter(FilterConfig("temporal_bandpass", low_hz=low_hz, high_hz=high_hz, then=then, border=border))
    if not expected.any():
        # theirs answers a band without a frequency with zeros
        with pytest.raises(ValueError, match="holds no frequency"):
            keep(video)
        report.equal(f"{name}, refused", True, True)
        return
    report.close(name, keep(video).grid.float(), expected, tolerance)


def _check_moft(report: Report, word: str, video: Video, expected: Tensor, tolerance: float) -> None:
    """Theirs chooses channels per batch and keeps the mean; on a batch laid side by side ours chooses the same."""
    prop = re.search(r"prop([\d.]+)", word)
    share = float(prop[1]) if prop else 0.04
    b = len(video.grid)
    beside = Video(rearrange(video.grid, "b c t h w -> 1 c t (b h) w"), video.fps)
    ours = make_filter(FilterConfig("moft", keep=share))(beside)
    ours = rearrange(ours.grid.float(), "1 c t (b h) w -> b c t h w", b=b)
    report.close(f"{word}, without the mean", ours, expected - expected.mean(dim=2, keepdim=True), tolerance)


def check_scheduler(golden: Golden, report: Report) -> None:
    tensors = golden.tensors()
    noise = tensors["dpm.x"]
    for name in sorted({found[1] for key in tensors if (found := re.match(r"dpm\.(\w+\.n\d+)\.step0$", key))}):
        prediction, num_steps = name.split(".n")
        asked: list[Tensor] = []
        timesteps: list[float] = []

        def denoise(noisy: Tensor, timestep: Tensor, asked=asked, timesteps=timesteps) -> Tensor:
            timesteps.append(float(timestep[0]))
            asked.append(noisy)
            return torch.tanh(0.7 * noisy + 0.1 * (len(asked) - 1))

        config = DenoisingConfig("ddpm", prediction, num_steps=int(num_steps))  # type: ignore[arg-type]
        last = Denoising(config).sample(denoise, noise)
        for step, ours in enumerate([*asked[1:], last]):
            expected = tensors[f"dpm.{name}.step{step}"]
            # an epsilon prediction at the first step is divided by a signal of 5e-5: relative to its size
            scale = max(1.0, float(expected.abs().max())) if prediction == "epsilon" else 1.0
            report.close(f"{name} step {step}", ours / scale, expected / scale, FILTER)
        if f"dpm.timesteps_{num_steps}" in tensors:
            report.equal(f"{name} timesteps", timesteps, tensors[f"dpm.timesteps_{num_steps}"].tolist())
    if "alphas_cumprod" in tensors:
        signal, _, _ = _add_noise(torch.ones(1000, 1, 1), torch.zeros(1000, 1, 1), torch.arange(1000))
        report.close("alphas_cumprod", signal.flatten().square(), tensors["alphas_cumprod"], FILTER)


def _add_noise(actions: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DDPM noise at whole timesteps."""
    return Denoising(DenoisingConfig("ddpm", "sample")).add_noise(actions, noise, uniform=(timesteps + 0.5) / 1000)


def check_compressor(golden: Golden, report: Report) -> None:
    tensors = golden.tensors()
    for case, settings in golden.description["cases"].items():
        own = under(tensors, f"{case}.sd.")
        width = own["norm.weight"].shape[0]
        features = tensors.get(f"{case}.features", tensors.get("features"))
        assert features is not None
        # in a policy, a norm comes before and an adaptor after; here, the identity
        state = {f"video_token_compressor.{name}": tensor for name, tensor in own.items()}
        state |= {"video_adaptor.0.weight": torch.eye(width), "video_adaptor.0.bias": torch.zeros(width)}
        norm = torch.ones(features.shape[2])
        state |= {"video_layernorm.weight": norm, "video_layernorm.bias": 0 * norm}
        config = former_config(state, "spatial", head_dim=settings.get("dim_head", HEAD_DIM))
        former = make_former(config, features.shape[2], token_dim=width)
        former.load_state_dict(rename(state, frame_former_names(state, "video"), own=former.state_dict(), source=case))
        if hasattr(former, "norm_in"):
            former.norm_in = nn.Identity()
        grid = rearrange(features, "b n d -> b d n 1 1")
        report.close(case, former(Video(grid, 1.0)).data, tensors[f"{case}.out"], POLICY)
        depends = not torch.equal(former(Video(grid, 1.0)).data, former(Video(grid.flip(2) + 1, 1.0)).data)
        report.equal(f"{case} depends on the video", depends, settings.get("output_depends_on_input", depends))


def check_action_core(golden: Golden, report: Report) -> None:
    tensors = golden.tensors()
    state, config = under(tensors, "sd."), golden.description["config"]
    forms: tuple[NormForm, NormForm] = ("variance", "rms")
    dits = {form: action_transformer(state, num_heads=config["num_heads"], norm=form) for form in forms}
    for name, expected in tensors.items():
        if not re.search(r"(^|\.)out\.(bool_mask|no_mask|all_ones_mask|t_scalar)$|^alt\.\w+\.out$", name):
            continue
        is_masked = not name.endswith(("no_mask", "all_ones_mask"))
        is_boolean = "boolean_mask" in name or "unfused" in name
        mask = tensors["in.lang_mask"].bool()
        text = Tokens(tensors["in.lang_c"], mask if is_masked else torch.ones_like(mask))
        timestep = tensors["in.t"].float()
        if name.endswith("t_scalar"):
            timestep = timestep[:1].expand(len(timestep))
        with pytest.MonkeyPatch.context() as patch:
            if is_masked and not is_boolean:
                patch.setattr(layers, "attention", additive_attention)
            dit = dits["rms" if "true_rms" in name else "variance"]
            ours = _run_core(dit, text, tensors, timestep)
        report.close(name, ours, expected, POLICY)
    if "ca.x" in tensors:
        cross, mask = dits["variance"].blocks[0].cross, tensors["in.lang_mask"].bool()
        with torch.no_grad():
            ours = cross(tensors["ca.x"], cross.project(tensors["ca.c"], mask))  # type: ignore[operator]
        report.close("ca.out_boolean_hand", ours, tensors["ca.out_boolean_hand"], POLICY)
    if "rms.x" in tensors:
        for name, form in (("rms.out_timm103", "variance"), ("rms.out_true", "rms")):
            norm = RmsNorm(tensors["rms.w"].shape[0], form)  # type: ignore[arg-type]
            norm.load_state_dict({"weight": tensors["rms.w"]})
            report.close(name, norm(tensors["rms.x"]), tensors[name], FILTER)
    if "tembed.in" in tensors:
        sinusoids = sinusoidal_embedding(tensors["tembed.in"], tensors["tembed.sinus"].shape[1])
        report.close("tembed.sinus", sinusoids, tensors["tembed.sinus"], FILTER)
        report.close("tembed.out", dits["variance"].timestep_in(sinusoids), tensors["tembed.out"], POLICY)


def _run_core(dit: ActionDiT, text: Tokens, tensors: dict[str, Tensor], timestep: Tensor) -> Tensor:
    """The fixture's state and actions are tokens already."""
    b = len(timestep)
    tokens = tensors["in.x"]
    conditions = Conditions(text, Tokens.all_visible(tensors["in.img_c"]), Tokens.all_visible(tensors["in.video_c"]))
    zeros = torch.zeros(b, 1)
    with torch.no_grad():
        projected = dit.project(
            conditions, zeros, has_state=zeros, staleness=torch.full((b,), 0.3), fps=tensors["in.freq"].float()
        )
        projected = replace(projected, state=tokens[:, :1])
        return dit.denoise(tokens[:, 1:], timestep, conditions=projected)


def check_wan_dit(golden: Golden, report: Report) -> None:
    """Hidden states, which is all that a policy reads.

    The last layer is left out: in the released code its modulation mixes up the items of a batch of two.
    """
    tensors, config = golden.tensors(), golden.description["config"]
    own = under(tensors, "sd.")
    for name, expected in under(tensors, "tokens.").items():
        found = re.match(r"layers(\d+)_t(\d[\d_]*?)(?:_([a-z]\w*))?$", name)
        assert found, f"unknown name tokens.{name}"
        num_layers, timesteps, variant = int(found[1]), [float(t) for t in found[2].split("_")], found[3]
        weights = own if variant != "lora" else with_lora(own, under(tensors, "lora.model."), scale=2.0)
        context = {"emptyctx": tensors["context"][:, :0], "zeroctx9": torch.zeros(len(expected), 9, config["text_dim"])}
        timestep = torch.tensor(timesteps).expand(len(expected))
        model, text = load_wan(weights, config), context.get(variant or "", tensors["context"])
        with torch.no_grad():
            ours = wan_tokens(model, tensors["latent"], text, num_layers or config["num_layers"], timestep)
        report.close(f"tokens.{name}", ours, expected, POLICY)


def check_motion_frame_select(golden: Golden, report: Report) -> None:
    """Which latents of a clip are shown: `x [b c t h w]`, and for each way of choosing `out.*` with some of its frames.

    The way stands in the name, as the released code's yaml calls it; without one it is `last`, its default.
    """
    tensors = golden.tensors() if golden.has_tensors else {}
    grid = tensors.get("x")
    for name, expected in under(tensors, "out.").items():
        if (
            grid is None
            or expected.ndim != 5
            or expected.shape[:2] != grid.shape[:2]
            or expected.shape[3:] != grid.shape[3:]
        ):
            continue
        word = next((word for word in ("uniform", "first", "center", "last") if word in name), "last")
        frames = selected(grid.shape[2], Stream(latent_num_frames=expected.shape[2], latent_frame_select=word))
        report.close(f"{name}: frames {list(frames)}", show(Video(grid, 16.0), frames, size=()).grid, expected, FILTER)
    if not report.num_checks:
        listed = ", ".join(list(tensors)[:8]) or "no tensors"
        pytest.skip(f"{golden.path.name}: expected x [b c t h w] and out.* with frames of it, found {listed}")
