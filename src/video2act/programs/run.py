"""`video2act run`: a policy acts before a person, who can pause it, change its instruction and take over by hand.

What happens can be recorded as a LeRobot dataset. Its column `intervention` marks the control steps that a person
decided, so that a training can use them (DAgger). Without a terminal there are no keys, and the status is one line per
second.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from video2act.config.programs import RunOptions
from video2act.data import DatasetWriter, Episode, load_origin
from video2act.data.lerobot_format import ACTION, INFO_PATH, STATE, Feature
from video2act.data.origin import orientation_of, relative_actions_of
from video2act.engines.choice import check_engine, load_policy
from video2act.envs import is_simulated, make_environment
from video2act.evaluation.sources import rendered_size
from video2act.evaluation.suitability import check_image_size, make_fitting, note_instruction
from video2act.files.differences import differences
from video2act.files.run_folder import STATISTICS_FILE, load_config, load_frame_sizes, load_instructions, sizes_of
from video2act.interfaces import Environment, EnvironmentSpec, Watcher
from video2act.runtime.keys import Keys, TerminalKeys
from video2act.runtime.live import JOG, Live, LiveEpisode, Status
from video2act.runtime.runner import Runner
from video2act.statistics import load_statistics, names_of
from video2act.training_record import TrainingRecord
from video2act.viz.rerun_log import RerunLog, check_rerun

INTERVENTION = "intervention"
KEYS = "space pause   : instruction   tab by hand   enter keep   backspace drop   escape quit"
CLOCK = "(observations' clock)"
"""what rates are measured by: a simulator's own clock, whose seconds pass more slowly than ours where it is late"""


@dataclass(frozen=True)
class Ran:
    """What a run did."""

    episodes: int
    successes: int
    corrected_steps: int
    recorded: int
    """episodes that were added to the dataset"""
    dataset: Path | None
    late_steps: int = 0
    """control steps that took longer than their period"""
    incidents: Mapping[str, int] = field(default_factory=dict)
    """how many there were of each kind"""

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.incidents.items()))
        text = (
            f"{self.episodes} episodes, {self.successes} successes, {self.corrected_steps} control steps by hand, "
            f"{self.late_steps} late; incidents: {kinds or 'none'}"
        )
        return text + (f"; {self.recorded} episodes recorded in {self.dataset}" if self.dataset else "")


def run(options: RunOptions, *, keys: Keys | None = None, watch: tuple[Watcher, ...] = ()) -> Ran:
    """Run episodes.

    Args:
        keys: where a person's keys come from; None: the terminal.
        watch: sees every step.
    Raises:
        ValueError: the environment does not fit the policy, or the dataset does not fit the environment.
        ImportError: Rerun is wanted and not installed.
    """
    check_engine(options.run, options.engine)
    config = load_config(options.run)
    if options.rerun is not None:
        check_rerun(options.rerun)
    if options.record is None and options.record_only != "all":
        raise ValueError("record_only says what is recorded; name the dataset with --record")
    check_image_size(options.image_size, [options.env])
    recorded = load_frame_sizes(options.run) if is_simulated(options.env) else {}
    size = rendered_size(sizes_of(config.all_cameras, recorded), options.image_size)
    cameras = config.all_cameras or None
    # what is recorded is trained on, so it may not be a scene that is kept for evaluation
    given = {"image_size": size, "max_steps": options.max_steps, "to_demonstrate": options.record is not None}
    make = partial(make_environment, options.env, cameras, **given)
    statistics = load_statistics(options.run / STATISTICS_FILE)
    environment = make_fitting(config, make, names=names_of(statistics))
    with ExitStack() as ending:
        ending.enter_context(closing(environment))
        note_instruction(options.instruction or environment.spec.instruction, load_instructions(options.run))
        trained = TrainingRecord(statistics["action"].names, config.relative_actions)
        spec = replace(environment.spec, relative_actions=trained.relative_actions_of(environment.spec))
        writer = _continued(options.record, spec, ending=ending)
        policy: Any = load_policy(options.run, options.engine, device=options.device)
        if options.rerun is not None:
            log = RerunLog(options.rerun, state_names=spec.state_names, action_names=spec.action_names)
            watch = (*watch, ending.enter_context(log))
        runner = ending.enter_context(
            Runner(
                policy,
                system2=options.system2,
                refresh_every=options.refresh_every,
                watch=watch,
                **vars(options.runtime),
            )
        )
        if writer is None and options.record is not None:  # only now: what is refused leaves no new folder behind
            writer = ending.enter_context(_begun(options.record, spec))
        if keys is None:
            keys = ending.enter_context(TerminalKeys())
        dashboard = ending.enter_context(Dashboard(spec, writer))
        ranges = statistics["action"]
        live = Live(
            environment,
            runner,
            keys=keys,
            show=dashboard.show,
            jog=options.jog * (np.array(ranges.max) - np.array(ranges.min)),
            rate_hz=spec.fps,
            instruction=options.instruction,
        )
        done = _episodes(live, options, environment=environment, writer=writer)
        return replace(done, incidents=runner.incidents.counts)


