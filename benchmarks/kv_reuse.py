"""Does it pay to compute the conditions' keys and values once per chunk?

    python benchmarks/kv_reuse.py [--device cuda]

A chunk of 5 denoising steps with the keys and values computed once, against computing them at each step. The token
counts are a quarter of the released policy's, with its proportions.
"""

import numpy as np
import torch
import tyro

from video2act.config import DenoisingConfig
from video2act.programs.bench import measure
from video2act.system1.action_dit import ActionDiT
from video2act.system1.denoising import Denoising
from video2act.types import Conditions, Tokens

HORIZON, ACTION_DIM, HEAD_DIM = 64, 128, 64


@torch.no_grad()
def main(
    hidden: int = 512, depth: int = 8, *, text: int = 256, image: int = 1092, video: int = 294, device: str = "cpu"
) -> tuple[float, float]:
    """Returns how many times faster reuse is, and the largest difference between both results."""
    torch.manual_seed(0)
    dit = ActionDiT(
        state_dim=ACTION_DIM,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
        width=hidden,
        depth=depth,
        num_heads=hidden // HEAD_DIM,
    ).to(device)
    dit.eval()
    denoising = Denoising(DenoisingConfig(num_steps=5))
    tokens = (Tokens.all_visible(torch.randn(1, n, hidden, device=device)) for n in (text, image, video))
    conditions, state = Conditions(*tokens), torch.randn(1, ACTION_DIM, device=device)
    known, age = torch.ones(1, 1, device=device), torch.zeros(1, device=device)
    noise = torch.randn(1, HORIZON, ACTION_DIM, device=device)

    def once() -> torch.Tensor:
        projected = dit.project(conditions, state, has_state=known, staleness=age)
        return denoising.sample(lambda noisy, timestep: dit(noisy, timestep, projected), noise)

    def at_each_step() -> torch.Tensor:
        def denoise(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return dit(noisy, timestep, dit.project(conditions, state, has_state=known, staleness=age))

        return denoising.sample(denoise, noise)

    difference = float((once() - at_each_step()).abs().max())
    seconds = measure({"once": once, "each": at_each_step}, repeats=7, device=torch.device(device))
    ratio = float(np.median(seconds["each"]) / np.median(seconds["once"]))
    print(
        f"keys and values once per chunk: {ratio:.2f} times faster than at each of 5 steps (hidden {hidden}, depth "
        f"{depth}); "
        f"largest difference {difference:.1e}"
    )
    return ratio, difference


if __name__ == "__main__":
    tyro.cli(main)
