"""Demonstrations on disk and on their way to training."""

from video2act.data.frame_store import FrameStore
from video2act.data.lerobot_format import DatasetError
from video2act.data.lerobot_reader import Dataset, EpisodeData, LeRobotDataset
from video2act.data.lerobot_writer import DatasetWriter, EncodedEpisode, encode_episode, load_origin
from video2act.data.merged import MergedDataset
from video2act.data.opening import open_datasets
from video2act.data.recording_format import Episode

__all__ = [
    "Dataset",
    "DatasetError",
    "DatasetWriter",
    "EncodedEpisode",
    "Episode",
    "EpisodeData",
    "FrameStore",
    "LeRobotDataset",
    "MergedDataset",
    "encode_episode",
    "load_origin",
    "open_datasets",
]
