"""`EnginePolicy`: both systems of an exported policy, on numpy and an engine. A `ConfiguredSystem`, as `Video2Act` is.

Frames, clips, sizes, checks and noise are the same code as with PyTorch, or the same numbers. What an instruction says
is computed once and kept.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from video2act.engines.folder import Engine, load_arrays, load_exported
from video2act.engines.noise import TorchNoise
from video2act.engines.session import Arrays, Graph, check_installed, open_graph
from video2act.files.run_folder import STATISTICS_FILE, load_config, load_instructions
from video2act.interfaces import Perceiver
from video2act.observations import image_array, staleness_of, state_array
from video2act.statistics import load_statistics
from video2act.text.instruction import byte_tokens, check_instruction
from video2act.types import ActionChunk, Clip, Observation, Tokens, Video, VideoCondition

INSTRUCTIONS_KEPT = 256


class EnginePolicy:
    """An exported policy, ready to act.

    Args:
        folder: what `video2act export` has written.
        num_threads: that the engine uses for one graph.
    Raises:
        ImportError: the engine is not installed.
        FileNotFoundError, ValueError: the folder was not exported, for another engine, or is damaged.
    """

    def __init__(self, folder: Path | str, engine: Engine = "onnxruntime", *, num_threads: int = 1):
        self.folder, self.engine = Path(folder), engine
        self.exported = load_exported(self.folder, engine)
        check_installed(engine)
        self.config = load_config(self.folder)
        self.statistics = load_statistics(self.folder / STATISTICS_FILE)
        self._arrays = load_arrays(self.folder)

        def graph(name: str) -> Graph:
            return open_graph(self.folder, name, engine=engine, num_threads=num_threads)

        self._conditions, self._step = graph("conditions"), graph("step")
        self._perceive = graph("perceive") if self.exported.has_system2 else None
        self._instruction = graph("instruction") if self.exported.max_bytes else None
        self._said = lru_cache(INSTRUCTIONS_KEPT)(self._read)
        """what both systems read of an instruction"""
        self._noise = TorchNoise()

    # acting

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Slow: one clip per stream, of one episode -> System 2's tokens. Empty for a policy without System 2.

        Raises:
            ValueError: a clip is missing or has another shape, the instruction cannot be read, or System 2 is not in
                the folder.
        """
        if self.config.system2 is None:
            return _tokens(np.zeros((len(instruction), 0, self.config.system1.hidden), np.float32))
        if self._perceive is None:
            raise ValueError(
                f"{self.folder} holds System 1 alone: serve System 2 with video2act serve RUN --only system2, and give "
                f"its address as system2='ws://host:port'"
            )
        if len(instruction) != 1:
            raise ValueError(f"an exported System 2 sees one clip at a time, got {len(instruction)} instructions")
        read = self._said(instruction[0])
        given = {name: array for name, array in read.items() if name != "text"}
        for stream in self.config.system2.streams:
            if stream.name not in clips:
                raise ValueError(f"stream {stream.name!r} has no clip; got {', '.join(clips) or 'none'}")
            pixels = _pixels(clips[stream.name])
            expected = (1, 3, stream.num_frames, *stream.frame_px)
            if pixels.shape != expected:
                raise ValueError(
                    f"stream {stream.name!r} takes clips of [batch, channels, frames, height, width] = "
                    f"{list(expected)}, got {list(pixels.shape)}"
                )
            given[f"pixels_{stream.name}"] = pixels
        return _tokens(self._perceive(given)["tokens"])

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        """Fast: one observation, and what System 2 last understood -> `horizon` actions in raw units.

        Raises:
            ValueError: as `Video2Act.act`; or the instruction cannot be read.
        """
        config = self.config
        images = {f"image_{camera}": image_array(observation, camera, config=config) for camera in config.cameras}
        given = {
            "text": self._said(observation.instruction)["text"],
            "video": np.asarray(condition.tokens.data, np.float32),
            "state": state_array(observation, config),
            "staleness": np.array([staleness_of(condition, observation)], np.float32),
            **images,
        }
        actions = self._denoise(self._conditions(given))
        raw = actions[0] @ self._arrays["action_matrix"] + self._arrays["action_shift"]
        return ActionChunk(raw.astype(np.float32), observation.time, 1 / config.fps)

    def _denoise(self, keys: Arrays) -> Float[np.ndarray, "1 horizon n"]:
        rows = self._arrays["schedule"]
        known = [self._noise.draw(1, *self._arrays["noise_shape"].tolist())]
        for timestep, row in zip(self._arrays["timesteps"], rows[:-1], strict=True):
            noisy = np.tensordot(row[: len(known)], np.stack(known), axes=1).astype(np.float32)
            step = {"noisy": noisy, "timestep": timestep[None].astype(np.float32)}
            known.append(self._step({name: keys[name] for name in self.exported.keys} | step)["prediction"])
        return np.tensordot(rows[-1], np.stack(known), axes=1)

    def seed(self, seed: int) -> None:
        """Fix the noise that the coming chunks start from: the same as for `Video2Act.seed`."""
        self._noise.seed(seed)

    def with_own_noise(self) -> "EnginePolicy":
        """The same graphs, for another robot: its noise begins where the last `seed` did."""
        own = object.__new__(type(self))
        own.__dict__ = {**self.__dict__, "_noise": TorchNoise(self._noise.initial_seed)}
        return own

    # what comes from outside

    def check_instruction(self, instruction: str) -> None:
        """Raises ValueError for one that the policy cannot read."""
        self._said(instruction)

    def state_problem(self, observation: Observation) -> str:
        """Numbers of the state that are clipped, as `Video2Act.state_problem`."""
        state = np.asarray(observation.state, dtype=np.float32)
        if state.shape != (self.config.state_dim,):
            return ""
        low, high = self._arrays["state_low"], self._arrays["state_high"]
        return self.statistics["state"].outside(state, low, high=high)

    def normalised_state(self, observation: Observation) -> Float[np.ndarray, "s"]:
        return (observation.state - self._arrays["state_shift"]) / self._arrays["state_scale"]

    @property
    def max_instruction_bytes(self) -> int | None:
        """Bytes of the longest instruction that the byte encoders read; None without them."""
        return self.exported.max_bytes or None

    def _read(self, instruction: str) -> Arrays:
        if self._instruction is None:
            return self._embedded(instruction)
        return self._instruction({"ids": np.array([byte_tokens(instruction)], np.int64)})

    def _embedded(self, instruction: str) -> Arrays:
        check_instruction(instruction, max_bytes=None)
        known = self.exported.instructions
        if instruction not in known:
            raise ValueError(
                f"the instruction {instruction!r} has no embedding in {self.folder}, whose text encoder was not "
                f"exported; it knows {', '.join(map(repr, known[:5]))}{' ...' * (len(known) > 5)}"
            )
        start = f"instruction_{known.index(instruction)}_"
        return {name.removeprefix(start): array for name, array in self._arrays.items() if name.startswith(start)}

    # for the runtime and evaluations

    def trained_instruction(self) -> str:
        """An instruction of the training; empty if none is recorded."""
        return next(iter(load_instructions(self.folder)), "")

    def system2_loader(self, device: str = "") -> Callable[[], Perceiver]:
        """Raises ValueError: an engine computes outside Python's lock, so a thread is as good as a process."""
        raise ValueError("an exported policy runs System 2 inline or in a thread; choose system2='thread'")

    def system2_fingerprint(self) -> str:
        return self.exported.system2

    def blinded(self) -> "EnginePolicy":
        raise ValueError("the blind control changes what the networks read; evaluate it with engine torch")

    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Nothing: features do not leave the graph."""
        return {}

    foresee = explain


def _tokens(data: Float[np.ndarray, "b n d"]) -> Tokens:
    return Tokens(data, np.ones(data.shape[:2], bool))  # type: ignore[arg-type]


def _pixels(clip: Video) -> Float[np.ndarray, "b 3 t h w"]:
    """In [-1, 1], of frames as they are kept, or of pixels from elsewhere."""
    if isinstance(clip, Clip):
        frames = np.ascontiguousarray(clip.frames.transpose(3, 0, 1, 2)[None])
        return frames.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(clip.grid, dtype=np.float32)
