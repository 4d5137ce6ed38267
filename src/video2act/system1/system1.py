"""The fast system: text, image and System 2's tokens -> a denoised action chunk.

It knows System 2 only as `Tokens`. All units are normalised, by the policy around it. The encoders are small ones,
trained with it, or frozen published ones (`pretrained.py`). With an embodiment, the denoiser works on unified vectors;
inputs and outputs are the robot's own.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from video2act.config import System1Config
from video2act.embodiment import UNIFIED_DIM, fields_of, make_embodiment
from video2act.layers import make_adaptor
from video2act.system1.action_dit import ActionDiT, ProjectedConditions, ProjectedText
from video2act.system1.denoising import Denoising, Known, soft_mask
from video2act.system1.encoders import ImageEncoder
from video2act.system1.pretrained import FrozenImageEncoder, FrozenTextEncoder
from video2act.text.encoder import ByteTextEncoder
from video2act.text.kept import KeepsInstructions
from video2act.types import Conditions, Tokens, concatenate


@dataclass(frozen=True)
class Visibility:
    """What each sample of a batch may use; False hides it. Training hides at random."""

    text: Bool[Tensor, "b"]
    image: Bool[Tensor, "b"]
    video: Bool[Tensor, "b"]
    state: Bool[Tensor, "b"]

    @classmethod
    def full(cls, batch: int, device: torch.device) -> "Visibility":
        shown = torch.ones(batch, dtype=torch.bool, device=device)
        return cls(shown, shown, shown, shown)


@dataclass(frozen=True)
class Heard:
    """An instruction as the denoiser reads it."""

    tokens: Tokens
    projected: ProjectedText


class System1(KeepsInstructions[Heard]):
    """Encoders and denoiser.

    Args:
        fps: control steps per second; needed if it is the denoiser's clock.
    """

    def __init__(
        self,
        config: System1Config,
        cameras: tuple[str, ...],
        *,
        state_dim: int,
        action_dim: int,
        horizon: int,
        fps: float | None = None,
    ):
        super().__init__()
        self.config = config
        self.cameras = cameras
        self.fps = fps
        self.embodiment = None
        if config.embodiment:
            self.embodiment = make_embodiment(config.embodiment, state_dim, action_dim=action_dim)
            state_dim = action_dim = UNIFIED_DIM
        self.noise_shape = (horizon, action_dim)
        """of what `sample` starts from"""
        frozen = config.text_encoder
        self.text = FrozenTextEncoder(frozen) if frozen else ByteTextEncoder(config.text_dim)
        text_dim = frozen.width if frozen else config.text_dim
        self.text_in = make_adaptor(config.text_adaptor, text_dim, width_out=config.hidden)
        if config.image_encoder is None:
            self.image = nn.ModuleList(ImageEncoder(config.image_channels, config.hidden) for _ in cameras)
        else:
            self.image = FrozenImageEncoder(config.image_encoder)
            self.image_in = make_adaptor(config.image_adaptor, config.image_encoder.width, width_out=config.hidden)
        self.dit = ActionDiT(
            state_dim=state_dim,
            action_dim=action_dim,
            horizon=horizon,
            width=config.hidden,
            depth=config.depth,
            num_heads=config.num_heads,
            form=config.dit,
            num_images=len(cameras),
            is_unified=self.embodiment is not None,
            marks_committed=config.max_delay_steps > 0,
        )
        self.denoising = Denoising(config.denoising)

    def of_robot(self, name: str) -> "System1":
        """The same modules, not copies, for one robot of the unified vector."""
        size = len(fields_of(name))
        system1 = copy.copy(self)
        system1.config = replace(self.config, embodiment=name)
        system1.embodiment = make_embodiment(name, size, action_dim=size)
        return system1

    def gather(
        self,
        instruction: list[str],
        images: dict[str, Float[Tensor, "b 3 _h _w"]] | None,
        *,
        video: Tokens,
        visible: Visibility,
        text: Tokens | None = None,
    ) -> Conditions:
        """Encode text and images beside System 2's tokens, and mask what is hidden. No images give no tokens.

        Args:
            text: of `hear`, instead of reading the instruction again.
        """
        text = self.read(instruction) if text is None else text
        image = Tokens.empty(len(instruction), self.config.hidden, like=text.data)
        if images is not None and self.cameras:
            image = self.look(images)
        return Conditions(
            text=Tokens(text.data, text.mask & visible.text[:, None]),
            image=Tokens(image.data, image.mask & visible.image[:, None]),
            video=Tokens(video.data, video.mask & visible.video[:, None]),
        )

    def hear(self, instruction: str) -> Heard:
        """What the next chunks read of an instruction, made once and without gradients. Raises as `read`."""

        def make() -> Heard:
            tokens = self.read([instruction])
            return Heard(tokens, self.dit.project_text(tokens))

        return self.kept(instruction, make)

    def read(self, instruction: list[str]) -> Tokens:
        """Raises ValueError or FileNotFoundError for an instruction that the text encoder cannot read."""
        if isinstance(self.text, FrozenTextEncoder):
            text = self.text(instruction, next(self.text_in.parameters()).device)
        else:
            text = self.text(instruction)
        return Tokens(self.text_in(text.data), text.mask)

    def look(self, images: dict[str, Float[Tensor, "b 3 _h _w"]]) -> Tokens:
        if isinstance(self.image, FrozenImageEncoder):
            seen = self.image(torch.stack([images[camera] for camera in self.cameras], dim=1))
            return Tokens(self.image_in(seen.data), seen.mask)
        encoders = zip(self.cameras, self.image, strict=True)
        return concatenate(*(encoder(images[camera]) for camera, encoder in encoders))

    def project(
        self,
        conditions: Conditions,
        state: Float[Tensor, "b s"],
        *,
        staleness: Float[Tensor, "b"],
        visible: Visibility,
        known: Float[Tensor, "b unified"] | None = None,
        text: ProjectedText | None = None,
    ) -> ProjectedConditions:
        """What all denoising steps read, computed once.

        Args:
            known: with several robots, the entries that each sample's robot has; None: those of the embodiment.
            text: of `hear`; that of the conditions, if None.
        """
        has_state = visible.state[:, None].to(state)
        has_action = None
        if self.embodiment:
            known = self.embodiment.known(state).expand(len(state), -1) if known is None else known
            state, has_state, has_action = self.embodiment.unify(state), known * has_state, known
        fps = None if self.fps is None else torch.full_like(staleness, self.fps)
        return self.dit.project(
            conditions, state, has_state=has_state, staleness=staleness, fps=fps, has_action=has_action, text=text
        )

    def loss(
        self,
        actions: Float[Tensor, "b horizon a"],
        action_is_pad: Bool[Tensor, "b horizon"],
        *,
        conditions: ProjectedConditions,
        generator: torch.Generator,
        known: Float[Tensor, "b unified"] | None = None,
    ) -> Float[Tensor, ""]:
        """The denoising loss over real actions, without those past the end of an episode and entries a robot lacks.

        Args:
            known: as for `project`.
        """
        draws = self.config.denoising.noise_draws
        if self.embodiment:
            actions = self.embodiment.unify(actions)
        clean = actions.repeat_interleave(draws, dim=0)
        is_real = ~action_is_pad.repeat_interleave(draws, dim=0)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        uniform = torch.rand(len(clean), generator=generator).to(clean)
        noisy, timestep, target = self.denoising.add_noise(clean, noise, uniform=uniform)
        # padding is pure noise: repeated actions, noised one by one, would reveal the real ones
        noisy = torch.where(is_real[..., None], noisy, noise)
        is_committed = self._draw_committed(clean, generator)
        if is_committed is not None:
            is_committed = is_committed & is_real
            noisy = torch.where(is_committed[..., None], clean, noisy)
            is_real = is_real & ~is_committed
        predicted = self.dit(noisy, timestep, conditions, is_committed).float()
        if self.config.denoising.loss == "smooth_l1":
            # beta in normalised units: quadratic for the fine errors that decide a grasp, linear for outliers
            error = nn.functional.smooth_l1_loss(predicted, target, reduction="none", beta=0.1)
        else:
            error = nn.functional.mse_loss(predicted, target, reduction="none")
        # entries that the robot lacks are noised, as in RDT-1B, but do not count
        per_action = self._own(error).mean(dim=2) if known is None else _masked_mean(error, known, draws=draws)
        return (per_action * is_real).sum() / is_real.sum().clamp(min=1)

    def sample(
        self, conditions: ProjectedConditions, noise: Float[Tensor, "b horizon n"]
    ) -> Float[Tensor, "b horizon a"]:
        """Denoise a chunk from noise of `noise_shape`."""
        return self._own(self.denoising.sample(partial(self._predict, conditions), noise))

    def _predict(self, conditions: ProjectedConditions, noisy: Tensor, timestep: Tensor) -> Tensor:
        return self.dit(noisy, timestep, conditions).float()

    def _own(self, unified: Float[Tensor, "b horizon n"]) -> Float[Tensor, "b horizon a"]:
        """The robot's entries."""
        return self.embodiment.own(unified) if self.embodiment else unified

    def continue_sample(
        self,
        conditions: ProjectedConditions,
        noise: Float[Tensor, "b horizon n"],
        *,
        committed: Float[Tensor, "b m a"],
        num_frozen: int,
        guidance: float | None,
    ) -> Float[Tensor, "b horizon a"]:
        """As `sample`, for a chunk that continues one in execution.

        Args:
            committed: the rest of that chunk, normalised, from the new chunk's first moment on.
            num_frozen: the first of them that will be executed in any case; the new chunk begins with exactly these.
            guidance: limit of the guidance's weight (arXiv 2506.07339); None: for a network trained on committed
                actions (arXiv 2512.05964).
        Raises:
            ValueError: without guidance: it was not trained on them, or on fewer.
        """
        horizon, num_known = noise.shape[1], min(committed.shape[1], noise.shape[1])
        known = committed.new_zeros(len(committed), horizon, committed.shape[2])
        known[:, :num_known] = committed[:, :num_known]
        unified = self.embodiment.unify(known) if self.embodiment else known
        num_frozen = min(num_frozen, num_known)
        if guidance is not None:
            weight = soft_mask(horizon, num_known, num_frozen=num_frozen).to(noise)[None, :, None]
            if self.embodiment:
                weight = weight * self.embodiment.known(noise)
            guide = Known(unified, weight, guidance)
            actions = self.denoising.sample(partial(self._predict, conditions), noise, known=guide)
        else:
            self._check_trained_for(num_frozen)
            is_committed = (torch.arange(horizon, device=noise.device) < num_frozen)[None]
            actions = self.denoising.sample(
                lambda noisy, timestep: self.dit(
                    torch.where(is_committed[..., None], unified, noisy), timestep, conditions, is_committed
                ).float(),
                noise,
            )
        return torch.cat([known[:, :num_frozen], self._own(actions)[:, num_frozen:]], dim=1)

    def _check_trained_for(self, num_frozen: int) -> None:
        longest = self.config.max_delay_steps
        if longest == 0:
            raise ValueError(
                "this policy was not trained to continue a plan (max_delay_steps is 0); use overlap rtc, which guides "
                "any policy, or train one with --policy.system1.max-delay-steps"
            )
        if num_frozen > longest:
            raise ValueError(
                f"{num_frozen} actions are committed while a plan is made, but training has shown at most {longest} "
                "(max_delay_steps); make planning faster, use overlap rtc, or train for longer delays"
            )

    def _draw_committed(self, clean: Tensor, generator: torch.Generator) -> Bool[Tensor, "b horizon"] | None:
        """Which actions a training sample shows clean; None, and no draw, for a policy that is not trained so."""
        longest = self.config.max_delay_steps
        if longest == 0:
            return None
        num_committed = torch.randint(0, longest + 1, (len(clean), 1), generator=generator).to(clean.device)
        return torch.arange(clean.shape[1], device=clean.device)[None] < num_committed


def _masked_mean(error: Float[Tensor, "n horizon a"], known: Float[Tensor, "b a"], *, draws: int) -> Tensor:
    """Mean over the entries that each sample's robot has, `[n horizon]`."""
    has = known.repeat_interleave(draws, dim=0)[:, None]
    return (error * has).sum(dim=2) / has.sum(dim=2)
