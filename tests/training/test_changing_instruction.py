"""An instruction that changes within an episode: the cache holds what System 2 sees under each frame's sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from video2act.config import PolicyConfig
from video2act.data import EpisodeData, FrameStore, LeRobotDataset
from video2act.data.batches import episode_clips
from video2act.policy import Video2Act
from video2act.training.features import cache_spec, look

SENTENCES = ["push the square"] * 5 + ["pull"] * 7


class Changing(LeRobotDataset):
    """Another task from the sixth frame on."""

    def episode(self, i: int) -> EpisodeData:
        return replace(super().episode(i), instruction=type(super().episode(i).instruction)(SENTENCES))


def test_each_frame_is_seen_under_its_own_sentence(
    recorded: Path, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
):
    policy, dataset = make_policy(small_config), Changing(recorded)
    assert policy.system2 is not None
    for parameter in policy.system2.backbone.parameters():  # layers that begin at zero would ignore the text
        torch.nn.init.normal_(parameter, std=0.2)
    store = FrameStore(dataset)
    spec = cache_spec(policy, dataset, dtype="float32")
    seen = look(policy, dataset, store=store, episode=0, spec=spec, device=torch.device("cpu"))
    for frame in (0, 4, 5, 11):
        clips = {
            stream.name: episode_clips(store, stream, places=[(0, frame)], control_fps=20.0)
            for stream in policy.system2.config.streams
        }
        own = policy.system2.see(clips, [SENTENCES[frame]])
        other = policy.system2.see(clips, ["pull" if frame < 5 else "push the square"])
        for name, video in seen.items():
            assert torch.allclose(video.grid[frame], own[name].grid[0], atol=1e-4)
            assert not torch.allclose(video.grid[frame], other[name].grid[0], atol=1e-3)
