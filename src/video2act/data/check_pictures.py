"""Every picture of a dataset: decoded, counted, and compared with the statistics that were taken when it was recorded."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from video2act.data.image_column import read_images
from video2act.data.lerobot_format import DatasetInfo
from video2act.data.lerobot_tables import EpisodeEntry, read_table
from video2act.data.video_file import VideoReader

STRIDE = 64
"""pictures that are decoded at a time"""

OTHER_PICTURES = 0.1
"""of a colour's whole range: by how much a recording's mean must be off to be of something else; compression shifts it by 0.01"""

Means = dict[tuple[int, str], np.ndarray]
"""(episode, feature) -> mean of each colour, from 0 to 1, as recorded"""


def picture_jobs(
    root: Path, info: DatasetInfo, *, entries: tuple[EpisodeEntry, ...]
) -> Iterator[tuple[Path, Callable[[], Iterator[str]]]]:
    """For each file, or episode of a file, what finds its faults; they need not run one after another."""
    means = _recorded_means(root, info)
    for camera, key in info.cameras.items():
        if camera not in info.videos:
            for entry in entries:
                yield root / entry.data_file, partial(_image_faults, root, info, entry, key)
            continue
        files: dict[Path, list[EpisodeEntry]] = {}
        for entry in entries:
            files.setdefault(entry.videos[camera].file, []).append(entry)
        for file, episodes in files.items():
            yield root / file, partial(_video_faults, root / file, info, camera, episodes, means)


def _recorded_means(root: Path, info: DatasetInfo) -> Means:
    """Empty where a writer kept none of single episodes."""
    means: Means = {}
    names = {key: f"stats/{key}/mean" for key in info.cameras.values()}
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        for row in read_table(path, ["episode_index", *names.values()]).to_pylist():
            for key, name in names.items():
                try:
                    mean = np.asarray(row.get(name), dtype=np.float64).ravel()
                except (TypeError, ValueError):
                    continue
                if mean.shape == (3,) and ((mean >= 0) & (mean <= 1)).all():
                    means[row["episode_index"], key] = mean
    return means


def _video_faults(
    path: Path, info: DatasetInfo, camera: str, episodes: list[EpisodeEntry], means: Means
) -> Iterator[str]:
    key = info.videos[camera]
    video = VideoReader(path, is_strict=True)
    try:
        video.check_rate(info.fps)
        expected = info.features[key].image_size
        if video.size != expected:
            yield f"{path} has frames of {video.size[0]} x {video.size[1]}, meta/info.json says {expected[0]} x {expected[1]}"
        needed = episodes[0].videos[camera].frames_in_file
        if video.num_frames < needed:
            yield f"{path} holds {video.num_frames} frames, its episodes {needed}: it is cut short; copy it again"
        if video.num_frames > needed:
            yield f"{path} holds {video.num_frames} frames, its episodes {needed}: another file, or frames of no episode"
        yield from _begin_faults(path, info, camera=camera, episodes=episodes, num_frames=video.num_frames)
        if not video.is_even:
            yield f"{path}: its frames do not follow each other evenly; encode it again at {info.fps} fps"
        colours = [
            _mean(video.frames(i, min(STRIDE, video.num_frames - i))) for i in range(0, video.num_frames, STRIDE)
        ]
        if video.num_frames == needed:
            yield from _mean_faults(
                path, info, key=key, camera=camera, episodes=episodes, colours=np.concatenate(colours), means=means
            )
    finally:
        video.close()


def _begin_faults(
    path: Path, info: DatasetInfo, *, camera: str, episodes: list[EpisodeEntry], num_frames: int
) -> Iterator[str]:
    """Each begins where the one before ends, or up to a frame later: times drift, step by step."""
    frame_s, is_full = 1 / info.fps, num_frames == episodes[0].videos[camera].frames_in_file
    end, before = 0.0, None
    for entry in sorted(episodes, key=lambda entry: entry.videos[camera].start_s):
        start = entry.videos[camera].start_s
        told = f"{path}: episode {entry.index} begins at {start:g} s"
        if start < end - 0.5 * frame_s:
            what = "the file" if before is None else f"the end of episode {before}; their frames overlap"
            yield f"{told}, before {what}"
        elif is_full and start > end + (0.5 if before is None else 1.05) * frame_s:
            yield f"{told}, but there is nothing between it and {end:g} s; correct its from_timestamp"
        end, before = start + entry.length * frame_s, entry.index
    if not is_full and end > (num_frames + 0.5) * frame_s:
        yield f"{path}: episode {before} ends at {end:g} s, after the file's last frame; correct its from_timestamp"


def _mean_faults(
    path: Path,
    info: DatasetInfo,
    *,
    key: str,
    camera: str,
    episodes: list[EpisodeEntry],
    colours: np.ndarray,
    means: Means,
) -> Iterator[str]:
    """Whether the pictures are those that were recorded; told by their mean colour, which two cameras seldom share."""
    for entry in episodes:
        first = entry.videos[camera].frames_before
        own, found = means.get((entry.index, key)), colours[first : first + entry.length].mean(axis=0)
        if own is None:
            continue
        off = np.abs(found - own).max()
        others = {
            other: np.abs(found - means[entry.index, other]).max()
            for other in info.videos.values()
            if (entry.index, other) in means
        }
        nearest = min(others, key=lambda other: others[other])
        listed = f"a mean colour of {np.round(found, 3).tolist()}, recorded was {np.round(own, 3).tolist()}"
        if off > 0.03 and others[nearest] < 0.3 * off:
            yield f"{path}, episode {entry.index}: {listed}; these are the pictures of {nearest}: the files were exchanged"
        elif off > OTHER_PICTURES:
            yield f"{path}, episode {entry.index}: {listed}; these are other pictures, or their statistics are of other data"


def _mean(frames: np.ndarray) -> np.ndarray:
    """Of each colour of each frame, from 0 to 1; every fourth pixel is enough."""
    return frames[:, ::4, ::4].mean(axis=(1, 2)) / 255


def _image_faults(root: Path, info: DatasetInfo, entry: EpisodeEntry, key: str) -> Iterator[str]:
    path, expected = root / entry.data_file, info.features[key].image_size
    numbers = read_table(path, ["episode_index"])["episode_index"].to_numpy()
    begin = int(np.searchsorted(numbers, entry.index))
    for first in range(0, entry.length, STRIDE):
        images = read_images(path, key, first=begin + first, count=min(STRIDE, entry.length - first))
        if images.shape[1:3] != expected:
            yield f"{path}, episode {entry.index}: {key} is {images.shape[1:3]}, meta/info.json says {expected}"
            return
