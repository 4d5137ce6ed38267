"""Video -> Video: what is kept of a stream before it is compressed (paper section 3.2, arXiv 2512.03044).

Spatial filters find foreground boundaries: gradients within a frame, per channel. Temporal filters find motion between
frames and drop the static background. All compute in float32, each item of a batch alone.

A frequency is in Hz of the filtered grid's time axis: `Video.fps` travels with the grid, and a codec has divided it.
(The released code applies the camera's rate to latents, so its "1-7 Hz" are a quarter of that.)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from video2act.config import FilterConfig
from video2act.config.system2 import kept_frequencies
from video2act.types import Video

Border = Literal["replicate", "zeros"]
"""what lies around the picture; zeros as in the released code, for its checkpoints"""

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SCHARR = ((-3.0, 0.0, 3.0), (-10.0, 0.0, 10.0), (-3.0, 0.0, 3.0))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def make_filter(config: FilterConfig) -> Callable[[Video], Video]:
    """The filter of a config, as a function."""
    if config.then != "none":
        first = make_filter(replace(config, then="none"))
        second = make_filter(FilterConfig(config.then, border=config.border))
        return lambda video: second(first(video))
    filters: dict[str, Callable[[Video], Video]] = {
        "none": lambda video: video,
        "sobel": lambda video: sobel(video, config.border),
        "scharr": lambda video: scharr(video, config.border),
        "laplacian": lambda video: laplacian(video, config.border),
        "temporal_bandpass": lambda video: temporal_bandpass(video, config.low_hz, high_hz=config.high_hz),
        "moft": lambda video: moft(video, config.keep),
    }
    return filters[config.name]


def sobel(video: Video, border: Border = "replicate") -> Video:
    """Gradient magnitude with Sobel's kernels, per channel and frame."""
    return _gradient_magnitude(video, SOBEL, border=border)


def scharr(video: Video, border: Border = "replicate") -> Video:
    """Gradient magnitude with Scharr's kernels, closer to rotation invariance than Sobel's."""
    return _gradient_magnitude(video, SCHARR, border=border)


def laplacian(video: Video, border: Border = "replicate") -> Video:
    """Absolute second derivative: both sides of an edge."""
    return replace(video, grid=_convolve(video, LAPLACIAN, border=border).abs().to(video.grid.dtype))


def temporal_bandpass(video: Video, low_hz: float | None, *, high_hz: float | None) -> Video:
    """Keep the temporal frequencies in [low_hz, high_hz], per channel and position, by the real FFT.

    Args:
        low_hz: None: the clip's lowest frequency above 0, so that only what stands still is dropped.
        high_hz: None: the clip's highest frequency.
    Raises:
        ValueError: the band holds no frequency of this clip; the message lists those there are.
    """
    t = video.grid.shape[2]
    keep = kept_frequencies(t, video.fps, low_hz=low_hz, high_hz=high_hz)
    spectrum = torch.fft.rfft(video.grid.float(), dim=2)
    spectrum = spectrum * torch.tensor(keep, device=spectrum.device)[None, None, :, None, None]
    return replace(video, grid=torch.fft.irfft(spectrum, n=t, dim=2).to(video.grid.dtype))


def moft(video: Video, keep: float) -> Video:
    """Deviation from the temporal mean, in the share `keep` of channels that vary most (motion features, arXiv
    2405.14864).

    Each item of the batch chooses its own channels; the others become zero.
    """
    b, c, t, _, _ = video.grid.shape
    if t < 2:
        raise ValueError(f"moft measures change over time and needs at least 2 frames, got {t}")
    grid = video.grid.float()
    change = grid - grid.mean(dim=2, keepdim=True)
    variance = grid.var(dim=2).mean(dim=(2, 3))  # b c
    chosen = variance.topk(num_kept(c, keep), dim=1).indices
    mask = torch.zeros(b, c, dtype=torch.bool, device=grid.device).scatter(1, chosen, True)
    return replace(video, grid=(change * mask[:, :, None, None, None]).to(video.grid.dtype))


def num_kept(num_channels: int, share: float) -> int:
    """The channels of a share, at least one. .29 of 100 are 29, though floats multiply to 28.999..."""
    return max(1, int(num_channels * share + 1e-9))


Kernel = tuple[tuple[float, ...], ...]


def _gradient_magnitude(video: Video, kernel: Kernel, *, border: Border) -> Video:
    across = _convolve(video, kernel, border=border)
    down = _convolve(video, tuple(zip(*kernel, strict=True)), border=border)
    # the tiny constant keeps the gradient finite where nothing changes, and is taken off again: no edge is exactly 0
    magnitude = (across.square() + down.square() + 1e-6).sqrt()
    # but not for checkpoints of the released code, which were trained with it left in
    return replace(video, grid=(magnitude if border == "zeros" else magnitude - 1e-3).to(video.grid.dtype))


def _convolve(video: Video, kernel: Kernel, *, border: Border) -> Float[Tensor, "b c t h w"]:
    """Each frame of each channel, in float32."""
    frames = video.grid.float().flatten(0, 2)[:, None]
    # replicate, not zeros: a zero border would be the strongest edge of the picture
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1), mode="constant" if border == "zeros" else "replicate")
    weight = torch.tensor(kernel, device=frames.device)[None, None]
    with torch.autocast(frames.device.type, enabled=False):
        return torch.nn.functional.conv2d(padded, weight).view_as(video.grid)
