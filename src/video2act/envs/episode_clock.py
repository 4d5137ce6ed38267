"""The clock of an episode, its time limit and the checks of an action, the same for all environments here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from video2act.interfaces import Environment, EnvironmentSpec, RealTimeEnvironment, Step
from video2act.types import Observation


class OwnEnvironment:
    """An environment of a user's own, held to its spec: episodes end after `spec.max_steps` control steps although its
    `step` does not say so, and pictures of other sizes are refused when an episode begins.

    Args:
        name: by which it was asked for. It replaces the spec's own: recordings, training seeds and evaluations must
            mean the same environment by it.
    Raises:
        ValueError: the spec leaves out the size of a camera.
    """

    def __init__(self, environment: Environment, name: str):
        self.spec = spec = replace(environment.spec, name=name)
        sized = spec.image_size if isinstance(spec.image_size, Mapping) else spec.cameras
        if missing := ", ".join(camera for camera in spec.cameras if camera not in sized):
            raise ValueError(f"{spec.name}: image_size of its spec has no size of camera {missing}; add it")
        self._environment = environment
        self._num_steps = 0
        if isinstance(environment, RealTimeEnvironment):
            self.observe = environment.observe

    def reset(self, seed: int) -> Observation:
        """Raises ValueError: no Observation; a camera's image is missing, or has another size than the spec says."""
        self._num_steps = 0
        observation = self._environment.reset(seed)
        self._check_kind("reset", observation, Observation, "an Observation")
        for camera, (height, width) in self.spec.frame_sizes.items():
            image = observation.images.get(camera)
            if image is None or image.shape[:2] != (height, width):
                found = "no image" if image is None else f"an image of {image.shape[1]}x{image.shape[0]}"
                raise ValueError(
                    f"{self.spec.name}: camera {camera!r} gives {found}, and the spec says {width}x{height}; correct "
                    "image_size: (height, width), or a dict of them by camera"
                )
        return observation

    def step(self, action: Float[np.ndarray, "a"]) -> Step:
        self._num_steps += 1
        step = self._environment.step(action)
        self._check_kind("step", step, Step, "Step(observation, done, success)")
        self._check_kind("step", step.observation, Observation, "an Observation in its Step")
        # booleans of numpy, which comparisons of arrays give, cannot be written to json
        done = bool(step.done) or self._num_steps >= self.spec.max_steps
        return replace(step, done=done, success=bool(step.success))

    def _check_kind(self, call: str, found: object, kind: type, wanted: str) -> None:
        if not isinstance(found, kind):
            what = "a tuple, as Gymnasium does" if isinstance(found, tuple) else type(found).__name__
            raise ValueError(f"{self.spec.name}: {call} must return {wanted}, it gives {what}")

    def close(self) -> None:
        self._environment.close()


class EpisodeClock:
    """Counts the control steps of an environment's episode, and refuses wrong actions."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._spec = spec
        self._phase: Literal["not started", "running", "over"] = "not started"
        self._num_steps = 0

    @property
    def time(self) -> float:
        """Seconds since the reset; the simulators' own clocks also count the steps that settle a scene."""
        return self._num_steps / self._spec.fps

    def begin(self) -> None:
        self._phase, self._num_steps = "running", 0

    def check(self, action: Float[np.ndarray, "_a"]) -> None:
        """Refuse a step out of turn, an action of the wrong length and one that is not finite."""
        if self._phase == "not started":
            raise RuntimeError(f"{self._spec.name}: step() before reset(); call reset(seed) first")
        if self._phase == "over":
            raise RuntimeError(
                f"{self._spec.name}: the episode ended after {self._num_steps} steps (Step.done); call reset(seed)"
            )
        names = self._spec.action_names
        if action.shape != (len(names),):
            raise ValueError(
                f"{self._spec.name}: expected an action of shape ({len(names)},) = {', '.join(names)}; got shape "
                f"{action.shape}"
            )
        if not np.isfinite(action).all():
            pairs = zip(names, action, strict=True)
            bad = ", ".join(f"{name} = {value}" for name, value in pairs if not np.isfinite(value))
            # a simulator turns a NaN into any action and goes on
            raise ValueError(f"{self._spec.name}: every value of an action must be finite, got {bad}")

    def advance(self, is_over: bool) -> bool:
        """Count one control step. Returns whether the episode is done: `is_over`, or the time limit is reached."""
        self._num_steps += 1
        done = is_over or self._num_steps >= self._spec.max_steps
        if done:
            self._phase = "over"
        return done
