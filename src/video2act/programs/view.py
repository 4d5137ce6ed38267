"""`video2act view`: a recorded demonstration as System 2 sees it, as a film.

The same film as of an evaluated episode, with the ticks of the schedule that the policy would follow: it plans every
`execute_steps` control steps and refreshes System 2 every `refresh_every`. The policy does not act: the frames are the
demonstrator's.
"""

from pathlib import Path
from typing import Any

from video2act.config.runtime import RerunWord
from video2act.data.fit import check_cameras
from video2act.data.opening import open_as_trained
from video2act.engines.choice import check_engine
from video2act.files.run_folder import load_config
from video2act.viz.film import Recording, film
from video2act.viz.rerun_log import RerunLog, check_rerun
from video2act.viz.video_writer import write_video

OTHER_DATA = "this policy was trained on other data, such as another robot's; name a dataset like those of its training"


def view(
    run: Path | str,
    data: Path | str,
    *,
    episode: int = 0,
    out: Path | str | None = None,
    rerun: RerunWord | None = None,
) -> Path | None:
    """Film what each stream keeps of one episode, or show it in Rerun. Returns what was written.

    Args:
        run: folder with the policy.
        data: LeRobotDataset v3.0 with the policy's cameras.
        episode: number of the episode in it.
        out: the mp4 to write; with rerun=file, an .rrd.
        rerun: show it in Rerun instead: `live` in its viewer, or `file`.

    Raises:
        ImportError: Rerun is wanted and not installed.
        ValueError: `out` is no name of a film; the dataset runs at another rate than the policy, lacks one of its
            cameras, or has no such episode.
    """
    run, out = Path(run), None if out is None else Path(out)
    if out is None and rerun != "live":
        raise ValueError("name the film to write (out), or choose rerun='live'")
    if out is not None and rerun is None:
        _check_film(out)
    if rerun is not None:
        check_rerun("live" if rerun == "live" or out is None else out)
    check_engine(run, "torch")
    config, dataset = load_config(run), open_as_trained(data, run)
    streams = config.system2.streams if config.system2 else ()
    if not config.all_cameras:
        raise ValueError(f"the policy in {run} sees nothing, so there is nothing to view; choose one with cameras")
    check_cameras(config, dataset, remedy=OTHER_DATA)
    if not 0 <= episode < len(dataset):
        raise ValueError(f"the dataset has episodes 0 to {len(dataset) - 1}, got {episode}")

    from video2act.policy import Video2Act  # torch: after the input was checked

    policy = Video2Act.load(run)
    frames = {camera: dataset.frames(episode, camera) for camera in config.all_cameras}
    num_steps = len(frames[config.all_cameras[0]])
    recording = Recording(
        frames=frames,
        instructions=dataset.episode(episode).instruction,
        fps=config.fps,
        plan_steps=tuple(range(0, num_steps, config.execute_steps)),
        condition_steps=tuple(step // config.refresh_every * config.refresh_every for step in range(num_steps)),
        outcome="demonstration",
    )
    maps: dict[str, Any] = {"explain": policy.explain, "foresee": policy.foresee}
    if rerun is not None:
        shown, where = dataset.episode(episode), "live" if out is None or rerun == "live" else out
        with RerunLog(where, fps=config.fps, streams=streams, **maps) as log:
            log.show_demonstration(recording, states=shown.state, actions=shown.action)
    elif out is not None:
        write_video(out, film(recording, streams, **maps), fps=recording.playback_fps)
    return None if rerun == "live" else out


def _check_film(out: Path) -> None:
    """Raise ValueError where a film cannot have this name."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the film to write in it, such as {out / 'film.mp4'}")
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"a film's name ends in .mp4, got {out}; name it {out.with_suffix('.mp4')}")
