"""What a policy sees and does, its training data, and how it differs from its preset."""

from collections.abc import Iterator
from pathlib import Path

from video2act.config import PolicyConfig, camera_and_lag, differences
from video2act.data.view import num_held_out
from video2act.files.run_folder import (
    STATISTICS_FILE,
    TRAINING_FILE,
    TrainedDataset,
    load_config,
    load_instructions,
    load_trained_datasets,
)
from video2act.frames import frame_uses
from video2act.presets import PRESETS, DataSpec, make_preset
from video2act.programs.info.models import sizes
from video2act.programs.info.tables import as_text, facts
from video2act.refresh_rule import RefreshSpec
from video2act.statistics import load_statistics
from video2act.training.resuming import read_settings

MAX_SENTENCES = 5
"""of a training that are shown"""


def describe_run(path: Path | str) -> str:
    """A policy: its inputs and outputs, its data, its differences from its preset, and its sizes; plain text.

    Raises:
        FileNotFoundError, ValueError: the folder holds no policy, or one that cannot be read.
    """
    path = Path(path)
    policy = load_config(path)
    record = path / TRAINING_FILE
    found = read_settings(record).get("validation_fraction") if record.is_file() else 0.0
    held_out = found if isinstance(found, float) and 0 < found < 1 else 0.0
    trained_on = "\n".join(_trained_on(data, held_out) for data in load_trained_datasets(path))
    names = _names(path)
    rows = (
        ("run", str(path)),
        ("preset", policy.preset or "none is recorded"),
        ("sees", "\n".join(_views(policy)) or "nothing"),
        ("state", f"{policy.state_dim} numbers, normalised by {policy.normalize_state}{names['state']}"),
        (
            "plans",
            f"{policy.horizon} actions of {policy.action_dim} numbers; {policy.execute_steps} are "
            f"executed{names['action']}",
        ),
        ("relative", ", ".join(policy.relative_actions) or "none: every action is a target"),
        ("rate", f"{policy.fps:g} control steps per second; {_rhythm(policy)}"),
        ("instruction", "\n".join(load_instructions(path)[:MAX_SENTENCES]) or "none is recorded"),
        ("trained on", trained_on or "not recorded"),
        ("changed", _changes(policy)),
    )
    return as_text(facts(rows)) + "\n" + sizes(policy.preset or "none", policy)


def _names(path: Path) -> dict[str, str]:
    """What the numbers of state and action are, in the order in which a robot gives and gets them."""
    statistics = load_statistics(path / STATISTICS_FILE) if (path / STATISTICS_FILE).is_file() else {}
    listed = {kind: ", ".join(entry.names) for kind, entry in statistics.items() if entry.names}
    return {kind: f"\n{listed[kind]}" if kind in listed else "" for kind in ("state", "action")}


def _changes(policy: PolicyConfig) -> str:
    name = policy.preset
    if name not in PRESETS:
        known = f"the preset {name!r} is unknown here" if name else "it started from a config without a preset's name"
        return f"cannot be compared: {known}"
    found = differences(make_preset(name, _data_of(policy)), policy)
    lines = [f"{field}: {before!r} in the preset, {now!r} in this run" for field, before, now in found]
    return "\n".join(lines) or "nothing: the run is as its preset says"


def _views(policy: PolicyConfig) -> Iterator[str]:
    """Which cameras a policy reads, and at what size."""
    streams = {stream.name: stream for stream in policy.system2.streams} if policy.system2 else {}
    for use in frame_uses(policy):
        stream, clip = streams.get(use.stream), ""
        if stream is not None and stream.num_frames > 1:
            seconds = stream.stride * (stream.num_frames - 1) / policy.fps
            clip = f", {stream.num_frames} frames of the last {seconds:.3g} s"
        if stream is not None and (ahead := stream.imagine.num_frames):
            clip += f", {ahead} imagined, {ahead * stream.stride / policy.fps:.3g} s ahead"
        height, width = use.size
        yield f"{use.camera}: {use.rule.fit} to {width}x{height}{clip} ({use.stream or 'System 1'})"


def _rhythm(policy: PolicyConfig) -> str:
    if policy.system2 is None:
        return "no System 2"
    n, stale = policy.refresh_every, policy.max_staleness_steps / policy.fps
    oldest_s = RefreshSpec(policy.system2.streams, n, policy.fps).oldest_s
    rhythm = f"System 2 refreshes every {n} steps ({n / policy.fps:.3g} s; the least max_staleness_s is {oldest_s:.3g})"
    return f"{rhythm}, trained on conditions up to {stale:.3g} s old"


def _trained_on(data: TrainedDataset, held_out: float) -> str:
    columns = [f"{name}: {' + '.join(used)}" for name, used in (("state", data.state), ("action", data.action)) if used]
    frames = [f"{camera} {width}x{height}" for camera, (height, width) in data.frame_sizes.items()]
    listed = "; ".join([*data.tasks[:MAX_SENTENCES], *columns, ", ".join(frames)]).removesuffix("; ")
    kept = f" ({num_held_out(data.episodes, held_out)} of them held out)" if held_out and data.episodes > 1 else ""
    return f"{data.name} ({data.robot}): {data.episodes} episodes{kept}, {data.frames} frames; {listed}"


def _data_of(policy: PolicyConfig) -> DataSpec:
    """Data for which a preset makes such a policy."""
    streams = policy.system2.streams if policy.system2 else ()
    cameras = [*(camera_and_lag(camera)[0] for camera in policy.cameras), *(stream.camera for stream in streams)]
    names = tuple(dict.fromkeys(cameras)) or ("camera",)
    relative = policy.relative_actions
    return DataSpec(policy.state_dim, policy.action_dim, policy.fps, names, policy.orientation, relative)
