"""`video2act probe`: which tap of a video model says most about the next actions, on your own data, in minutes.

Rows share their episodes, moments and seeds, so they compare in pairs. Done rows are kept, so an interrupted probe goes
on. The table says first whether the task can show a difference: where even the true future lowers the error no further
than the past does, nothing that looks ahead can be told from what does not.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from video2act.clips import clip_indices, to_pixels
from video2act.config import BackboneConfig, FilterConfig, ImagineConfig, StreamConfig, System2Config
from video2act.config.probe import ProbeOptions
from video2act.data import Dataset, FrameStore
from video2act.data.fit import check_columns
from video2act.data.opening import open_chosen
from video2act.evaluation.probing import Moments, Probe, held_out_error
from video2act.files.atomic import write_text
from video2act.files.lock import FolderLock
from video2act.normalize import Normalizer
from video2act.presets import DataSpec
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone, published
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.training.choice import choose_policy
from video2act.training.new_policy import open_video_model
from video2act.types import Video
from video2act.video_backbone import VideoBackbone
from video2act.viz.dots import Dots, draw_dots

BATCH = 16
"""clips that are seen together"""
FUTURE_FRAMES = 12
"""of the ceiling, where nothing is imagined"""
BLIND = "blind: state and instruction alone"


@dataclass(frozen=True)
class Arm:
    """A row of the table."""

    weights: str
    system2: System2Config
    """with the one stream"""
    ahead: int = 0
    """frames of the true future at the end of the clip"""

    @property
    def stream(self) -> StreamConfig:
        return self.system2.streams[0]

    @property
    def name(self) -> str:
        stream, layers = self.stream, "+".join(map(str, self.system2.backbone.feature_layers))
        tap = "" if self.weights == "latents" else f", block {layers}"
        past = f", {stream.num_frames - self.ahead} frames, stride {stream.stride}"
        imagine = stream.imagine
        future = f", {imagine.num_frames} imagined at level {imagine.level:g}, {imagine.keep} kept"
        true = f", {self.ahead} true future frames"
        kept = f", {stream.filter.name}" if stream.filter.name != "none" else ""
        return f"{self.weights}{tap}{past}{future * (imagine.num_frames > 0)}{true * (self.ahead > 0)}{kept}"


@dataclass(frozen=True)
class Row:
    """What an arm reached: held-out error of each seed, in units of the actions' variance."""

    name: str
    weights: str
    looks_ahead: bool
    errors: list[float]


def probe(options: ProbeOptions) -> Path:
    """Run every arm, and write the table anew after each.

    Returns:
        The path of `table.md`.
    Raises:
        ValueError: the policy has no such stream, too few episodes, or features that do not fit into memory.
    """
    dataset = open_chosen(options)
    check_columns(dataset)
    policy = choose_policy(options, DataSpec.of(dataset))
    arms = list(arms_of(options, policy.system2))
    needed = options.labelled + options.held_out
    if len(dataset) < needed:
        raise ValueError(
            f"{options.labelled} labelled and {options.held_out} held-out episodes make {needed}, the data have "
            f"{len(dataset)}; lower --labelled or --held-out, or record more"
        )
    out = options.out
    with FolderLock(out, "a probe"):
        done = _read(out, options, dataset)
        store = FrameStore(dataset)
        split = _splits(options, len(dataset))
        moments = _moments(options, dataset, horizon=policy.horizon, split=split)
        if BLIND not in done:
            done[BLIND] = _measure(options, moments, num_layers=1, former=arms[0].stream.former, split=split)
        _write(out, options, dataset, _rows(arms, done))
        for arm in arms:
            if arm.name not in done:
                system2 = _system2(arm, options)
                seen = replace(moments, features=_see(arm, system2, dataset, store=store, options=options, split=split))
                num_layers = len(system2.mixtures) and len(system2.config.backbone.feature_layers)
                given = {"num_layers": num_layers or 1, "former": arm.stream.former, "split": split}
                done[arm.name] = _measure(options, seen, **given)
            _write(out, options, dataset, _rows(arms, done))
    _print(_rows(arms, done))
    return out / "table.md"


