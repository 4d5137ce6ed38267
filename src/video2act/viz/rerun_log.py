"""A watcher that shows a robot in Rerun (rerun.io): live in its viewer, or in a file that the viewer opens later.

Timelines: `robot` (its clock), `control_step`, `system1` (number of the plan), `system2` (number of the condition), and
`episode`. So each system can be stepped through at its own pace.

    camera/NAME               each picture
    state, action             numbers with their names; action is what was sent
    plan/chunk, plan/now      each action chunk, whole, and the action that it has for this moment
    system2/STREAM/...        boundaries or motion over the camera picture; the imagined frame and the one that came
    staleness, incidents, held, clamped

What System 2 sees is computed when an episode ends, so that it costs the control loop nothing; it is stored at the
moments when it was seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from video2act.config import StreamConfig
from video2act.extras import extra
from video2act.interfaces import Decision
from video2act.types import Observation
from video2act.viz.film import PANEL_PX, Explain, Foresee, Recording, imagines_nothing, stream_views
from video2act.viz.pictures import enlarge
from video2act.viz.recorder import Recorder

JPEG_QUALITY = 85
MAX_STEPS = 5000
"""control steps of an episode whose pictures are kept for the maps of System 2"""


def check_rerun(where: Path | str = "live") -> Any:
    """The module. Raises ImportError: it is not installed, with the line that installs it; ValueError: `where` is
    neither `live` nor a file for it."""
    if str(where) != "live" and Path(where).suffix != ".rrd":
        raise ValueError(f"Rerun's files end in .rrd, got {where}; or choose live, for its viewer")
    if Path(where).is_dir():
        raise ValueError(f"{where} is a folder; name the file to write in it, such as {Path(where) / 'run.rrd'}")
    with extra("view", "Rerun's viewer"):
        import rerun  # type: ignore[import-not-found]
    return rerun


class RerunLog:
    """Pass it to `Runner(..., watch=...)` or to `run_episode`, and close it at the end.

    Args:
        where: a file that ends in `.rrd`, or `live`: the viewer opens in a window of its own.
        fps: control steps per second; needed for the maps.
        streams: System 2's, whose maps are stored; none: no maps.
        explain, foresee: as for `Recorder`; needed with streams.
        state_names, action_names: as in the environment's spec.
    Raises:
        ImportError: rerun-sdk is not installed.
        ValueError: `where` is another word, or streams come without `explain`.
    """

    def __init__(
        self,
        where: Path | str | Literal["live"],
        *,
        fps: float = 0.0,
        streams: tuple[StreamConfig, ...] = (),
        explain: Explain | None = None,
        foresee: Foresee = imagines_nothing,
        state_names: Sequence[str] = (),
        action_names: Sequence[str] = (),
    ):
        if streams and (explain is None or fps <= 0):
            raise ValueError("maps of streams need explain and fps, such as those of a loaded policy")
        self._rerun = check_rerun(where)
        self._streams, self._explain, self._foresee, self._fps = streams, explain, foresee, fps
        self._names = {"state": list(state_names), "action": list(action_names)}
        self._recorder = None if explain is None else Recorder(streams, fps, explain=explain)
        self._recording = self._rerun.RecordingStream("video2act")
        if str(where) == "live":
            self._recording.spawn()
        else:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
            self._recording.save(str(where))
        self._episode = self._plans = self._conditions = -1
        self._named: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._step = -1
        self._times: list[float] = []
        self._versions: dict[int, int] = {}
        """control step of a condition's newest frame -> number of the condition"""
        self._last_seen: float | None = None

    def on_reset(self, observation: Observation) -> None:
        self._show_maps()
        self._episode += 1
        self._begin()
        if self._recorder is not None:
            self._recorder.on_reset(observation)
        self._log("instruction", self._rerun.TextLog(observation.instruction))

    def on_step(self, observation: Observation, decision: Decision) -> None:
        rr, plan, condition = self._rerun, decision.plan, decision.plan.condition
        self._step += 1
        self._times.append(observation.time)
        if self._recorder is not None and self._step < MAX_STEPS:
            self._recorder.on_step(observation, decision)
        self._at(self._step, observation.time)
        for camera, image in observation.images.items():
            self._picture(f"camera/{camera}", image)
        self._numbers("state", observation.state)
        self._numbers("action", decision.action)
        if condition is not None:
            self._log("staleness", rr.Scalars(observation.time - condition.observed_at))
            if condition.observed_at != self._last_seen:
                self._last_seen = condition.observed_at
                self._conditions += 1
                self._versions[int(np.abs(np.array(self._times) - condition.observed_at).argmin())] = self._conditions
                self._recording.set_time("system2", sequence=self._conditions)
                self._log("system2/refresh", rr.TextLog(f"condition of {condition.observed_at:.3f} s"))
        if decision.is_new_plan:
            self._plans += 1
            self._recording.set_time("system1", sequence=self._plans)
            chunk = plan.chunk.actions
            self._log("plan/chunk", rr.Tensor(chunk.astype(np.float32), dim_names=["control step ahead", "action"]))
        if (due := plan.chunk.action(observation.time)) is not None:
            self._numbers("plan/now", due, names="action")
        for name, value in (("held", decision.is_held), ("clamped", decision.is_clamped)):
            self._log(name, rr.Scalars(float(value)))
        for incident in decision.incidents:
            self._log("incidents", rr.TextLog(f"{incident.kind}: {incident.text}", level=rr.TextLogLevel.WARN))

    def close(self) -> None:
        """Store the maps of the last episode, and finish the file."""
        self._show_maps()
        self._begin()
        self._recording.flush()
        self._recording.disconnect()

    def __enter__(self) -> "RerunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _show_maps(self) -> None:
        if self._recorder is None or self._explain is None or self._step < 0:
            return
        if self._step >= MAX_STEPS:
            self._log("incidents", self._rerun.TextLog(f"maps of System 2 end after {MAX_STEPS} control steps"))
        self.show_maps(self._recorder.recording())

    def show_demonstration(
        self, recording: Recording, *, states: Float[np.ndarray, "t s"], actions: Float[np.ndarray, "t a"] | None
    ) -> None:
        """Store an episode that nobody acted in here: pictures, numbers, and the maps at the refreshes of the
        schedule."""
        self._episode += 1
        self._begin()
        for number, step in enumerate(sorted(set(recording.condition_steps))):
            self._versions[step] = number
        for step in range(recording.num_steps):
            self._at(step, step / recording.fps)
            if step in recording.plan_steps:
                self._recording.set_time("system1", sequence=recording.plan_steps.index(step))
            for camera, frames in recording.frames.items():
                self._picture(f"camera/{camera}", frames[step])
            self._numbers("state", states[step])
            if actions is not None:  # a dataset of videos has none
                self._numbers("action", actions[step])
        self.show_maps(recording)

    def show_maps(self, recording: Recording) -> None:
        """Store what every stream kept and imagined of an episode, at the moments when it was seen."""
        assert self._explain is not None
        views = stream_views(recording, self._streams, explain=self._explain, foresee=self._foresee)
        for step in sorted(set(recording.condition_steps)):
            self._at(step, self._times[step] if step < len(self._times) else step / recording.fps)
            if step in self._versions:
                self._recording.set_time("system2", sequence=self._versions[step])
            for name, view in views.items():
                frames = recording.frames[view.stream.camera]
                shown = view.panels(step, enlarge(frames[step], PANEL_PX))
                shown |= view.future(step, frames, control_fps=recording.fps)
                for what, picture in shown.items():
                    self._picture(f"system2/{name}/{what}", picture)

    def _at(self, step: int, time: float) -> None:
        self._recording.reset_time()
        self._recording.set_time("robot", duration=time)
        self._recording.set_time("control_step", sequence=step)
        self._recording.set_time("episode", sequence=self._episode)

    def _numbers(self, path: str, values: np.ndarray, *, names: str = "") -> None:
        known = self._names.get(names or path)
        if path not in self._named and known:
            self._recording.log(path, self._rerun.SeriesLines(names=known), static=True)
        self._named.add(path)
        self._log(path, self._rerun.Scalars(np.asarray(values, np.float64)))

    def _picture(self, path: str, image: UInt8[np.ndarray, "_h _w 3"]) -> None:
        self._log(path, self._rerun.Image(np.ascontiguousarray(image)).compress(jpeg_quality=JPEG_QUALITY))

    def _log(self, path: str, content: Any) -> None:
        self._recording.log(path, content)
