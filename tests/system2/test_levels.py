"""Noise levels and weights of video training, by hand."""

import pytest
import torch

from video2act.system2.backbones import TinyBackbone
from video2act.system2.objectives import (
    circle_error,
    each_of,
    flow_error,
    latents_error,
    logit_normal,
    shifted_uniform,
)
from video2act.system2.video_training import given_frames
from video2act.video_backbone import Objective

HALF = torch.tensor([0.25, 0.5])


def test_levels():
    assert shifted_uniform(1.0)(HALF, 4).tolist() == [0.25, 0.5]
    assert shifted_uniform(3.0)(HALF, 4).tolist() == [0.5, 0.75]
    odds = 3.0
    assert logit_normal(odds)(HALF, 4)[1].item() == pytest.approx(0.75)
    # sqrt(4) = 2 times the odds
    assert logit_normal(odds, grows_with_frames=True)(HALF, 4)[1].item() == pytest.approx(6 / 7)
    table = torch.tensor([0.1, 0.2, 0.3, 0.4])
    found = each_of(table)(torch.tensor([0.0, 0.249, 0.25, 0.999, 1.0]), 4)
    assert torch.equal(found, table[[0, 0, 1, 3, 3]])


def test_weights():
    level = torch.tensor([[0.0, 0.2, 1.0]])
    assert flow_error(level).tolist() == [[1.0, 1.0, 1.0]]
    assert latents_error(level)[0].tolist() == pytest.approx([0.0, 0.04, 1.0])
    assert circle_error(level)[0].tolist() == pytest.approx([1.0, 0.68, 1.0])


@pytest.mark.parametrize(
    ("fewest", "most", "num_frames", "expected"),
    [(1, None, 5, (1, 4)), (0, 1, 5, (0, 1)), (1, 2, 2, (1, 1)), (0, 3, 2, (0, 1)), (0, 0, 5, (0, 0))],
)
def test_how_many_frames_may_be_clean(fewest: int, most: int | None, num_frames: int, expected: tuple[int, int]):
    objective = Objective(shifted_uniform(1.0), flow_error, min_given=fewest, max_given=most)
    assert given_frames(objective, num_frames) == expected


def test_the_tiny_models_objective():
    objective = TinyBackbone.objective
    assert objective.levels(HALF, 3).tolist() == [0.5, 0.75]
    assert objective.weight(torch.tensor([[0.5]])).item() == 0.25
    assert (objective.min_given, objective.max_given, objective.is_near_first) == (1, None, True)
