"""What is in a dataset, or how large a video model or a preset is, on one screen: the functions behind `video2act
info`."""

import json
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from video2act.config import (
    BackboneConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    System2Config,
    camera_and_lag,
    differences,
    load_backbone,
)
from video2act.data import DatasetError, LeRobotDataset
from video2act.data.check import check_dataset
from video2act.data.hub import locate_dataset
from video2act.data.lerobot_format import DEFAULT_FEATURES
from video2act.files.run_folder import DATA_FILE, INSTRUCTIONS_FILE, ROBOTS, STATISTICS_FILE, load_config
from video2act.files.tensor_files import read_json
from video2act.frames import describe_fit, fit_problem, frame_uses
from video2act.normalize import Normalizer, Statistics
from video2act.presets import ANY_DATA, PRESETS, PUBLISHED, DataSpec, make_preset, small, video_model_of
from video2act.system1 import System1
from video2act.system2.backbones import make_backbone
from video2act.system2.backbones.published import FAMILIES, TUNED_CONFIG, family
from video2act.system2.backbones.sizes import size_of
from video2act.system2.backbones.wan_original import is_original

WIDTH = 128
Columns = Sequence[str] | None
MAX_SENTENCES = 5
"""of a training that are shown"""


def describe(what: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """A folder's dataset or video model, a repo's dataset, or a preset; plain text.

    Args:
        state, action: columns of a dataset, as for `open_dataset`.
    Raises:
        FileNotFoundError, DatasetError: it is none of them, or cannot be read.
        ValueError: the video model's files are damaged, or it is of no family known here.
    """
    what, name = Path(what), str(what)
    # a video model's folder may hold a config.json, too
    if (what / STATISTICS_FILE).is_file() or (what / ROBOTS).is_dir():
        return describe_run(what)
    if what.exists():
        is_model = any((what / file).exists() for file in (TUNED_CONFIG, "model_index.json", "transformer/config.json"))
        if is_model or is_original(what):
            return describe_video_model(what)
        return describe_dataset(what, state=state, action=action)
    if name in PRESETS:
        return describe_preset(name)
    close = get_close_matches(name, PRESETS, n=1)
    if close and what.name == name:  # the id of a repo has an owner, too
        raise FileNotFoundError(
            f"{name} is not a folder, nor a preset; did you mean {close[0]!r}? presets are "
            f"{', '.join(PRESETS)}; expected one of "
            f"them, a dataset (a folder with meta/info.json, or a repo id owner/name), or a video model's folder"
        )
    return describe_dataset(what, state=state, action=action)


def describe_run(path: Path | str) -> str:
    """What a policy sees and does, what it learned from, how it differs from its preset, and its sizes; plain text.

    Raises:
        FileNotFoundError, ValueError: the folder holds no policy, or one that cannot be read.
    """
    path = Path(path)
    policy = load_config(path)
    name = policy.preset
    table = Table(show_header=False, box=None)
    for word, value in (
        ("run", str(path)),
        ("preset", name or "none is recorded"),
        ("sees", "\n".join(_views(policy)) or "nothing"),
        ("state", f"{policy.state_dim} numbers, normalised by {policy.normalize_state}"),
        ("plans", f"{policy.horizon} actions of {policy.action_dim} numbers; {policy.execute_steps} are executed"),
        ("rate", f"{policy.fps:g} control steps per second; {_rhythm(policy)}"),
        ("instruction", "\n".join(_recorded(path / INSTRUCTIONS_FILE)[:MAX_SENTENCES]) or "none is recorded"),
        ("trained on", "\n".join(map(_trained_on, _recorded(path / DATA_FILE))) or "not recorded"),
    ):
        table.add_row(word, value)
    if name in PRESETS:
        found = differences(make_preset(name, _data_of(policy)), policy)
        lines = [f"{field}: {before!r} in the preset, {now!r} in this run" for field, before, now in found]
        table.add_row("changed", "\n".join(lines) or "nothing: the run is as its preset says")
    else:
        known = f"the preset {name!r} is unknown here" if name else "it started from a config without a preset's name"
        table.add_row("changed", f"cannot be compared: {known}")
    return _text(table) + "\n" + _sizes(name or "none", policy)


def _views(policy: PolicyConfig) -> list[str]:
    """Where a policy reads its cameras, and at what size."""
    streams = {stream.name: stream for stream in policy.system2.streams} if policy.system2 else {}
    lines = []
    for use in frame_uses(policy):
        stream, clip = streams.get(use.stream), ""
        if stream is not None and stream.num_frames > 1:
            seconds = stream.stride * (stream.num_frames - 1) / policy.fps
            clip = f", {stream.num_frames} frames of the last {seconds:.3g} s"
        height, width = use.size
        lines.append(f"{use.camera}: {use.rule.fit} to {width}x{height}{clip} ({use.stream or 'System 1'})")
    return lines


def _rhythm(policy: PolicyConfig) -> str:
    if policy.system2 is None:
        return "no System 2"
    n, stale = policy.refresh_every, policy.max_staleness_steps / policy.fps
    return f"System 2 refreshes every {n} steps ({n / policy.fps:.3g} s), trained on conditions up to {stale:.3g} s old"


def _recorded(path: Path) -> list[Any]:
    return json.loads(path.read_text()) if path.is_file() else []


def _trained_on(data: dict[str, Any]) -> str:
    columns = [f"{name}: {' + '.join(data[name])}" for name in ("state", "action") if data.get(name)]
    told = "; ".join([*data["tasks"][:MAX_SENTENCES], *columns])
    return f"{data['name']} ({data['robot']}): {data['episodes']} episodes, {data['frames']} frames; {told}"


def _data_of(policy: PolicyConfig) -> DataSpec:
    """Data for which a preset makes such a policy."""
    streams = policy.system2.streams if policy.system2 else ()
    cameras = [*(camera_and_lag(camera)[0] for camera in policy.cameras), *(stream.camera for stream in streams)]
    return DataSpec(policy.state_dim, policy.action_dim, policy.fps, tuple(dict.fromkeys(cameras)) or ("camera",))


def describe_dataset(path: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """Robot, cameras, size, tasks, and the range of every number of state and action; plain text.

    Raises:
        FileNotFoundError, DatasetError: the dataset cannot be read.
    """
    dataset = LeRobotDataset(path, state=state, action=action)
    notes = [
        f" note: {feature}: {line}"
        for feature, statistics in dataset.stats.items()
        for line in Normalizer(statistics, "mean_std").parked()
    ]
    return _text(_summary(dataset), _columns(dataset), _tasks(dataset), *_ranges(dataset), *notes, _presets(dataset))


def check(path: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """Look at every byte of a dataset; what is said when nothing is wrong.

    Raises:
        FileNotFoundError: there is no dataset.
        DatasetError: lists all that is wrong.
    """
    root = locate_dataset(path)
    if faults := check_dataset(root, state=state, action=action):
        listed = "\n  ".join(faults)
        raise DatasetError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  {listed}")
    return f"{path}: every file was read and every picture decoded; nothing is wrong\n"


def describe_preset(name: str) -> str:
    """Both systems of a preset: parameters, memory and tokens per stream, from configs alone; plain text.

    Raises:
        ValueError: there is no such preset.
    """
    return _sizes(name, make_preset(name, ANY_DATA))


def _sizes(name: str, policy: PolicyConfig) -> str:
    return _text(_systems(name, policy), *([_streams(policy.system2)] if policy.system2 else []))


def _text(*parts: Table | str) -> str:
    """Tables and lines as plain text, an empty line between two."""
    console = Console(width=WIDTH, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part, "", sep="\n", soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"


def describe_video_model(root: Path | str) -> str:
    """What a video model's folder holds, measured from its configs; plain text.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or it is of no family known here.
    """
    root, table = Path(root), Table(show_header=False, box=None)
    table.add_row("video model", str(root))
    config = load_backbone(root / TUNED_CONFIG) if (root / TUNED_CONFIG).is_file() else None
    if isinstance(config, BackboneConfig):
        table.add_row("kind", f"tiny, {config.depth} blocks, trained by train-video")
        table.add_row("presets", "tiny, tiny_latents")
    elif config:
        table.add_row("kind", f"{config.name}, finetuned by train-video from {config.source}")
        table.add_row("presets", _over([config.name]))
    else:
        found = "WanTransformer3DModel"
        if not is_original(root):
            found = read_json(root / "transformer" / "config.json").get("_class_name")
        families = [name for name in FAMILIES if family(name).TRANSFORMER.__name__ == found]
        if not families:
            raise ValueError(
                f"{root} is a video model, but of the kind {found}; known are the families {', '.join(FAMILIES)}"
            )
        size = size_of(PretrainedBackboneConfig(families[0], str(root), feature_layer=0))
        layout = "in the original files" if is_original(root) else "in diffusers' layout"
        table.add_row("kind", f"{found} (of {', '.join(families)}), {layout}")
        table.add_row("blocks", f"{size.num_blocks} of width {size.feature_dim}")
        table.add_row("parameters", f"{size.whole / 1e9:.2f} B of the transformer")
        table.add_row("VAE encoder", f"{size.encoder / 1e6:.0f} M parameters, in float32")
        table.add_row("presets", _over(families))
    table.add_row("use it", f"video2act train --preset PRESET --video-model {root}")
    return _text(table)


def _over(families: list[str]) -> str:
    """The presets over models of these families."""
    over = [preset.__name__ for preset in (small, *PUBLISHED)]
    return ", ".join(name for name in over if getattr(video_model_of(name), "name", "") in families)


def _systems(name: str, policy: PolicyConfig) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("preset", name)
    backbone = policy.system2.backbone if policy.system2 else None
    if backbone is None:
        table.add_row("video model", "none: System 1 alone")
    elif isinstance(backbone, BackboneConfig):
        with torch.device("meta"):
            model = make_backbone(backbone)
        count = sum(parameter.numel() for parameter in model.parameters())
        table.add_row(
            "video model", f"tiny, trained by train-video; {backbone.feature_layer} of {backbone.depth} blocks run"
        )
        table.add_row("parameters", f"{count / 1e6:.2f} M, {4 * count / 1e6:.1f} MB in float32")
    else:
        size = size_of(backbone)
        table.add_row("video model", f"{backbone.name} from {backbone.source}")
        table.add_row("blocks", f"{backbone.feature_layer} of {size.num_blocks} are loaded and run")
        table.add_row("parameters", f"{size.kept / 1e9:.2f} B loaded of the transformer's {size.whole / 1e9:.2f} B")
        table.add_row("VAE encoder", f"{size.encoder / 1e6:.0f} M parameters, in float32")
        table.add_row(
            "memory", f"{size.bytes / 1e9:.2f} GB of weights ({backbone.dtype}, VAE float32), text encoder apart"
        )
    with torch.device("meta"):
        system1 = System1(
            policy.system1,
            policy.cameras,
            state_dim=policy.state_dim,
            action_dim=policy.action_dim,
            horizon=policy.horizon,
            fps=policy.fps,
        )
    count = sum(parameter.numel() for parameter in system1.parameters())
    encoders = [encoder.source for encoder in (policy.system1.text_encoder, policy.system1.image_encoder) if encoder]
    apart = f", {' and '.join(encoders)} apart" if encoders else ""
    table.add_row("System 1", f"{count / 1e6:.2f} M parameters{apart}")
    return table


def _streams(system2: System2Config) -> Table:
    table = Table(
        "stream", "frames", "frame px", "features t x h x w", "width", "feature tokens", "to System 1", box=None
    )
    backbone = system2.backbone
    width = backbone.hidden if isinstance(backbone, BackboneConfig) else size_of(backbone).feature_dim
    for stream in system2.streams:
        t = 1 + (stream.num_frames - 1) // backbone.frames_per_feature
        h, w = (side // backbone.patch_px for side in stream.frame_px)
        handed_on = t * h * w if stream.former.kind == "projection" else stream.former.num_tokens
        frame = "{} x {}".format(*stream.frame_px)
        row = (stream.num_frames, frame, f"{t} x {h} x {w}", width, t * h * w, handed_on)
        table.add_row(stream.name, *map(str, row))
    return table


def _summary(dataset: LeRobotDataset) -> Table:
    seconds = dataset.total_frames / dataset.fps
    size = sum(file.stat().st_size for file in dataset.root.rglob("*") if file.is_file())
    lengths = sorted(dataset.lengths)
    table = Table(show_header=False, box=None)
    for name, value in (
        ("dataset", str(dataset.root)),
        ("robot", dataset.robot),
        ("fps", f"{dataset.fps:g}"),
        ("cameras", "\n".join(_camera(dataset, camera) for camera in dataset.cameras) or "none"),
        ("episodes", f"{len(dataset)} of {lengths[0]} to {lengths[-1]} frames, median {lengths[len(lengths) // 2]}"),
        ("frames", f"{dataset.total_frames} ({seconds:.1f} s)"),
        ("state", _joined(dataset.info.state, dataset.state_dim)),
        ("action", _joined(dataset.info.action, dataset.action_dim or 0)),
        ("on disk", f"{size / 2**20:.1f} MiB"),
        ("fingerprint", f"{dataset.fingerprint[:16]}, the same for the same data as training reads it"),
    ):
        table.add_row(name, value)
    return table


def _joined(columns: tuple[str, ...], size: int) -> str:
    return f"{size} numbers: {' + '.join(columns)}" if columns else "none"


def _columns(dataset: LeRobotDataset) -> Table:
    """Everything that is recorded in each frame, and what it is used for."""
    info = dataset.info
    uses = {key: f"camera {camera}" for camera, key in info.cameras.items()}
    uses |= dict.fromkeys(info.action, "action") | dict.fromkeys(info.state, "state")
    table = Table("column", "type", "used as", box=None)
    for key, feature in info.features.items():
        if key not in DEFAULT_FEATURES:
            free = "nothing: not a colour camera" if feature.is_picture else "nothing"
            if key in info.columns:
                free = "nothing; train --state or --action can choose it"
            table.add_row(key, f"{feature.dtype} {list(feature.shape)}", uses.get(key, free))
    return table


def _camera(dataset: LeRobotDataset, camera: str) -> str:
    feature = dataset.info.features[dataset.info.cameras[camera]]
    h, w = feature.image_size
    return f"{camera}: {w} x {h} px, {(feature.video or {}).get('video.codec', feature.dtype)}"


def _presets(dataset: LeRobotDataset) -> Table:
    """Which presets fit the cameras, and what each does with their frames; presets that do the same share a row."""
    table = Table(box=None)
    table.add_column("preset", max_width=32)
    table.add_column("what it does with the frames (otherwise: train --fit letterbox, crop or stretch)")
    groups: dict[str, list[str]] = {}
    data = DataSpec(max(1, dataset.state_dim), dataset.action_dim or 0, dataset.fps, dataset.cameras)
    for name in PRESETS if dataset.cameras else ():
        groups.setdefault(_effect(make_preset(name, data), dataset), []).append(name)
    for effect, names in groups.items():
        table.add_row(", ".join(names), effect)
    return table


def _effect(policy: PolicyConfig, dataset: LeRobotDataset) -> str:
    """What a policy does with the frames of a dataset, or why it cannot use them."""
    problems, effects = [], dict[str, list[str]]()
    for use in frame_uses(policy):
        recorded = dataset.image_size(use.camera)
        problem = fit_problem(recorded, use.size, rule=use.rule)
        if problem:
            problems.append(f"{use.camera}: does not fit {use.reader}: {problem}")
        effect = f"{use.camera}: {describe_fit(recorded, use.size, rule=use.rule)}"
        effects.setdefault(effect, []).append(use.stream or "System 1")
    lines = problems or [f"{effect} ({', '.join(readers)})" for effect, readers in effects.items()]
    return "\n".join(lines) or "sees nothing"


def _tasks(dataset: LeRobotDataset) -> Table:
    counts = Counter(task for i in range(len(dataset)) for task in dict.fromkeys(dataset.episode(i).instruction))
    table = Table("task", "episodes", box=None)
    for task, count in counts.most_common():
        table.add_row(task, str(count))
    return table


def _ranges(dataset: LeRobotDataset) -> list[Table]:
    names = {"state": dataset.info.state_names, "action": dataset.info.action_names}
    return [_range(feature, names[feature], statistics=statistics) for feature, statistics in dataset.stats.items()]


def _range(feature: str, names: tuple[str, ...], *, statistics: Statistics) -> Table:
    table = Table(feature, "min", "mean", "max", "std", box=None)
    rows = zip(names, statistics.min, statistics.mean, statistics.max, statistics.std, strict=True)
    for name, *numbers in rows:
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table
