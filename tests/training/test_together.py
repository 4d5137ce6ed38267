"""The processes of one training: how long they wait for each other."""

from datetime import timedelta
from pathlib import Path

from launched import launch_two

PROGRAM = """
import torch
from torch.distributed.distributed_c10d import _get_default_group

from video2act.training.together import open_accelerator

accelerator = open_accelerator()
print(accelerator.num_processes, _get_default_group()._get_backend(torch.device("cpu")).options._timeout)
"""


def test_processes_wait_for_one_that_works_for_hours(tmp_path: Path):
    """torch ended a training where one process saw its episodes 10 minutes longer than the others (30 on CPUs)."""
    (tmp_path / "launched.py").write_text(PROGRAM)
    for said in launch_two(tmp_path / "launched.py"):
        assert said.strip() == f"2 {timedelta(days=1)}"
