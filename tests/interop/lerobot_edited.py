"""Datasets edited by the real `lerobot-edit-dataset` open in our reader: run by `make test-interop`.

    python tests/interop/lerobot_edited.py FOLDER

Deletes episodes, splits, merges, removes features and renames tasks, of two datasets that we wrote and of one that
LeRobot recorded. Each result must have no fault, and hold the numbers and the pictures of the episodes that are left.
Prints a line per edit and ends with an error at the first difference.
"""

import inspect
import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
from lerobot.scripts.lerobot_edit_dataset import main as edit_main
from lerobot_exchange import CAMERAS, TASKS, frames_of, numbers_of, write_ours, write_theirs

from video2act.data import LeRobotDataset
from video2act.data.check import check_dataset

LEAST_PSNR = 24
"""of a picture that was encoded twice, in dB"""


def edit(operation: str, *words: str) -> None:
    """The tool's own `main`, in this process: importing LeRobot anew for each edit takes much longer."""
    words = (f"--operation.type={operation}", *words)
    print("$ lerobot-edit-dataset", *words)
    with patch.object(sys, "argv", ["lerobot-edit-dataset", *words]):
        edit_main()


def check(root: Path, kept: list[int], *, tasks: tuple[str, ...] = TASKS, cameras: tuple[str, ...] = CAMERAS) -> str:
    """That the dataset holds these episodes of the original; what was compared."""
    faults = check_dataset(root)
    assert not faults, faults
    dataset = LeRobotDataset(root)
    assert len(dataset) == len(kept), (len(dataset), kept)
    assert dataset.cameras == cameras, dataset.cameras
    worst = float("inf")
    for i, original in enumerate(kept):
        episode, numbers = dataset.episode(i), numbers_of(original)
        assert np.array_equal(episode.state, numbers["observation.state"]), f"episode {i}: another state"
        assert episode.action is not None
        assert np.array_equal(episode.action, numbers["action"]), f"episode {i}: another action"
        assert set(episode.instruction) == {tasks[original]}, episode.instruction
        for camera in cameras:
            error = ((dataset.frames(i, camera).astype(float) - frames_of(original, camera)) ** 2).mean(axis=(1, 2, 3))
            worst = min(worst, float(10 * np.log10(255**2 / max(error.max(), 1e-9))))
    assert worst > LEAST_PSNR, f"a picture differs by {worst:.1f} dB"
    return f"{len(kept)} episodes, {sum(dataset.lengths)} rows, worst picture {worst:.1f} dB"


def edits(source: Path, folder: Path) -> None:
    """Every edit of one dataset."""
    shutil.rmtree(folder, ignore_errors=True)
    original = ["--repo_id=local/original", f"--root={source}"]

    def new(name: str) -> list[str]:
        return [f"--new_repo_id=local/{name}", f"--new_root={folder / name}"]

    edit("delete_episodes", *original, *new("deleted"), "--operation.episode_indices=[1]")
    print(f"{source.name}: deleted the middle episode: {check(folder / 'deleted', [0, 2])}")
    edit("split", *original, f"--new_root={folder / 'split'}", '--operation.splits={"a": [0, 2], "b": [1]}')
    parts = sorted(path.parent.parent for path in (folder / "split").glob("*/meta/info.json"))
    assert len(parts) == 2, parts
    for part, kept in zip(parts, ([0, 2], [1]), strict=True):
        print(f"{source.name}: split, {part.name}: {check(part, kept)}")
    roots = json.dumps([str(part) for part in parts])
    edit("merge", *new("merged"), '--operation.repo_ids=["local/a", "local/b"]', f"--operation.roots={roots}")
    print(f"{source.name}: merged again: {check(folder / 'merged', [0, 2, 1])}")
    edit("remove_feature", *original, *new("without_reward"), '--operation.feature_names=["next.reward"]')
    assert "next.reward" not in LeRobotDataset(folder / "without_reward").info.features
    print(f"{source.name}: removed a column: {check(folder / 'without_reward', [0, 1, 2])}")
    gone = f"observation.images.{CAMERAS[1]}"
    edit("remove_feature", *original, *new("one_camera"), f'--operation.feature_names=["{gone}"]')
    print(f"{source.name}: removed a camera: {check(folder / 'one_camera', [0, 1, 2], cameras=CAMERAS[:1])}")
    # in place
    edit("modify_tasks", "--repo_id=local/d", f"--root={folder / 'deleted'}", "--operation.new_task=tidy up")
    print(f"{source.name}: another task: {check(folder / 'deleted', [0, 2], tasks=('tidy up',) * 3)}")


def main(folder: Path) -> None:
    if "new_root" not in Path(inspect.getfile(edit_main)).read_text():
        print("this lerobot-edit-dataset cannot write to a folder of our choice (--new_root, since 0.5): skipped")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_ours(folder / "ours", "video")
    write_ours(folder / "ours_images", "image")
    write_theirs(folder / "theirs", True, "h264", in_two=True)
    for name in ("ours", "ours_images", "theirs"):
        edits(folder / name, folder / f"{name}_edited")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