def arms_of(options: ProbeOptions, system2: System2Config | None) -> Iterator[Arm]:
    """The grid. Raises ValueError: the policy has no such stream, or an arm is no valid config."""
    if system2 is None:
        raise ValueError("this policy has no System 2, so it has no tap to probe; choose another preset")
    streams = {stream.name: stream for stream in system2.streams}
    if options.stream not in streams:
        raise ValueError(f"this policy has no stream {options.stream!r}; --stream is one of {', '.join(streams)}")
    stream = streams[options.stream]
    # clips of single moments have no past that an encoder could have seen, and no rhythm
    stream = replace(stream, camera=options.camera or stream.camera, encoding="window", every=1)
    layers = [tuple(int(part) for part in text.split(",")) for text in options.layers]
    words = product(
        layers or [system2.backbone.feature_layers],
        options.num_frames or (stream.num_frames,),
        options.strides or (stream.stride,),
        options.filters or (stream.filter.name,),
    )
    listed = options.imagine or (stream.imagine.num_frames,)
    ahead = max(listed) or FUTURE_FRAMES
    seen: set[str] = set()
    for layer, num_frames, stride, name in words:
        kept = stream.filter if name == stream.filter.name else FilterConfig(name)
        base = replace(stream, num_frames=num_frames, stride=stride, filter=kept, imagine=ImagineConfig())
        futures = [ImagineConfig()] if 0 in listed else []
        futures += [
            ImagineConfig(frames, level, keep)
            for frames in listed
            if frames
            for level in options.levels or (stream.imagine.level,)
            for keep in options.keep or (stream.imagine.keep,)
        ]
        for weights in options.weights:
            taps = (0,) if weights == "latents" else layer
            chosen = replace(system2, backbone=replace(system2.backbone, feature_layers=taps))
            if weights == "future":
                longer = replace(base, num_frames=num_frames + ahead)
                grid = [Arm(weights, replace(chosen, streams=(longer,)), ahead)]
            else:
                looks = futures if weights != "latents" else [ImagineConfig()]
                grid = [Arm(weights, replace(chosen, streams=(replace(base, imagine=look),))) for look in looks]
            for arm in grid:
                if arm.name not in seen:
                    seen.add(arm.name)
                    yield arm


@dataclass(frozen=True)
class Split:
    """Episodes of each repetition."""

    labelled: list[list[int]]
    held_out: list[int]

    @property
    def all(self) -> list[int]:
        return sorted({episode for one in self.labelled for episode in one} | set(self.held_out))


