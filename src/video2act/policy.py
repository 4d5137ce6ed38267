"""Video2Act = System 2 + System 1 + normaliser: the whole policy, as one module that trains, acts, saves and loads.

`files/run_folder.py` lists the files of a saved policy. A published video model stays at its source; what tuning
changed is in the run folder: the transformer's first blocks in `model.safetensors`, or its LoRA in `adapter/`.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from video2act import hub
from video2act.config import PolicyConfig
from video2act.embodiment import FIELDS, UNIFIED, fields_of
from video2act.files.atomic import write_text
from video2act.files.run_folder import STATISTICS_FILE, WEIGHTS_FILE, load_config, load_instructions, save_config
from video2act.files.weights import check_file, load_weights, read_shapes, save_weights
from video2act.normalize import Normalizer
from video2act.observations import read_image, read_state, staleness_of
from video2act.precision import Device, find_device
from video2act.statistics import Statistics, load_statistics, statistics_to_json
from video2act.system1 import System1, Visibility
from video2act.system1.action_dit import ProjectedConditions
from video2act.system2 import System2, load_system2
from video2act.system2.backbones import make_backbone, make_published
from video2act.text.encoder import longest_instruction
from video2act.types import ActionChunk, Batch, Committed, Observation, Tokens, Video, VideoCondition
from video2act.video_backbone import VideoBackbone


class Video2Act(nn.Module):
    """A `DualSystem` that learns.

    Args:
        config: the whole policy.
        statistics: of `state` and `action`, in raw units.
        backbone: the video model; if None, the one that the config names.
    """

    def __init__(
        self, config: PolicyConfig, statistics: dict[str, Statistics], *, backbone: VideoBackbone | None = None
    ):
        super().__init__()
        self.config = config
        self.statistics = statistics
        for name, size in (("state", config.state_dim), ("action", config.action_dim)):
            _check_size(name, size, statistics=statistics)
        floor = config.normalize_floor
        self.normalize_state = Normalizer(statistics["state"], config.normalize_state, floor=floor)
        self.normalize_action = Normalizer(statistics["action"], config.normalize_action, floor=floor)
        sizes = {"state_dim": config.state_dim, "action_dim": config.action_dim, "horizon": config.horizon}
        self.system1 = System1(config.system1, config.cameras, **sizes, fps=config.fps)
        self.system2: System2 | None = None
        if config.system2:
            backbone = backbone or make_backbone(config.system2.backbone)
            self.system2 = System2(config.system2, backbone, token_dim=config.system1.hidden)
        self.folder: Path | None = None
        """the run folder that holds these weights: set by `load` and by `train`"""
        self.is_blind = False
        """neither image nor video is read: `blinded`"""
        self.is_coarse = False
        self._noise = torch.Generator().manual_seed(0)

    @property
    def slow(self) -> System2:
        """System 2. Raises ValueError for a policy without one."""
        if self.system2 is None:
            raise ValueError("this policy has no System 2 (system2 is null in its config); choose another preset")
        return self.system2

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    # training

    def forward(
        self, batch: Batch, generator: torch.Generator, visible: Visibility | None = None, state_noise: float = 0.0
    ) -> Float[Tensor, ""]:
        """The training loss of a batch.

        Args:
            generator: draws noise levels and noise; the loss is a function of the weights, the batch and its state.
            visible: what each sample may use; everything, if None.
            state_noise: standard deviation added to the normalised state.
        """
        visible = visible or Visibility.full(len(batch.state), batch.state.device)
        state = self.normalize_state.normalize(self.normalize_state.clip(batch.state))
        if state_noise:
            state = state + state_noise * torch.randn(state.shape, generator=generator).to(state)
        actions = self.normalize_action.normalize(batch.actions)
        mask = batch.dimension_mask
        if mask is not None:  # missing dimensions stay zero after normalisation
            state, actions = state * mask, actions * mask[:, None]
        if self.system2 is None:
            video = self._no_tokens(len(state))
        else:
            instruction = list(batch.clip_instruction) or batch.instruction
            seen = self.system2.see_on(batch.stage, batch.videos, instruction=instruction)
            video = self.system2.compress(seen)
        conditions = self.system1.gather(batch.instruction, batch.images, video=video, visible=visible)
        projected = self.system1.project(conditions, state, staleness=batch.staleness, visible=visible, known=mask)
        return self.system1.loss(actions, batch.action_is_pad, conditions=projected, generator=generator, known=mask)

    # acting. A guided chunk takes gradients, which are impossible on what a caller's inference mode made

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Slow: clips, one per stream -> System 2's tokens. Empty for a policy without System 2."""
        if self.system2 is None or self.is_blind:
            return self._no_tokens(len(instruction))
        with self._precision():
            return self.system2.perceive(clips, instruction)

    @torch.no_grad()
    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Per stream the filtered features of the clips, before compression; empty without System 2."""
        if self.system2 is None:
            return {}
        return self.system2.see({name: clip.to(self.device) for name, clip in clips.items()}, instruction)

    def foresee(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """As `System2.foresee`; empty without System 2."""
        if self.system2 is None:
            return {}
        return self.system2.foresee({name: clip.to(self.device) for name, clip in clips.items()}, instruction)

    @torch.inference_mode()
    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        """Fast: one observation and System 2's newest condition -> `horizon` actions in raw units.

        Raises:
            ValueError: the state has another size or holds NaN; a camera is missing; the condition comes from the
                future.
        """
        projected, noise = self._prepare(observation, condition)
        with self._precision():
            sampled = self.system1.sample(projected, noise)
        return self._chunk(sampled, observation)

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def continue_plan(
        self, observation: Observation, condition: VideoCondition, *, committed: Committed, guidance: float | None
    ) -> ActionChunk:
        """As `act`, for a chunk that continues the one in execution (real-time chunking).

        Args:
            guidance: limit of the guidance's weight (arXiv 2506.07339); None: by training (arXiv 2512.05964).
        Raises:
            ValueError: as `act`; or the policy was not trained for such a delay, and no guidance is given.
        """
        projected, noise = self._prepare(observation, condition)
        actions = torch.from_numpy(committed.actions.astype(np.float32))[None].to(self.device)
        known = {"committed": self.normalize_action.normalize(actions), "num_frozen": committed.num_frozen}
        with self._precision():
            sampled = self.system1.continue_sample(projected, noise, **known, guidance=guidance)
        return self._chunk(sampled, observation)

    def _prepare(self, observation: Observation, condition: VideoCondition) -> tuple[ProjectedConditions, Tensor]:
        """The conditions of a chunk, and the noise that it starts from."""
        cameras = () if self.is_blind else self.config.cameras
        images = {name: read_image(observation, name, config=self.config, device=self.device) for name in cameras}
        state = self.normalize_state.clip(read_state(observation, self.config).to(self.device))
        visible = Visibility.full(1, self.device)
        video = self._no_tokens(1) if self.is_blind else condition.tokens.to(self.device)
        age = torch.tensor([staleness_of(condition, observation)], device=self.device)
        with self._precision():
            said, text = [observation.instruction], self.system1.hear(observation.instruction)
            conditions = self.system1.gather(said, images or None, video=video, visible=visible, text=text.tokens)
            state = self.normalize_state.normalize(state)
            projected = self.system1.project(conditions, state, staleness=age, visible=visible, text=text.projected)
        return projected, torch.randn(1, *self.system1.noise_shape, generator=self._noise).to(self.device)

    def _chunk(self, normalised: Float[Tensor, "1 horizon a"], observation: Observation) -> ActionChunk:
        actions = self.normalize_action.restore(normalised)
        return ActionChunk(actions[0].cpu().numpy(), observation.time, 1 / self.config.fps)

    def to_bfloat16(self) -> "Video2Act":
        """Act in bfloat16: half the memory of System 1 and of the formers. Not for training.

        The precision of the video model is `dtype` in its config.
        """
        self.system1.to(torch.bfloat16)
        if self.system2 is not None:
            self.system2.formers.to(torch.bfloat16)
        self.is_coarse = True
        return self

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.is_coarse else nullcontext()

    def seed(self, seed: int) -> None:
        """Fix the noise of the next chunks; evaluations do it when an episode begins."""
        self.system1.forget()
        self._noise.manual_seed(seed)

    def with_own_noise(self) -> "Video2Act":
        """The same modules, not copies, with noise of its own: it begins where the last `seed` did."""
        own = copy.copy(self)
        own._noise = torch.Generator().manual_seed(self._noise.initial_seed())
        return own

    def blinded(self) -> "Video2Act":
        """The same weights without image and video: a control that must fail where vision matters.

        Training rarely hides both together, so a policy trained blind (preset `tiny_blind`) is the stricter control.
        """
        # a published video model is gigabytes, and the blind policy does not use it: both share one
        shared = {id(self.system2): self.system2} if self.elsewhere else {}
        blind = copy.deepcopy(self, shared)
        blind.is_blind = True
        return blind

    def of_robot(self, name: str) -> "Video2Act":
        """The policy for one robot, with the same weights, of one for several robots in the unified vector.

        Raises:
            ValueError: the policy is not in the unified vector, or there is no such robot.
        """
        own = self.config.system1.embodiment
        if own != UNIFIED:
            raise ValueError(f"this policy is of one robot ({own or 'its own vector'}), not of several")
        robot = copy.copy(self)
        robot._modules = dict(self._modules)  # a copy, so that this policy keeps its own modules
        robot.system1 = self.system1.of_robot(name)
        places = [FIELDS[field] for field in fields_of(name)]
        robot.config = replace(self.config, state_dim=len(places), action_dim=len(places), system1=robot.system1.config)
        robot.statistics = {of: statistics.of_dimensions(places) for of, statistics in self.statistics.items()}
        robot.normalize_state = self.normalize_state.of_dimensions(places)
        robot.normalize_action = self.normalize_action.of_dimensions(places)
        return robot

    # files

    def save(self, path: Path | str, weights: dict[str, Tensor] | None = None) -> None:
        """Write a run folder; each file appears whole or not at all.

        Args:
            weights: written instead of the module's own, under the same names, e.g. their moving average.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        save_config(path, self.config)
        write_text(path / STATISTICS_FILE, statistics_to_json(self.statistics))
        if self.system2 is not None:
            self.system2.save_adapter(path, _part_of(weights or self.state_dict(), "system2."))
        self.save_weights(path / WEIGHTS_FILE, weights)

    def save_weights(self, path: Path | str, weights: dict[str, Tensor] | None = None) -> None:
        """The weights of `save`, without those of a published video model, which stay at their source."""
        whole = weights or self.state_dict()
        save_weights(Path(path), {name: own for name, own in whole.items() if not name.startswith(self.elsewhere)})

    @classmethod
    def load(cls, path: Path | str, device: Device = "cpu") -> "Video2Act":
        """Rebuild a policy from a run folder, ready to act.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            ValueError: no such device; or unreadable weights, or tensors, which it names, that do not fit the config.
        """
        path, device = Path(path), find_device(device)
        config = load_config(path)
        statistics, weights = load_statistics(path / STATISTICS_FILE), path / WEIGHTS_FILE
        read_shapes(weights)  # report a missing file before reading a video model of gigabytes
        backbone = make_published(config.system2, path)
        check_file(lambda: cls(config, statistics, backbone=backbone), weights)
        policy = cls(config, statistics, backbone=backbone)
        policy.load_weights(weights)
        if policy.system2 is not None:
            policy.system2.merge_adapter(path)
        policy.folder = path
        return policy.to(device).eval()

    def system2_loader(self, device: str = "") -> Callable[[], System2]:
        """A function that loads System 2 in another process, on the policy's device if none is given.

        Raises:
            ValueError: the policy was not loaded from a folder.
        """
        if self.folder is None:
            raise ValueError(
                "System 2 in a process of its own is loaded from a run folder, and this policy has none; save it, and "
                "load it with Video2Act.from_pretrained"
            )
        return partial(load_system2, self.folder, device or str(self.device))

    def system2_fingerprint(self) -> str:
        """As `System2.fingerprint`; empty without System 2."""
        return "" if self.system2 is None else self.system2.fingerprint()

    def trained_instruction(self) -> str:
        """An instruction of the training; empty if the run folder records none."""
        return "" if self.folder is None else next(iter(load_instructions(self.folder)), "")

    def load_weights(self, path: Path | str, *, described_in: str = STATISTICS_FILE) -> None:
        """The inverse of `save_weights`, strict. Raises as `load` does.

        Args:
            described_in: file beside the weights with this policy's statistics, which must fit; empty: not known.
        """
        maps = {"state": self.normalize_state, "action": self.normalize_action}
        described = {name: each.shift.clone() for name, each in maps.items()}
        load_weights(self, Path(path), elsewhere=self.elsewhere)
        for name, each in maps.items() if described_in else ():
            each.check_same(described[name], f"{Path(path).with_name(described_in)}: {name}")

    def save_pretrained(self, path: Path | str, run: Path | str | None = None) -> None:
        """Write a folder for `from_pretrained` and the Hugging Face Hub: the policy and its card.

        Args:
            run: the run folder of the policy, for the card's data and success rates.
        Raises:
            FileNotFoundError: `run` is not a folder.
            ValueError: a file of `run` that the card needs is damaged.
        """
        self._save_with_card(Path(path), run, title=Path(path).name, source=Path(path).as_posix())

    @classmethod
    def from_pretrained(cls, source: Path | str, device: Device = "cpu", *, revision: str | None = None) -> "Video2Act":
        """A policy from a folder or a Hugging Face repo id, ready to act.

        Raises:
            FileNotFoundError: there is neither such a folder nor a repo that can be reached.
            ValueError: as `load`.
        """
        return cls.load(hub.locate_policy(source, revision), device)

    def push_to_hub(
        self, repo_id: str, folder: Path | str, *, run: Path | str | None = None, private: bool = False
    ) -> str:
        """Upload policy and card as `owner/name`; `folder` keeps a copy. Returns the address. Raises as
        `save_pretrained`."""
        self._save_with_card(Path(folder), run, title=repo_id, source=repo_id)
        return hub.upload(repo_id, Path(folder), private=private)

    def _save_with_card(self, folder: Path, run: Path | str | None, *, title: str, source: str) -> None:
        run = None if run is None else Path(run)
        num_parameters = sum(parameter.numel() for parameter in self.parameters())
        # the card first: a damaged run raises before anything is written
        card = hub.model_card(self.config, title, num_parameters=num_parameters, source=source, run=run)
        self.save(folder)
        hub.complete(folder, card, run=run)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Prefixes of the names of weights that the run folder does not hold."""
        return tuple(f"system2.{prefix}" for prefix in self.system2.elsewhere) if self.system2 is not None else ()

    def _no_tokens(self, batch: int) -> Tokens:
        return Tokens.empty(batch, self.config.system1.hidden, like=next(self.parameters()))

    def state_problem(self, observation: Observation) -> str:
        """The numbers of the state that are clipped, being far outside the training data; empty if there are none."""
        state = np.asarray(observation.state, dtype=np.float32)
        return self.normalize_state.outside(state) if state.shape == (self.config.state_dim,) else ""

    def normalised_state(self, observation: Observation) -> Float[np.ndarray, "s"]:
        return self.normalize_state.normalize(torch.from_numpy(observation.state).to(self.device)).cpu().numpy()

    @torch.no_grad()
    def check_instruction(self, instruction: str) -> None:
        """Raises ValueError or FileNotFoundError for an instruction that a text encoder cannot read."""
        with self._precision():
            self.system1.read([instruction])
        if self.system2 is not None:
            self.system2.check_instruction(instruction)

    @property
    def max_instruction_bytes(self) -> int | None:
        """Bytes of the longest instruction that every byte encoder reads; None without one."""
        return longest_instruction(self)

    def scale_warnings(self) -> list[str]:
        """Dimensions of state and action that hardly moved in the training data."""
        maps = {"state": self.normalize_state, "action": self.normalize_action}
        return [f"{name}: {line}" for name, normalizer in maps.items() for line in normalizer.parked()]


def _check_size(name: str, size: int, *, statistics: dict[str, Statistics]) -> None:
    if name not in statistics:
        raise ValueError(f"the statistics have no {name!r}, only {', '.join(statistics) or 'nothing'}")
    found = len(statistics[name].mean)
    if found != size:
        raise ValueError(f"the config says {name}_dim={size}, but the statistics describe {found} dimensions")


def _part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
