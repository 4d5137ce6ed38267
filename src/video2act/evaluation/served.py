"""A served policy in an evaluation: `evaluate("ws://127.0.0.1:8000", "metaworld:push-v3")`.

Any program that speaks our server's protocol can be evaluated on the same scenes, in whatever environment it runs: the
baselines of `baselines/` are. The server gets every observation, so it may have a System 2, or a history, of its own.
Its noise is its own too: the seed of a scene fixes the scene only.
"""

from functools import cached_property

import torch

from video2act.config import FrameConfig, PolicyConfig, System1Config
from video2act.evaluation.report import SERVED
from video2act.evaluation.sources import EvaluatedPolicy
from video2act.files.run_folder import FrameSizes
from video2act.interfaces import NoPlanError
from video2act.serving.access import load_api_key
from video2act.serving.contract import Contract
from video2act.serving.remote_policy import RemotePolicy
from video2act.statistics import Statistics
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition

PLAN_TIMEOUT_S = 60.0
"""an evaluation does not run in real time"""


def config_of(contract: Contract) -> PolicyConfig:
    """What an evaluation reads of a policy's config. System 1's networks are elsewhere and have no config here."""
    return PolicyConfig(
        state_dim=contract.state_dim,
        action_dim=contract.action_dim,
        fps=1 / contract.period_s,
        cameras=contract.cameras,
        image_px=max(1, *contract.image_size),
        image=FrameConfig(max_enlargement=0.0),  # the server checks the images
        horizon=contract.horizon,
        execute_steps=contract.execute_steps,
        refresh_every=contract.refresh_every,
        system1=System1Config(),
        system2=None,
        preset=SERVED,
    )


class ServedSystem:
    """An `EvaluatedPolicy` whose plans are made by a server."""

    def __init__(self, remote: RemotePolicy):
        self.config = config_of(remote.contract)
        self.remote = remote

    def begin_episode(self) -> None:
        self.remote.reset()

    def observe(self, observation: Observation) -> None:
        self.remote.observe(observation)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """No tokens: the server perceives."""
        count = len(instruction)
        return Tokens(torch.zeros(count, 0, 1), torch.zeros(count, 0, dtype=torch.bool))

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        """Raises RemoteError, ConnectionError or HoldError as `RemotePolicy.infer`; TimeoutError where no plan comes: a
        score must not count steps that a dead server held."""
        try:
            return self.remote.infer(observation)
        except NoPlanError as error:
            raise TimeoutError(str(error)) from error

    def seed(self, seed: int) -> None:
        """The server's noise is its own."""

    def blinded(self) -> EvaluatedPolicy:
        raise ValueError("the blind control changes what the networks read; evaluate the policy's run folder")

    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        return {}

    def foresee(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        return {}


class ServedSource:
    """A `PolicySource` at an address. The API key is read from `VIDEO2ACT_API_KEY`.

    Raises:
        ConnectionError: no server answered. ValueError: it serves System 2 alone.
    """

    path = None

    def __init__(self, address: str):
        self.name = address

    @cached_property
    def _system(self) -> ServedSystem:
        remote = RemotePolicy(self.name, load_api_key(None), timeout_s=PLAN_TIMEOUT_S, waits=False)
        return ServedSystem(remote)

    def config(self) -> PolicyConfig:
        return self._system.config

    def action_statistics(self) -> Statistics:
        raise ValueError("a served policy does not say what its demonstrations were; give limits as a json file")

    def names(self) -> dict[str, tuple[str, ...]]:
        return {"action": self._system.remote.contract.action_names}

    def training_seeds(self, env: str) -> list[int]:
        """Unknown: choose a `seed` above them."""
        return []

    def instructions(self) -> tuple[str, ...]:
        return ()

    def frame_sizes(self) -> FrameSizes:
        return self._system.remote.contract.frame_sizes

    def load(self, device: str) -> EvaluatedPolicy:
        return self._system

    def close(self) -> None:
        if "_system" in vars(self):
            self._system.remote.close()
