"""Checkpoints of a training. They hold safetensors and json only: reading one never runs code.

    000500/checkpoint.json        step, number of processes, and the checksum of every file
    000500/rank_0.safetensors     weights, their moving average and the optimizer's state; under FSDP a file per process

A checkpoint appears whole or not at all, on the disk, before an older one goes. The two newest are kept: if the newest
is damaged, the training goes on from the one before it.
"""

import json
import shutil
from pathlib import Path
from zlib import crc32

import torch
from accelerate import Accelerator
from torch import Tensor

from video2act.config.plain import read_json
from video2act.files.atomic import disk_full_says, flush, publish, write_text
from video2act.files.weights import read_tensors, write_tensors

FACTS_FILE = "checkpoint.json"
PIECE_BYTES = 2**24


def checkpoints_in(folder: Path) -> list[Path]:
    """The newest first; without one that was not written to the end."""
    found = [path for path in folder.glob("*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


class Checkpoints:
    """The checkpoints below one folder.

    Args:
        is_divided: each process holds a part of every tensor, and writes it; else the main process writes all.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, *, is_divided: bool):
        self.folder = folder
        self._accelerator = accelerator
        self._is_divided = is_divided
        self._last: int | None = None
        """step of the newest checkpoint that is sound"""

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint, then remove all but it and the one before it. Raises OSError: the disk is full; the
        checkpoints before it are kept."""
        final = self.folder / f"{step:06d}"
        temporary = final.with_name(f"{final.name}.tmp")
        before = "there is none before it" if self._last is None else f"that of step {self._last} is kept"
        advice = "free some space and resume"
        with disk_full_says(f"the checkpoint of step {step} does not fit into {self.folder}; {before}: {advice}"):
            try:
                self._write(temporary, step, tensors=tensors)
                if self._accelerator.is_main_process:
                    _remove(final)  # a damaged one of the same step
                    publish(temporary, final)
                    flush(self.folder.parent)
            except BaseException:
                if self._accelerator.is_main_process:
                    _remove(temporary)
                raise
        if self._accelerator.is_main_process:
            kept = (final, self.folder / f"{self._last or 0:06d}")
            for other in self.folder.iterdir():
                if other not in kept and _is_ours(other):
                    _remove(other)
        self._last = step
        self._accelerator.wait_for_everyone()

    def _write(self, folder: Path, step: int, *, tensors: dict[str, Tensor]) -> None:
        if self._accelerator.is_main_process:
            _remove(folder)  # of a killed process
            folder.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        checksum, path = 0, self._file(folder)
        if self._is_divided or self._accelerator.is_main_process:
            write_tensors(path, tensors)
            flush(path)
            checksum = _checksum(path)
        own = torch.tensor([checksum], device=self._accelerator.device)
        checksums: list[int] = self._accelerator.gather(own).tolist()  # type: ignore[union-attr]
        if self._accelerator.is_main_process:
            written = checksums if self._is_divided else checksums[:1]
            files = {f"rank_{rank}.safetensors": checksum for rank, checksum in enumerate(written)}
            facts = {"step": step, "num_processes": self._accelerator.num_processes, "files": files}
            write_text(folder / FACTS_FILE, json.dumps(facts) + "\n")

    def load(self, num_steps: int) -> tuple[int, dict[str, Tensor]]:
        """Step and tensors of the newest checkpoint that is sound; step 0 and nothing, if there is none at all.

        Args:
            num_steps: of the whole training.
        Raises:
            ValueError: a checkpoint lies beyond the end, or is of another number of processes; or all are damaged.
        """
        faults: list[str] = []
        for path in checkpoints_in(self.folder):
            step, fault = self._look(path, num_steps)
            # all processes go on from the same one
            sound = torch.tensor([not fault], device=self._accelerator.device)
            if bool(self._accelerator.gather(sound).all()):  # type: ignore[union-attr]
                for line in faults if self._accelerator.is_main_process else ():
                    print(f"{line}; going on from {path}", flush=True)
                self._last = step
                return step, read_tensors(self._file(path))
            faults.append(f"{path} is damaged ({fault or 'the part of another process'})")
        if faults:
            raise ValueError(f"{'; '.join(faults)}. Restore one, or remove {self.folder} to start from the first step")
        return 0, {}

    def _look(self, path: Path, num_steps: int) -> tuple[int, str]:
        """The step of a checkpoint, and what is damaged in it, if anything."""
        try:
            facts = read_json(path / FACTS_FILE)
            step, num_processes = facts["step"], facts["num_processes"]
            checksum = facts["files"][self._file(path).name]
        except (OSError, ValueError, LookupError, TypeError) as error:
            return 0, f"{FACTS_FILE}: {type(error).__name__}: {error}"
        if type(step) is not int:  # 3.0 and true would pass for numbers
            return 0, f"{FACTS_FILE} names step {step!r}"
        if step > num_steps:
            problem = f"{path / FACTS_FILE} is of step {step}, but the training ends at num_steps={num_steps}"
            raise ValueError(f"{problem}; remove {path}")
        if step != int(path.name):
            return 0, f"{FACTS_FILE} names step {step}"
        if num_processes != self._accelerator.num_processes:
            now = self._accelerator.num_processes
            problem = f"{path} was written by {num_processes} processes, this run has {now}"
            raise ValueError(f"{problem}; resume with the same number")
        try:
            is_same = _checksum(self._file(path)) == checksum
        except OSError as error:
            return 0, str(error)
        return step, "" if is_same else f"{self._file(path).name} is not what was written"

    def _file(self, folder: Path) -> Path:
        rank = self._accelerator.process_index if self._is_divided else 0
        return folder / f"rank_{rank}.safetensors"


def _is_ours(path: Path) -> bool:
    """Whether a checkpoint, whole or not, lies there and nothing else: `checkpoints` may be a link to a folder in which
    the photographs of a year have a number for a name, too."""
    if path.is_symlink() or not path.is_dir() or not path.name.removesuffix(".tmp").isdecimal():
        return False
    names = [entry.name for entry in path.iterdir()]
    return all(name == FACTS_FILE or name.startswith(("rank_", ".")) for name in names)


def _remove(path: Path) -> None:
    """Remove a folder, a file or a link itself, if there is one."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            value = crc32(piece, value)
    return value
