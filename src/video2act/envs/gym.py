"""Any Gymnasium environment with continuous actions as an `Environment`, by a mapping from its names to ours.

Nothing is converted: images must be 8-bit and of the mapping's size (resize with `gymnasium.wrappers`), the state must
be one vector, and success must be a key of `info`. The mapping also has what Gymnasium lacks: instruction, cameras and
control rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from video2act.envs.episode_clock import EpisodeClock
from video2act.extras import extra
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

with extra("sim", "a Gymnasium environment"):
    import gymnasium


@dataclass(frozen=True, kw_only=True)
class GymMapping(EnvironmentSpec):
    """A spec, and where the environment keeps what a policy needs. A slash joins keys of dictionaries: `pixels/top`."""

    images: dict[str, str | None]
    """camera -> key of the observation; None takes the picture from `render()`"""
    state: str | None
    """key of the observation; None if the observation itself is the state. It must hold proprioception only."""
    success: str
    """key of `info` that is true at success"""
    cameras: tuple[str, ...] = field(init=False)
    """the keys of `images`"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.images))


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
        self.spec = EnvironmentSpec(**{each.name: getattr(mapping, each.name) for each in fields(EnvironmentSpec)})
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
            source = "render()" if key is None else f"observation {key!r}"
            images[camera] = self._check_image(camera, source, image=image)
        state = observation if mapping.state is None else _find(observation, mapping.state, where=where)
        return Observation(images, self._check_state(state), self.spec.instruction, self._episode.time)

    def _check_image(self, camera: str, source: str, *, image: Any) -> UInt8[np.ndarray, "_h _w 3"]:
        height, width = self.spec.frame_sizes[camera]
        if not isinstance(image, np.ndarray) or image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"{self.spec.name}: camera {camera!r} expects a uint8 array of shape ({height}, {width}, 3) from "
                f"{source}, got {_describe(image)}; resize it with a wrapper of gymnasium, or correct image_size in "
                "the mapping"
            )
        return image.copy()  # many environments draw the next frame into the same array

    def _check_state(self, state: Any) -> Float[np.ndarray, "s"]:
        names = self._mapping.state_names
        is_vector = isinstance(state, np.ndarray) and state.shape == (len(names),)
        if not is_vector or not np.issubdtype(state.dtype, np.floating):
            key = "the observation itself" if self._mapping.state is None else f"observation {self._mapping.state!r}"
            raise ValueError(
                f"{self.spec.name}: the state expects a float array of shape ({len(names)},), one value for each of "
                f"{', '.join(names)}, from {key}; got {_describe(state)}"
            )
        return state.astype(np.float32)


def make_gym(name: str, cameras: tuple[str, ...] | None) -> GymEnvironment:
    """A registered Gymnasium environment, mapped by the types of its keys.

    Images are the uint8 arrays `[h w 3]` of the observation (by the last part of their keys), or the rendered picture
    for a single camera; the state is the only vector of floats; success is `is_success` or `success` of `info`; the
    instruction is the attribute `instruction`, or else the name.

    Args:
        cameras: the images to take; None: all.
    Raises:
        ValueError: one of them is missing or ambiguous; then a function has to return a `GymEnvironment`.
    """
    environment = gymnasium.make(name, render_mode="rgb_array")
    spaces = _leaves(environment.observation_space)
    pictures = {path: box for path, box in spaces.items() if box.dtype == np.uint8 and box.shape[2:] == (3,)}
    vectors = {path: box for path, box in spaces.items() if len(box.shape) == 1 and box.dtype.kind == "f"}
    states = [path for path in vectors if path.rpartition("/")[2] in STATES] or list(vectors)
    environment.reset(seed=0)
    _, _, _, _, info = environment.step(environment.action_space.sample())
    success = next((key for key in SUCCESSES if key in info), None)
    fps: Any = environment.metadata.get("render_fps")
    max_steps = environment.spec.max_episode_steps if environment.spec else None
    ends = {path: path.rpartition("/")[2] for path in pictures}
    found = {end: path for path, end in ends.items()}
    wanted = tuple(found) if cameras is None else cameras
    alike = [path for path, end in ends.items() if end in wanted and [*ends.values()].count(end) > 1]
    images: dict[str, str | None] = {camera: found.get(camera) for camera in wanted}
    missing = [camera for camera, path in images.items() if path is None]
    rendered = environment.render() if missing else None
    drawn: tuple[int, ...] = getattr(rendered, "shape", ())
    sizes: set[Any] = {pictures[path].shape[:2] for path in images.values() if path} | ({drawn[:2]} - {()})
    for problem in (
        len(states) != 1 and f"it has {len(states)} vectors of floats ({', '.join(states) or 'none'}), not one state",
        success is None and f"info has neither {' nor '.join(SUCCESSES)}, but {', '.join(info) or 'nothing'}",
        not fps and "its metadata has no render_fps",
        not max_steps and "it has no time limit (max_episode_steps)",
        len(missing) > (not found) and f"it has no camera {', '.join(missing)}, but {', '.join(found) or 'render()'}",
        alike and f"a camera goes by the end of its path, and several end alike: {', '.join(alike)}",
        len(sizes) > 1 and f"its cameras have different sizes: {sorted(sizes)}",
    ):
        if problem:
            raise ValueError(
                f"{name}: {problem}. Write a function that returns a GymEnvironment with a GymMapping, and name it "
                "as module:function"
            )
    state_size, action_size = vectors[states[0]].shape[0], environment.action_space.shape or (0,)
    height, width = next(iter(sizes), (1, 1))
    mapping = GymMapping(
        name=name,
        robot=name,
        instruction=getattr(environment.unwrapped, "instruction", name),
        fps=float(fps),
        max_steps=int(max_steps or 0),
        image_size=(height, width),
        images=images,
        state=states[0] or None,
        success=str(success),
        state_names=tuple(f"state_{i}" for i in range(state_size)),
        action_names=tuple(f"action_{i}" for i in range(action_size[0])),
    )
    return GymEnvironment(environment, mapping)


STATES, SUCCESSES = ("agent_pos", "state", "proprio", "observation"), ("is_success", "success")


def _leaves(space: gymnasium.Space, path: str = "") -> dict[str, gymnasium.spaces.Box]:
    """The boxes of nested dictionaries by their paths."""
    if isinstance(space, gymnasium.spaces.Dict):
        parts = (_leaves(below, f"{path}/{key}".lstrip("/")) for key, below in space.spaces.items())
        return {name: box for part in parts for name, box in part.items()}
    return {path: space} if isinstance(space, gymnasium.spaces.Box) else {}


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