def _episodes(live: Live, options: RunOptions, *, environment: Environment, writer: DatasetWriter | None) -> Ran:
    done = Ran(0, 0, 0, 0, options.record)
    for number in range(options.episodes):
        episode = live.episode(options.seed + number)
        recorded = 0
        if writer is not None and episode.is_kept:
            whole = [slice(0, len(episode.actions))] if episode.actions else []
            for stretch in whole if options.record_only == "all" else episode.corrections:
                writer.add_episode(_row(episode, stretch, spec=environment.spec, seed=options.seed + number))
                recorded += 1
        done = replace(
            done,
            episodes=done.episodes + 1,
            successes=done.successes + episode.success,
            corrected_steps=done.corrected_steps + sum(episode.is_by_hand),
            recorded=done.recorded + recorded,
            late_steps=done.late_steps + episode.late_steps,
        )
        if episode.quits:
            break
    return done


def _continued(record: Path | None, spec: EnvironmentSpec, *, ending: ExitStack) -> DatasetWriter | None:
    """The dataset that is recorded into, if it is there already."""
    if record is None or not (record / INFO_PATH).is_file():
        return None
    writer = ending.enter_context(DatasetWriter.resume(record))
    if INTERVENTION not in writer.info.extra:
        raise ValueError(f"{record} has no column {INTERVENTION!r}; record into a new folder and train on both")
    if changed := differences(_form_of(writer), _form_of(spec), words=("there", "here")):
        raise ValueError(f"{record} was recorded otherwise ({'; '.join(changed)}); record into a new folder")
    return writer


def _begun(record: Path, spec: EnvironmentSpec) -> DatasetWriter:
    """A new dataset to record into."""
    return DatasetWriter.create(
        record,
        fps=spec.fps,
        robot=spec.robot,
        cameras=spec.cameras,
        image_size=spec.frame_sizes,
        state_names=spec.state_names,
        action_names=spec.action_names,
        relative_actions=spec.relative_actions,
        origin={"environment": spec.name, "orientation": spec.orientation},
        extra={INTERVENTION: Feature("bool", (1,), None)},
    )


def _form_of(recorded: DatasetWriter | EnvironmentSpec) -> dict[str, Any]:
    """What the episodes of a dataset have in common. Each episode names its environment."""
    if isinstance(recorded, EnvironmentSpec):
        known = recorded
        state, action = recorded.state_names, recorded.action_names
        sizes = recorded.frame_sizes
        relative, orientation = recorded.relative_actions, recorded.orientation
    else:
        known, root, origin = recorded.info, recorded.root, load_origin(recorded.root)
        absent = Feature("float32", ())
        state, action = (known.features.get(column, absent).names or () for column in (STATE, ACTION))
        sizes = {camera: known.features[key].shape[:2] for camera, key in known.cameras.items()}
        relative = relative_actions_of(origin, root, info=known)
        orientation = orientation_of(origin, root, info=known)
    return {
        "robot": known.robot,
        "control steps per second": round(known.fps),
        "state": state,
        "action": action,
        "actions that are changes or speeds": sorted(relative),
        "orientation of the pictures": orientation,
        "height and width of camera": sizes,
    }


