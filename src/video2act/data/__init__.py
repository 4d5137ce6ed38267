"""Demonstrations on disk and on their way to training."""

from video2act.data.dataset_files import DatasetError
from video2act.data.frame_store import FrameStore
from video2act.data.lerobot_reader import Dataset, EpisodeData, LeRobotDataset
from video2act.data.lerobot_writer import DatasetWriter, EncodedEpisode, encode_episode
from video2act.data.opening import open_dataset, open_datasets
from video2act.data.origin import load_origin
from video2act.data.recording_format import Episode
from video2act.data.view import as_view, parse_episodes, split
