"""Any Gymnasium environment with continuous actions as an `Environment`, by a mapping from its names to ours.

Nothing is guessed and nothing converted silently: images must come out square, 8-bit and of the size that the mapping
states (resize with `gymnasium.wrappers`), the state must be one vector, and success must be a key of `info`. Gymnasium
knows no instruction, camera or control rate, so the mapping brings them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from video2act.envs.episode_clock import EpisodeClock
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

try:
    import gymnasium
except ImportError as error:
    raise ImportError(f'video2act.envs.gym needs gymnasium ({error}); run: pip install "video2act[sim]"') from error


@dataclass(frozen=True)
class GymMapping:
    """Where an environment keeps what a policy needs. A slash joins keys of nested dictionaries: `pixels/top`."""

    name: str
    robot: str
    instruction: str
    fps: float
    """control steps per second of the environment's own clock"""
    max_steps: int
    image_size: int
    images: dict[str, str | None]
    """camera -> key of the observation; None takes the picture from `render()`"""
    state: str | None
    """key of the observation; None if the observation itself is the state. It must hold proprioception only."""
    success: str
    """key of `info` that is true at success"""
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    relative_actions: tuple[str, ...] = ()
    """those of them that are changes or speeds; a robot that must hold still gets zero of them, and keeps the others"""


class GymEnvironment:
    """A Gymnasium environment behind a mapping. It is closed together with this object."""

    def __init__(self, environment: gymnasium.Env, mapping: GymMapping) -> None:
        space = environment.action_space
        if not isinstance(space, gymnasium.spaces.Box) or space.shape != (len(mapping.action_names),):
            raise ValueError(
                f"{mapping.name}: expected an action space Box of shape ({len(mapping.action_names)},), one value for "
                f"each of {', '.join(mapping.action_names)}; the environment has {space}"
            )
        if None in mapping.images.values() and environment.render_mode != "rgb_array":
            raise ValueError(
                f"{mapping.name}: a camera is taken from render(), which needs render_mode='rgb_array' in "
                f"gymnasium.make; the environment has render_mode={environment.render_mode!r}"
            )
        self.spec = EnvironmentSpec(
            name=mapping.name,
            robot=mapping.robot,
            instruction=mapping.instruction,
            cameras=tuple(mapping.images),
            image_size=mapping.image_size,
            state_names=mapping.state_names,
            action_names=mapping.action_names,
            fps=mapping.fps,
            max_steps=mapping.max_steps,
            relative_actions=mapping.relative_actions,
        )
        self._environment = environment
        self._mapping = mapping
        self._action_dtype = space.dtype
        self._episode = EpisodeClock(self.spec)

    def reset(self, seed: int) -> Observation:
        observation, _ = self._environment.reset(seed=seed)
        self._episode.begin()
        return self._observe(observation)

    def step(self, action: Float[np.ndarray, "_a"]) -> Step:
        self._episode.check(action)
        observation, _, is_terminated, is_truncated, info = self._environment.step(action.astype(self._action_dtype))
        success = bool(_find(info, self._mapping.success, where=f"{self.spec.name}: info"))
        done = self._episode.advance(bool(is_terminated or is_truncated or success))
        return Step(self._observe(observation), done=done, success=success)

    def close(self) -> None:
        self._environment.close()

    def _observe(self, observation: Any) -> Observation:
        mapping, where = self._mapping, f"{self.spec.name}: observation"
        images = {}
        for camera, key in mapping.images.items():
            image = self._environment.render() if key is None else _find(observation, key, where=where)
            images[camera] = self._check_image(
                camera, "render()" if key is None else f"observation {key!r}", image=image
            )
        state = observation if mapping.state is None else _find(observation, mapping.state, where=where)
        return Observation(images, self._check_state(state), self.spec.instruction, self._episode.time)

    def _check_image(self, camera: str, source: str, *, image: Any) -> UInt8[np.ndarray, "_h _w 3"]:
        size = self._mapping.image_size
        if not isinstance(image, np.ndarray) or image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"{self.spec.name}: camera {camera!r} expects a uint8 array of shape ({size}, {size}, 3) from "
                f"{source}, "
                f"got {_describe(image)}; resize it with a wrapper of gymnasium, or correct image_size in the mapping"
            )
        return image.copy()  # many environments draw the next frame into the same array

    def _check_state(self, state: Any) -> Float[np.ndarray, "s"]:
        names = self._mapping.state_names
        if (
            not isinstance(state, np.ndarray)
            or state.shape != (len(names),)
            or not np.issubdtype(state.dtype, np.floating)
        ):
            key = "the observation itself" if self._mapping.state is None else f"observation {self._mapping.state!r}"
            raise ValueError(
                f"{self.spec.name}: the state expects a float array of shape ({len(names)},), one value for each of "
                f"{', '.join(names)}, from {key}; got {_describe(state)}"
            )
        return state.astype(np.float32)


def _find(tree: Any, path: str, *, where: str) -> Any:
    """What lies at `path` in nested dictionaries."""
    found = tree
    for key in path.split("/"):
        if not isinstance(found, Mapping):
            raise ValueError(f"{where} has no key {path!r}: at {key!r} it is not a dictionary but {_describe(found)}")
        if key not in found:
            raise ValueError(
                f"{where} has no key {path!r}: at {key!r} there are {', '.join(map(repr, found)) or 'no keys at all'}"
            )
        found = found[key]
    return found


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, Mapping):
        return f"a dictionary with {', '.join(map(repr, value))}"
    return f"a {type(value).__name__}"