def _row(episode: LiveEpisode, part: slice, *, spec: EnvironmentSpec, seed: int) -> Episode:
    seen = episode.observations[part]
    return Episode(
        frames={camera: np.stack([each.images[camera] for each in seen]) for camera in spec.cameras},
        state=np.stack([each.state for each in seen]).astype(np.float32),
        action=np.stack(episode.actions[part]).astype(np.float32),
        instruction=[each.instruction for each in seen],
        seed=seed if part.start == 0 else None,
        environment=spec.name,
        extra={INTERVENTION: np.array(episode.is_by_hand[part])},
    )


class Dashboard:
    """Shows the status: in place in a terminal, else as a line per second."""

    def __init__(self, spec: EnvironmentSpec, writer: DatasetWriter | None, *, console: Console | None = None):
        self._spec, self._writer = spec, writer
        self._console = console or Console(file=sys.stderr)
        self._screen = Screen(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._lines = 0

    def __enter__(self) -> "Dashboard":
        if self._screen is not None:
            self._screen.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._screen is not None:
            self._screen.stop()

    def show(self, status: Status) -> None:
        recorded = 0 if self._writer is None else self._writer.num_episodes
        if self._screen is not None:
            self._screen.update(draw(status, self._spec, recorded=recorded), refresh=True)
            return
        self._lines += 1
        if self._lines % 4 == 1:  # the status comes four times per second
            self._console.print(one_line(status), highlight=False, soft_wrap=True)


def one_line(status: Status) -> str:
    staleness = "-" if status.staleness_s is None else f"{1000 * status.staleness_s:.0f} ms"
    return (
        f"episode {status.episode}, step {status.control_step}, {status.mode}: {status.rates.control_hz:.1f} Hz "
        f"{CLOCK}, staleness {staleness}, {status.late_steps} late, {status.num_incidents} incidents"
    )


def draw(status: Status, spec: EnvironmentSpec, *, recorded: int) -> Group:
    """The dashboard of a terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rates, colour = status.rates, {"policy": "green", "paused": "yellow", "by hand": "magenta"}[status.mode]
    staleness = "no System 2" if status.staleness_s is None else f"{1000 * status.staleness_s:.0f} ms"
    said = status.instruction if status.typed is None else f"{status.typed}_"
    rows: list[tuple[str, str]] = [
        ("episode", f"{status.episode}, control step {status.control_step}; {recorded} recorded"),
        (
            "rates",
            f"control {rates.control_hz:.1f} of {spec.fps:g} Hz {CLOCK}   System 1 {rates.system1_hz:.1f}   "
            f"System 2 {'-' if rates.system2_hz is None else f'{rates.system2_hz:.1f}'}",
        ),
        ("staleness", staleness),
        ("late", f"{status.late_steps} control steps"),
        ("by hand", f"{status.num_corrected} control steps"),
        ("incidents", f"{status.num_incidents}"),
    ]
    table.add_row(Text("now"), Text(status.mode, style=f"bold {colour}"))
    table.add_row(Text("instruction"), Text(said, style="" if status.typed is None else "reverse"))
    if status.refused:
        table.add_row(Text("not taken over"), Text(status.refused, style="red"))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    troubles = [
        Text(f"  {incident.kind}: {incident.text}", style="red", overflow="ellipsis", no_wrap=True)
        for incident in status.incidents
    ]
    jogs = "   ".join(f"{up}/{down} {name}" for (up, down), name in zip(JOG, spec.action_names, strict=False))
    help_lines = [Text(KEYS, style="dim")] + ([Text(jogs, style="dim")] if status.mode == "by hand" else [])
    return Group(table, *troubles, *help_lines)
