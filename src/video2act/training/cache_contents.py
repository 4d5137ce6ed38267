"""What `cache fill` is asked to fill a cache with, and what the result takes: needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from video2act.config import PolicyConfig
from video2act.config.training_options import FillCacheOptions
from video2act.data import Dataset
from video2act.data.cache_manifest import Dtype
from video2act.data.fit import check_columns, check_fit
from video2act.data.opening import open_chosen
from video2act.files.video_model import BACKBONE_FILE
from video2act.training.choice import check_look, check_video_model, choose_policy
from video2act.training.effects import OF_CLIPS, USUAL, no_cached_copies, refuse


@dataclass(frozen=True)
class Filled:
    """What a cache takes, and what it would take in another form."""

    folder: Path
    num_bytes: int
    num_frames: int
    num_clips: int
    """clips that were seen"""
    dtype: Dtype
    raw_bytes: int
    """of the frames, as recorded, of System 2's cameras: 3 bytes a pixel"""

    def __str__(self) -> str:
        per_frame = f"{self.num_bytes / self.num_frames / 2**10:.1f} KiB a frame"
        size = f"{self.num_bytes / 2**20:.1f} MiB in {self.dtype}, {per_frame}"
        raw = f"{self.num_bytes / self.raw_bytes:.3g} times the raw frames' {self.raw_bytes / 2**20:.1f} MiB"
        return f"{self.folder}: {size}, {raw}; {self.num_clips} moments of {self.num_frames} frames"


def contents(options: FillCacheOptions) -> tuple[PolicyConfig, Dataset]:
    """The policy whose System 2 looks, and the data. Raises as `open_chosen`, `choose_policy` and `check_fit`;
    ValueError: the policy has no System 2, or no video model; the cache needs a folder; copies without variation."""
    dataset = open_chosen(options)
    check_columns(dataset)
    config = choose_policy(options, dataset, options.cameras)
    if config.system2 is None:
        raise ValueError(f"the preset {config.preset!r} has no System 2, so there is nothing to cache")
    check_fit(config, dataset)
    video_model = options.video_model
    check_video_model(config, video_model)
    check_look(config, options.frames_gib)
    varied = [name for name in OF_CLIPS if getattr(options, name)]
    refuse({"clip_copies": no_cached_copies(varied)}, {"clip_copies": options.clip_copies != USUAL.clip_copies})
    has_place = video_model is not None and (video_model / BACKBONE_FILE).is_file()
    if options.out is None and (not has_place or (options.stage, options.dtype) != ("seen", "float16")):
        raise ValueError(
            "only stage seen in float16 beside a train-video folder has a place of its own; name a folder for this "
            "cache with --out, and give it to train with --cache"
        )
    return config, dataset
