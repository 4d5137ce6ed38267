"""What the records of a training say of it."""

from pathlib import Path

import pytest

from video2act.training.metrics import TrainingMetrics


@pytest.mark.parametrize(("held_out", "is_said"), [(0.3, True), (0.15, False), (None, False)])
def test_learning_by_heart_is_said(tmp_path: Path, held_out: float | None, is_said: bool):
    metrics = TrainingMetrics(tmp_path, 0)
    for step in range(60):
        metrics.write(step, {"loss": 0.1}, others={} if held_out is None else {"validation_loss": held_out})
    note = metrics.overfit_note()
    assert bool(note) == is_said
    if note:
        assert "0.3000, is 3.0 times that of training" in note
        assert "--weight-decay" in note
    metrics.close()


def test_a_loss_that_is_not_a_number_is_not_learning_by_heart(tmp_path: Path):
    metrics = TrainingMetrics(tmp_path, 0)
    metrics.write(0, {"loss": 0.1}, others={"validation_loss": float("nan")})
    assert metrics.overfit_note() is None
    metrics.close()


@pytest.mark.parametrize(("held_out", "is_said"), [(0.3, True), (0.15, False)])
def test_actions_are_compared_with_actions_where_the_video_loss_is_learned_beside_them(
    tmp_path: Path, held_out: float, is_said: bool
):
    """The validation loss is of the actions. Beside the sum with the video loss, no learning by heart was seen."""
    metrics = TrainingMetrics(tmp_path, 0)
    losses = {"loss": 1.1, "action_loss": 0.1, "video_loss": 10.0}
    metrics.write(0, losses, others={"validation_loss": held_out})
    assert str(metrics).endswith(f"(action loss 0.1000, video loss 10.0000), validation action loss {held_out:.4f}")
    note = metrics.overfit_note()
    assert bool(note) == is_said
    assert not note or "the action loss on held-out episodes, 0.3000, is 3.0 times that of training" in note
    metrics.close()
