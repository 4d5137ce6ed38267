"""Every picture of a dataset: decoded, counted, and compared with the statistics that were taken when it was
recorded."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from video2act.data.dataset_files import DatasetError
from video2act.data.faults import Recorded
from video2act.data.lerobot_format import DatasetInfo
from video2act.data.lerobot_tables import EpisodeEntry, read_rows, read_table
from video2act.data.picture_groups import every_picture_cell
from video2act.data.pictures import PIECE_BYTES, decode_cell
from video2act.data.video_file import VideoReader

OTHER_PICTURES = 0.1
"""share of a colour's range by which the mean of other pictures differs; compression shifts it by 0.01"""

Means = dict[tuple[int, str], np.ndarray]
"""(episode, feature) -> mean of each colour, from 0 to 1, as recorded"""


def picture_jobs(recorded: Recorded) -> Iterator[tuple[Path, Callable[[], Iterator[str]]]]:
    """For each file what finds the faults of one camera's pictures in it; the order does not matter."""
    root, info, means = recorded.root, recorded.info, _recorded_means(recorded)
    for camera, key in info.cameras.items():
        is_video = camera in info.videos
        files: dict[Path, list[EpisodeEntry]] = {}
        for entry in recorded.entries:
            files.setdefault(entry.videos[camera].file if is_video else entry.data_file, []).append(entry)
        for file, episodes in files.items():
            if is_video:
                yield root / file, _VideoCheck(root / file, info, camera, episodes, means).faults
            else:
                numbers = {entry.index for entry in episodes}
                yield root / file, partial(_image_faults, root / file, info, key=key, episodes=numbers)


def _recorded_means(recorded: Recorded) -> Means:
    """Empty where a writer kept no statistics of single episodes."""
    means: Means = {}
    names = {key: f"stats/{key}/mean" for key in recorded.info.cameras.values()}
    for _, row in read_rows(recorded.root, names.values()):
        for key, name in names.items():
            try:
                mean = np.asarray(row.get(name), dtype=np.float64).ravel()
            except (TypeError, ValueError):
                continue
            if mean.shape == (3,) and ((mean >= 0) & (mean <= 1)).all():
                means[row["episode_index"], key] = mean
    return means


@dataclass(frozen=True)
class _VideoCheck:
    path: Path
    info: DatasetInfo
    camera: str
    episodes: list[EpisodeEntry]
    means: Means

    def faults(self) -> Iterator[str]:
        path, info = self.path, self.info
        video = VideoReader(path, is_strict=True)
        try:
            video.check_rate(info.fps)
            video.check_size(info.features[info.videos[self.camera]].image_size)
            found, needed = video.num_frames, self.episodes[0].videos[self.camera].frames_in_file
            if found != needed:
                what = "another file, or frames of no episode" if found > needed else "it is cut short; copy it again"
                yield f"{path} holds {found} frames, its episodes {needed}: {what}"
            yield from self._begin_faults(found)
            if not video.is_even:
                yield f"{path}: its frames do not follow each other evenly; encode it again at {info.fps} fps"
            colours = [_mean(video.frames(part)) for part in _parts(found, size=video.size)]
            if found == needed:
                yield from self._mean_faults(np.concatenate(colours))
        finally:
            video.close()

    def _begin_faults(self, num_frames: int) -> Iterator[str]:
        """Each episode begins where the one before ends, or up to a frame later: times drift, step by step."""
        camera, frame_s = self.camera, 1 / self.info.fps
        is_full = num_frames == self.episodes[0].videos[camera].frames_in_file
        end, before = 0.0, None
        for entry in sorted(self.episodes, key=lambda entry: entry.videos[camera].start_s):
            start = entry.videos[camera].start_s
            begins = f"{self.path}: episode {entry.index} begins at {start:g} s"
            if start < end - 0.5 * frame_s:
                what = "the file" if before is None else f"the end of episode {before}; their frames overlap"
                yield f"{begins}, before {what}"
            elif is_full and start > end + (0.5 if before is None else 1.05) * frame_s:
                yield f"{begins}, but there is nothing between it and {end:g} s; correct its from_timestamp"
            end, before = start + entry.length * frame_s, entry.index
        if not is_full and end > (num_frames + 0.5) * frame_s:
            what = f"episode {before} ends at {end:g} s, after the file's last frame"
            yield f"{self.path}: {what}; correct its from_timestamp"

    def _mean_faults(self, colours: np.ndarray) -> Iterator[str]:
        """Whether the pictures are those that were recorded: two cameras seldom share a mean colour."""
        key = self.info.videos[self.camera]
        for entry in self.episodes:
            first = entry.videos[self.camera].frames_before
            found = colours[first : first + entry.length].mean(axis=0)
            means = {k: self.means[entry.index, k] for k in self.info.videos.values() if (entry.index, k) in self.means}
            if key not in means:
                continue
            off = {other: np.abs(found - mean).max() for other, mean in means.items()}
            nearest = min(off, key=lambda other: off[other])
            where = f"{self.path}, episode {entry.index}: a mean colour of {_short(found)}"
            where += f", recorded was {_short(means[key])}"
            if off[key] > 0.03 and off[nearest] < 0.3 * off[key]:
                yield f"{where}; these are the pictures of {nearest}: the files were exchanged"
            elif off[key] > OTHER_PICTURES:
                yield f"{where}; these are other pictures, or their statistics are of other data"


def _short(colour: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in colour) + "]"


def _mean(frames: np.ndarray) -> np.ndarray:
    """The mean colour of each frame, from 0 to 1; every fourth pixel is enough."""
    return frames[:, ::4, ::4].mean(axis=(1, 2)) / 255


def _image_faults(path: Path, info: DatasetInfo, *, key: str, episodes: Collection[int]) -> Iterator[str]:
    """The first image of each episode that cannot be decoded."""
    size, faulty = info.features[key].image_size, set()
    numbers = read_table(path, ["episode_index"])["episode_index"].to_pylist()
    for row, (episode, cell) in enumerate(zip(numbers, every_picture_cell(path, key), strict=True)):
        if episode not in episodes or episode in faulty:
            continue
        try:
            decode_cell(path, key, row=row, cell=cell, size=size)
        except DatasetError as error:
            faulty.add(episode)
            yield str(error)


def _parts(length: int, *, size: tuple[int, int]) -> list[range]:
    """The pictures that are decoded at a time."""
    most = max(1, PIECE_BYTES // (3 * size[0] * size[1]))
    return [range(first, min(first + most, length)) for first in range(0, length, most)]
