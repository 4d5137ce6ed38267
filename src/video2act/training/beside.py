"""The video model's own loss beside that of the actions, where it is tuned with the policy.

UVA (arXiv 2503.00200), PAD (2411.18179) and Fast-WAM train one network for actions and video; the video loss needs no
actions, so datasets without them can be added. Here the video model reads clips of the stream with the most frames, a
future included, with that stream's camera, stride, size and rule. The loss needs the whole transformer, but the policy
only its first blocks: the rest is dropped before the run folder is written.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from video2act.config import TrainConfig
from video2act.data import Dataset, FrameStore
from video2act.data.batches import BatchLoader
from video2act.data.clip_sampler import ClipSampler, Footage
from video2act.data.frame_store import GIB
from video2act.policy import Video2Act
from video2act.system1 import Visibility
from video2act.system2.video_training import diffusion_loss
from video2act.training.loop import LOSS, Inputs, TrainingLoop
from video2act.training.metrics import ACTION_LOSS
from video2act.training.state import own_part
from video2act.training.video_clips import clip_of
from video2act.types import Batch, Video

PREFIX = "policy."
"""before the names of the policy's weights in a joint training"""


class LearningBeside(nn.Module):
    """A policy under two losses."""

    def __init__(self, policy: Video2Act, weight: float):
        super().__init__()
        self.policy = policy
        self.weight = weight
        self._clip = clip_of(policy.slow.config)

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator,
        visible: Visibility | None = None,
        state_noise: float = 0.0,
        clips: Video | None = None,
        instruction: Sequence[str] = (),
    ) -> dict[str, Tensor] | Tensor:
        """As `Video2Act.forward`; with clips, the weighted sum and both of its parts.

        Args:
            clips: pixels of the video model's own batch.
            instruction: of each clip.
        """
        action_loss = self.policy(batch, generator, visible, state_noise)
        if clips is None:
            return action_loss
        system2 = self.policy.slow
        latents = system2.encode({self._clip.name: clips}, (self._clip,))[self._clip.name]
        video_loss = diffusion_loss(system2.backbone, latents, instruction=list(instruction), generator=generator)
        parts = {ACTION_LOSS: action_loss.detach(), "video_loss": video_loss.detach()}
        return {LOSS: action_loss + self.weight * video_loss, **parts}


class VideoClips:
    """The clips of every training step: of the demonstrations and of video data, each frame equally often.

    Args:
        store: the demonstrations' frames, which the action loss reads too.
        episodes: the demonstrations that are learned from; the others are held out.
        video_data: `video_data_stores` has their frames.
    """

    def __init__(
        self,
        policy: Video2Act,
        data: Dataset,
        training: TrainConfig,
        *,
        store: FrameStore,
        episodes: Sequence[int],
        video_data: Sequence[tuple[Dataset, FrameStore]],
    ):
        stream = clip_of(policy.slow.config)
        own = Footage(data, store, stream.camera, tuple(episodes))
        others = [Footage(dataset, frames, stream.camera) for dataset, frames in video_data]
        form: dict[str, Any] = {"num_frames": stream.num_frames, "stride": stream.stride}
        self._sampler = ClipSampler([own, *others], **form, sizes=[stream.frame_px], frame=stream.frame)
        self._count, self._seed = training.video_batch_size, training.seed

    def of_step(self, step: int, rank: int) -> tuple[Video, list[str]]:
        """A function of (seed, step, rank), as batches are."""
        return self._sampler.random(self._count, (self._seed, 1, step, rank))

    def beside(self, inputs: Inputs, loop: TrainingLoop) -> Inputs:
        """Arguments of `LearningBeside.forward`, from those of the policy's."""

        def joined(step: int) -> tuple[Any, ...]:
            clips, instruction = self.of_step(step, loop.accelerator.process_index)
            return *inputs(step), clips.to(loop.accelerator.device), instruction

        return joined


@dataclass(frozen=True)
class VideoLossCost:
    """What the video loss adds to a training step, measured before the training on one micro-batch."""

    step_ms: float
    """time of the action loss: forward and backward"""
    added_ms: float
    """more with the video loss, reading of its clips included"""
    kept_gib: float
    """what the action loss keeps for the backward pass"""
    added_gib: float
    """more with the video loss"""

    def __str__(self) -> str:
        return (
            f"the video loss adds {self.added_ms:.0f} ms to {self.step_ms:.0f} ms of a step's forward and backward "
            f"pass, and {self.added_gib:.2g} GiB to {self.kept_gib:.2g} GiB kept between them"
        )

    def record(self) -> dict[str, Any]:
        """For `training.json`."""
        return {"video_loss_cost": asdict(self)}


def measure_cost(loop: TrainingLoop, loader: BatchLoader, *, clips: VideoClips) -> VideoLossCost:
    """Run a micro-batch without and with the video loss; the second run of each counts. Weights stay as they are."""
    device, rank = loop.accelerator.device, loop.accelerator.process_index
    batch = loader[0].to(device)
    found = []
    for is_joint in (False, False, True, True):
        _finish(device)
        started = perf_counter()
        more: tuple[Any, ...] = ()
        if is_joint:
            pixels, instruction = clips.of_step(0, rank)
            more = (None, 0.0, pixels.to(device), instruction)
        kept = _Kept(loop.module)
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            losses = loop.module(batch, torch.Generator().manual_seed(0), *more)
        loop.accelerator.backward(losses[LOSS] if is_joint else losses)
        _finish(device)
        found.append((1000 * (perf_counter() - started), kept.total / GIB))
        loop.optimizer.zero_grad()
    (_, (step_ms, kept_gib), _, (joint_ms, joint_gib)) = found
    return VideoLossCost(step_ms, joint_ms - step_ms, kept_gib, joint_gib - kept_gib)


class _Kept:
    """Counts the bytes that autograd keeps; weights are there anyway."""

    def __init__(self, module: nn.Module):
        self.total = 0
        self._places = {_place(own_part(parameter)) for parameter in module.parameters()}

    def pack(self, tensor: Tensor) -> Tensor:
        place = _place(own_part(tensor))
        if place not in self._places:
            self._places.add(place)
            self.total += own_part(tensor).untyped_storage().nbytes()
        return tensor


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
