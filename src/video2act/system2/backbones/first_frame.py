"""A video VAE's causal convolutions over a single frame, in two dimensions.

Before the first frame a clip is padded: with zeros in Wan's VAE, so that only the kernel's last slice meets the frame;
with copies of the frame in the others, so that the kernel's slices add up. Either is one convolution of a picture, a
third of the work.
"""

from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import HunyuanVideoCausalConv3d
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoCausalConv3d
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class WanConvolution(WanCausalConv3d):
    def forward(self, x: Tensor, cache_x: Any = None) -> Tensor:
        width, _, height, _, before, _ = self._padding
        if cache_x is None and x.shape[2] == 1 and before == self.kernel_size[0] - 1:
            return flat(x, self, kernel=self.weight[:, :, -1], padding=(height, width))
        return super().forward(x, cache_x)


class HunyuanConvolution(HunyuanVideoCausalConv3d):
    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.shape[2] > 1 or self.pad_mode != "replicate":
            return super().forward(hidden_states)
        padded = pad(hidden_states[:, :, 0], self.time_causal_padding[:4], mode="replicate")[:, :, None]
        return flat(padded, self.conv, kernel=self.conv.weight.sum(2), padding=(0, 0))


class LTXConvolution(LTXVideoCausalConv3d):
    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.shape[2] > 1 or self.conv.padding_mode != "zeros":
            return super().forward(hidden_states)
        return flat(hidden_states, self.conv, kernel=self.conv.weight.sum(2), padding=self.conv.padding[1:])


class CogVideoXConvolution(CogVideoXCausalConv3d):
    def forward(self, inputs: Tensor, conv_cache: Tensor | None = None) -> Any:
        before = self.time_kernel_size - 1
        if inputs.shape[2] > 1 or conv_cache is not None or not before or self.pad_mode == "replicate":
            return super().forward(inputs, conv_cache)
        kernel, padding = self.conv.weight.sum(2), (self.height_pad, self.width_pad)
        return flat(inputs, self.conv, kernel=kernel, padding=padding), inputs.expand(-1, -1, before, -1, -1).clone()


CONVOLUTIONS = (WanConvolution, HunyuanConvolution, LTXConvolution, CogVideoXConvolution)


def use_flat_convolutions(encoder: nn.Module) -> None:
    """Let an encoder's causal convolutions compute single frames in two dimensions; names of weights stay."""
    flats = {each.__base__: each for each in CONVOLUTIONS}
    for module in encoder.modules():
        module.__class__ = flats.get(type(module), type(module))


def flat(
    frame: Float[Tensor, "b i 1 h w"],
    conv: nn.Conv3d,
    *,
    kernel: Float[Tensor, "o j kernel_h kernel_w"],
    padding: Any,
) -> Float[Tensor, "b o 1 height width"]:
    """The convolution of one frame with this kernel, and with the bias, stride and groups of `conv`."""
    found = conv2d(frame[:, :, 0], kernel, conv.bias, conv.stride[1:], padding, conv.dilation[1:], conv.groups)
    return found[:, :, None]
