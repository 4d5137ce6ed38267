"""A watcher that keeps an episode in memory and films it afterwards, so that the control loop is not slowed down."""

from pathlib import Path

import numpy as np

from video2act.config import StreamConfig
from video2act.interfaces import Decision
from video2act.trace import Tracer
from video2act.types import Observation
from video2act.viz.film import Explain, Foresee, Recording, film, imagines_nothing


class Recorder(Tracer):
    """Watches one episode at a time; `write` makes the film of the last one."""

    def __init__(
        self, streams: tuple[StreamConfig, ...], fps: float, *, explain: Explain, foresee: Foresee = imagines_nothing
    ):
        """`fps` is the rate of the control loop; `explain` gives the filtered features of clips, `foresee` what is
        imagined after them."""
        super().__init__()
        self._streams = streams
        self._fps = fps
        self._explain, self._foresee = explain, foresee
        self._observations: list[Observation] = []

    def on_reset(self, observation: Observation) -> None:
        super().on_reset(observation)
        self._observations = []

    def on_step(self, observation: Observation, decision: Decision) -> None:
        super().on_step(observation, decision)
        self._observations.append(observation)

    def recording(self, outcome: str = "") -> Recording:
        """The episode so far; `outcome` says how it ended.

        Raises:
            ValueError: nothing was watched, or no camera was in it.
        """
        trace = self.trace()
        if not self._observations[0].images:
            raise ValueError("the episode has no camera images to film; give the environment a camera")
        cameras = self._observations[0].images
        return Recording(
            frames={camera: np.stack([each.images[camera] for each in self._observations]) for camera in cameras},
            instructions=tuple(each.instruction for each in self._observations),
            fps=self._fps,
            plan_steps=tuple(trace.taken_steps.tolist()),
            condition_steps=tuple(trace.condition_steps.tolist()),
            outcome=outcome,
        )

    def write(self, path: Path, outcome: str = "") -> None:
        """Make the film, as mp4."""
        from video2act.viz.video_writer import write_video  # PyAV: a robot that only watches needs none

        recording = self.recording(outcome)
        write_video(
            path,
            film(recording, self._streams, explain=self._explain, foresee=self._foresee),
            fps=recording.playback_fps,
        )