def _splits(options: ProbeOptions, count: int) -> Split:
    """The last episodes are held out; each repetition draws its labelled ones from the others."""
    held_out = list(range(count - options.held_out, count))
    drawn = [
        np.random.default_rng(seed).permutation(count - options.held_out)[: options.labelled].tolist()
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    return Split(drawn, held_out)


def _places(dataset: Dataset, options: ProbeOptions, *, split: Split) -> list[tuple[int, int]]:
    return [(i, frame) for i in split.all for frame in range(0, dataset.lengths[i], options.every)]


def _moments(options: ProbeOptions, dataset: Dataset, *, horizon: int, split: Split) -> Moments:
    """All but the features."""
    places = _places(dataset, options, split=split)
    normalize = {word: Normalizer(dataset.stats[word], "mean_std") for word in ("state", "action")}
    sentences = {text: number for number, text in enumerate(dataset.tasks)}
    state, actions, numbers = [], [], []
    for i, frame in places:
        episode = dataset.episode(i)
        assert episode.actions is not None
        state.append(episode.state[frame])
        actions.append(episode.actions[np.minimum(frame + np.arange(horizon), episode.length - 1)])
        numbers.append(sentences[episode.instruction[frame]])
    return Moments(
        None,
        normalize["state"].normalize(torch.from_numpy(np.stack(state)).float()),
        torch.tensor(numbers),
        normalize["action"].normalize(torch.from_numpy(np.stack(actions)).float()),
        np.array([i for i, _ in places]),
    )


def _system2(arm: Arm, options: ProbeOptions) -> System2:
    config, backbone = open_video_model(arm.system2, options.video_model)
    if arm.weights == "random":
        randomise(backbone, seed=options.seed)
    return System2(config, backbone, token_dim=arm.system2.streams[0].former.num_heads * 8).eval()


def randomise(backbone: VideoBackbone, *, seed: int) -> None:
    """Give the blocks new random weights; the codec stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(backbone, TinyBackbone):
            assert isinstance(backbone.config, BackboneConfig)
            fresh = make_backbone(backbone.config).state_dict()
            codec = {f"codec.{name}": tensor for name, tensor in backbone.codec.state_dict().items()}
            backbone.load_state_dict(fresh | codec)
        else:
            published.randomise(backbone)


@torch.no_grad()
def _see(
    arm: Arm, system2: System2, dataset: Dataset, *, store: FrameStore, options: ProbeOptions, split: Split
) -> Video:
    """What the stream keeps of every moment, in half precision."""
    stream, places, grids, fps = arm.stream, _places(dataset, options, split=split), [], 0.0
    store.plan([(stream.camera, stream.frame_px, stream.frame)])
    for first in track(range(0, len(places), BATCH), f"{arm.name}: System 2 sees"):
        part = places[first : first + BATCH]
        wanted = []
        for i, frame in part:
            indices = clip_indices(frame + arm.ahead * stream.stride, stream.num_frames, stride=stream.stride)
            indices = [frame] * len(indices) if arm.weights == "still" else indices
            wanted.append((i, [min(index, dataset.lengths[i] - 1) for index in indices]))
        images = store.read(wanted, stream.camera, size=stream.frame_px, rule=stream.frame)
        pixels = Video(torch.cat([to_pixels(clip, 1.0).grid for clip in images]), dataset.fps / stream.stride)
        sentences = [str(dataset.episode(i).instruction[frame]) for i, frame in part]
        seen = system2.see({stream.name: pixels}, sentences)[stream.name]
        grids.append(seen.grid.half())
        fps = seen.fps
        size = grids[0][0].nbytes * len(places) / 2**30
        if size > options.gib:
            raise ValueError(
                f"features of {arm.name} take {size:.1f} GiB; raise --gib or --every, or use fewer episodes"
            )
    return Video(torch.cat(grids), fps)


def _measure(options: ProbeOptions, moments: Moments, *, num_layers: int, former: Any, split: Split) -> list[float]:
    def make() -> Probe:
        return Probe(
            None if moments.features is None else moments.features.grid.shape[1],
            num_layers=num_layers,
            state_dim=moments.state.shape[1],
            num_sentences=int(moments.sentence.max()) + 1,
            shape=(moments.actions.shape[1], moments.actions.shape[2]),
            former=former,
        )

    given: dict[str, Any] = {"held_out": split.held_out, "num_steps": options.num_steps}
    return [
        held_out_error(moments, make, labelled=labelled, seed=options.seed + number, **given)
        for number, labelled in enumerate(split.labelled)
    ]


# what is written


def _rows(arms: list[Arm], done: dict[str, list[float]]) -> list[Row]:
    rows = [Row(BLIND, "blind", False, done[BLIND])] if BLIND in done else []
    for arm in arms:
        if arm.name in done:
            rows.append(Row(arm.name, arm.weights, arm.stream.imagine.num_frames > 0, done[arm.name]))
    return rows


def verdict(rows: list[Row]) -> str:
    """Whether the task can tell: does the true future lower the error beyond what the best past gives?"""
    ceilings = [row for row in rows if row.weights == "future"]
    pasts = [row for row in rows if row.weights in ("trained", "latents") and not row.looks_ahead]
    if not ceilings or not pasts:
        return "no ceiling beside the past was measured (weights trained and future), so nothing is said of the task"
    ceiling, past = (min(group, key=lambda row: float(np.mean(row.errors))) for group in (ceilings, pasts))
    gain = np.array(past.errors) - np.array(ceiling.errors)
    spread = 2 * float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
    figures = f"{np.mean(past.errors):.3f} without, {np.mean(ceiling.errors):.3f} with the true future"
    share = f"a difference of {gain.mean():+.3f}, give or take {spread:.3f}"
    if gain.mean() > spread:
        return f"this task can tell: {figures}, {share} (two standard errors over {len(gain)} seeds)"
    return f"THIS TASK CANNOT TELL whether looking ahead helps: {figures}, {share}. Even the truth brings nothing"


def _identity(options: ProbeOptions, dataset: Dataset) -> dict[str, Any]:
    kept = ("labelled", "held_out", "seeds", "seed", "every", "num_steps", "preset", "stream", "changes")
    return {name: getattr(options, name) for name in kept} | {"data": dataset.fingerprint}


def _read(out: Path, options: ProbeOptions, dataset: Dataset) -> dict[str, list[float]]:
    path = out / "probe.json"
    if not path.is_file():
        return {}
    before, now = json.loads(path.read_text()), json.loads(json.dumps(_identity(options, dataset), default=str))
    changed = [f"{name}: {before['settings'].get(name)} then, {now[name]} now" for name in now]
    changed = [line for line, name in zip(changed, now, strict=True) if before["settings"].get(name) != now[name]]
    if changed:
        raise ValueError(f"{out} holds another probe ({'; '.join(changed)}); choose another folder, or remove it")
    return {row["name"]: row["errors"] for row in before["rows"]}


def _write(out: Path, options: ProbeOptions, dataset: Dataset, rows: list[Row]) -> None:
    if not rows:
        return
    settings = _identity(options, dataset)
    text = json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=2, default=str)
    write_text(out / "probe.json", text + "\n")
    seeds = len(rows[0].errors)
    lines = [
        f"{verdict(rows)}\n",
        "| row | error | " + " | ".join(f"seed {options.seed + i}" for i in range(seeds)) + " |",
    ]
    lines.append("|---|---|" + "---|" * seeds)
    for row in rows:
        each = " | ".join(f"{error:.3f}" for error in row.errors)
        lines.append(f"| {row.name} | {np.mean(row.errors):.3f} | {each} |")
    lines.append(
        f"\nMean square error of the next actions on {options.held_out} held-out episodes, {options.labelled} labelled "
        "ones, as a share of the actions' variance: 1 is predicting the mean."
    )
    write_text(out / "table.md", "\n".join(lines) + "\n")
    draw_dots(
        out / "probe.png", [Dots(row.name, row.errors) for row in rows], x_title="held-out error of the next actions"
    )


def _print(rows: list[Row]) -> None:
    table = Table("row", "error", "each seed", title=verdict(rows))
    for row in rows:
        table.add_row(row.name, f"{np.mean(row.errors):.3f}", " ".join(f"{error:.3f}" for error in row.errors))
    Console().print(table)
