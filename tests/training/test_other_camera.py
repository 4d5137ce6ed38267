"""A video model that learned from another camera than the policy shows it."""

import json
from pathlib import Path

from video2act.config import PolicyConfig
from video2act.data import LeRobotDataset
from video2act.files.run_folder import TRAINING_FILE
from video2act.training.choice import frame_notes


def test_training_says_that_the_video_model_learned_from_another_camera(
    recorded: Path, small_config: PolicyConfig, tmp_path: Path
):
    """`train --cameras wrist` over a video model of `front` printed nothing."""
    dataset = LeRobotDataset(recorded)
    for camera, streams in (("front", []), ("wrist", ["spatial", "motion"])):
        (tmp_path / TRAINING_FILE).write_text(json.dumps({"camera": camera}))
        notes = frame_notes(small_config, dataset, tmp_path)
        assert [note.split("'")[1] for note in notes] == streams
        assert all("looks through 'front', but the video model learned from 'wrist'" in note for note in notes)
