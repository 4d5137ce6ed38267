"""A watcher that keeps an episode in memory and films it afterwards, so that the control loop is not slowed down."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from video2act.config import StreamConfig
from video2act.types import Observation, VideoCondition
from video2act.viz.film import Explain, Foresee, Recording, film, imagines_nothing
from video2act.viz.video_writer import write_video


class Recorder:
    """Watches one episode at a time; `write` makes the film of the last one."""

    def __init__(
        self, streams: tuple[StreamConfig, ...], fps: float, *, explain: Explain, foresee: Foresee = imagines_nothing
    ):
        """`fps` is the rate of the control loop; `explain` gives the filtered features of clips, `foresee` what is
        imagined after them."""
        self._streams = streams
        self._fps = fps
        self._explain, self._foresee = explain, foresee
        self._observations: list[Observation] = []
        self._observed_at: list[float] = []
        self._plan_steps: list[int] = []
        self.actions: list[Float[np.ndarray, "a"]] = []
        """the actions of the episode, one per control step"""

    def on_reset(self, observation: Observation) -> None:
        self._observations, self._observed_at, self._plan_steps, self.actions = [], [], [], []

    def on_step(
        self,
        observation: Observation,
        action: Float[np.ndarray, "a"],
        *,
        condition: VideoCondition | None,
        is_new_plan: bool,
    ) -> None:
        if is_new_plan:
            self._plan_steps.append(len(self._observations))
        self._observations.append(observation)
        self._observed_at.append(observation.time if condition is None else condition.observed_at)
        self.actions.append(action)

    def recording(self, outcome: str = "") -> Recording:
        """The episode so far; `outcome` says how it ended.

        Raises:
            ValueError: nothing was watched, or no camera was in it.
        """
        if not self._observations:
            raise ValueError("nothing was recorded; pass the recorder to run_episode as a watcher first")
        if not self._observations[0].images:
            raise ValueError("the episode has no camera images to film; give the environment a camera")
        times = np.array([observation.time for observation in self._observations])
        # a condition is stamped with the time of its newest frame: the nearest observation is that frame
        condition_steps = [int(np.abs(times - seen).argmin()) for seen in self._observed_at]
        cameras = self._observations[0].images
        return Recording(
            frames={camera: np.stack([each.images[camera] for each in self._observations]) for camera in cameras},
            instruction=self._observations[0].instruction,
            fps=self._fps,
            plan_steps=tuple(self._plan_steps),
            condition_steps=tuple(condition_steps),
            outcome=outcome,
        )

    def write(self, path: Path, outcome: str = "") -> None:
        """Make the film, as mp4."""
        recording = self.recording(outcome)
        write_video(
            path,
            film(recording, self._streams, explain=self._explain, foresee=self._foresee),
            fps=recording.playback_fps,
        )
