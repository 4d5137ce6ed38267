"""What is measured at every training step: lines of json, and curves for TensorBoard."""

import json
import os
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from video2act.config.plain import parse_json
from video2act.files.atomic import disk_full_says, write_text
from video2act.training.resuming import METRICS_FILE

ACTION_LOSS = "action_loss"
"""a part of the loss where the video model's own is learned beside it; the validation loss is of the actions alone"""
BY_HEART = 2.0
"""a validation loss of so many times the training loss is worth a word"""


def read_metrics(folder: Path, num_steps: int) -> list[str]:
    """The lines of the first `num_steps` steps. Raises ValueError: one of them is missing or damaged."""
    path = folder / METRICS_FILE
    lines = path.read_bytes().splitlines()[:num_steps] if path.is_file() else []
    for step in range(num_steps):
        try:
            is_sound = parse_json(lines[step])["step"] == step
        except (ValueError, LookupError, TypeError):
            is_sound = False
        if not is_sound:
            what = f"line {step + 1} is not the record of step {step}, although the checkpoint is of step {num_steps}"
            raise ValueError(f"{path}: {what}; restore it, or remove {folder} to train from the beginning")
    return [line.decode() for line in lines]


class TrainingMetrics:
    """Appends to the records of a run folder.

    Args:
        first_step: records of later steps are dropped: these steps are taken again.
    Raises:
        ValueError: as `read_metrics`.
    """

    def __init__(self, folder: Path, first_step: int):
        kept = read_metrics(folder, first_step)
        write_text(folder / METRICS_FILE, "".join(line + "\n" for line in kept))
        self._file = (folder / METRICS_FILE).open("a")
        self._board = SummaryWriter(folder / "tensorboard", purge_step=first_step)
        self._smooth: dict[str, float] = {}
        self._validation_loss: float | None = None
        self._count = 0

    def write(self, step: int, losses: dict[str, float], *, others: dict[str, float]) -> None:
        """Record a step: its `loss`, the parts of that, if there are any, and what else was measured."""
        self._count += 1
        measured = losses | others
        for name, loss in losses.items():
            before = self._smooth.get(name, 0.0)
            self._smooth[name] = before + (loss - before) / min(self._count, 50)
        self._validation_loss = measured.get("validation_loss", self._validation_loss)
        kept = "the newest checkpoint is kept: free some space and resume"
        with disk_full_says(f"{self._file.name} does not fit; {kept}"):
            self._file.write(json.dumps({"step": step, **measured}) + "\n")
            self._file.flush()
        for name, value in measured.items():
            self._board.add_scalar(name, value, step)

    def flush_to_disk(self) -> None:
        """Before a checkpoint appears: a power cut must not leave it with fewer records than steps."""
        os.fsync(self._file.fileno())

    def __str__(self) -> str:
        found = self._validation_loss
        validation = "" if found is None else f", validation {_words(self._measured)} {found:.4f}"
        total, *parts = (f"{_words(name)} {loss:.4f}" for name, loss in self._smooth.items())
        return total + (f" ({', '.join(parts)})" if parts else "") + validation

    @property
    def _measured(self) -> str:
        """The training loss that a validation loss is compared with, which is that of the actions."""
        return ACTION_LOSS if ACTION_LOSS in self._smooth else "loss"

    def overfit_note(self) -> str | None:
        """What to say where the loss of held-out episodes is far above that of training."""
        training, validation = self._smooth.get(self._measured, 0.0), self._validation_loss
        if validation is None or not validation >= BY_HEART * training:  # not a number, where the loss diverged
            return None
        what, times = _words(self._measured), validation / max(training, 1e-9)
        found = f"the {what} on held-out episodes, {validation:.4f}, is {times:.1f} times"
        remedies = "more demonstrations help most, then --weight-decay, and varied images and clips"
        return f"{found} that of training, so the policy learns its episodes by heart: {remedies} (docs/training.md)"

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _words(name: str) -> str:
    return name.replace("_", " ")
