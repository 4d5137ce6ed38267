"""`video2act serve`: a real policy behind the server gives a client what it gives in the same process."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act import Runner
from video2act.config import ConnectionLimits, PolicyConfig, RuntimeConfig, ServeOptions
from video2act.files.run_folder import INSTRUCTIONS_FILE, load_config
from video2act.interfaces import HoldError, System2Error
from video2act.policy import Video2Act
from video2act.programs import serve as program
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.places import System2Source
from video2act.runtime.refresh import TIMES_KEPT, turn
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.serving.client import RemoteError, RemotePolicy
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import PolicySession
from video2act.system2 import load_system2
from video2act.text.cache import TextEmbeddings
from video2act.text.encoder import longest_instruction
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition


def observation(step: int, seed: int = 0) -> Observation:
    rng = np.random.default_rng([seed, step])
    images = {camera: rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for camera in ("front", "wrist")}
    return Observation(images, rng.standard_normal(3).astype(np.float32), "push", step / 20)


@pytest.fixture
def policy(small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]) -> Video2Act:
    return make_policy(small_config)


def drive(policy: Any, seed: int, steps: int = 10) -> list[ActionChunk]:
    policy.reset()
    chunks = []
    for step in range(steps):
        now = observation(step, seed)
        policy.observe(now)
        if step % 2 == 0:
            chunks.append(policy.infer(now))
    return chunks


def test_plans_are_those_of_the_same_policy_in_this_process(policy: Video2Act, small_config: PolicyConfig):
    """With System 2 inline: to the bit, through two episodes."""
    assert small_config.system2 is not None
    loop = InlineSlowLoop(
        policy,
        RefreshSpec(
            small_config.system2.streams, refresh_every=small_config.refresh_every, control_fps=small_config.fps
        ),
    )
    here = DualPolicy(policy, loop, cameras=small_config.cameras)
    expected = []
    for seed in range(2):  # the noise of a served episode begins where the policy's seed says
        policy.seed(3)
        expected += drive(here, seed)
    with program.serving(policy, "inline") as server, closing(RemotePolicy(server.address)) as remote:
        found = [chunk for seed in range(2) for chunk in drive(remote, seed)]
    for there, local in zip(found, expected, strict=True):
        np.testing.assert_array_equal(there.actions, local.actions)
        assert (there.observed_at, there.period) == (local.observed_at, local.period)


def test_many_clients_share_one_policy_and_none_sees_anothers_frames(
    policy: Video2Act, monkeypatch: pytest.MonkeyPatch
):
    """Every plan is made on a condition of its own client's frames: what System 2 says here is how bright they are."""
    mixed: list[tuple[float, float]] = []

    def perceive(clips: dict[str, Video], instruction: list[str]) -> Tokens:
        return Tokens.all_visible(clips["motion"].grid.mean()[None, None, None])

    def act(observation: Observation, condition: VideoCondition) -> ActionChunk:
        own = float(observation.images["front"][0, 0, 0]) / 127.5 - 1
        seen = condition.tokens.data.item()
        if abs(own - seen) > 1e-3:
            mixed.append((own, seen))
        return ActionChunk(np.full((4, 2), own), observation.time, 1 / 20)

    monkeypatch.setattr(policy, "perceive", perceive)
    monkeypatch.setattr(policy, "act", act)

    def drive_one(number: int, address: str) -> int:
        frame = np.full((16, 16, 3), 10 * number, np.uint8)
        count = 0
        with closing(RemotePolicy(address, timeout_s=20.0)) as remote:
            for _ in range(2):
                remote.reset()
                for step in range(6):
                    now = Observation({"front": frame, "wrist": frame}, np.zeros(3, np.float32), "push", step / 20)
                    remote.observe(now)
                    count += remote.infer(now).actions[0, 0] == np.float32(10 * number / 127.5 - 1)
        return count

    with program.serving(policy, "thread") as server, ThreadPoolExecutor(12) as pool:
        counts = list(pool.map(drive_one, range(12), [server.address] * 12))
    assert counts == [12] * 12
    assert mixed == []


def test_system2_alone_serves_a_robot_that_runs_system1(policy: Video2Act, small_config: PolicyConfig, tmp_path: Path):
    assert small_config.system2 is not None
    policy.save(tmp_path)
    serving = program.serve_system2(load_system2(tmp_path), load_config(tmp_path), instructions=())
    with Server(serving.make_session, serving.contract.to_metadata(), port=0).running() as server:
        spec = RefreshSpec(small_config.system2.streams, refresh_every=4, control_fps=small_config.fps)
        loop = System2Source(spec, RuntimeConfig()).start(server.address, policy)
        with closing(DualPolicy(policy, loop, cameras=small_config.cameras)) as robot:
            for chunk in drive(robot, seed=1):
                assert np.isfinite(chunk.actions).all()
            assert robot.condition is not None
            assert robot.condition.tokens.data.shape == (1, 6, 32)
            assert robot.condition.version >= 1


@pytest.mark.parametrize("differs", ["fingerprint", "token_dim"])
def test_another_trainings_system2_is_refused(
    policy: Video2Act, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], differs: str
):
    """Its streams are the same, so its tokens were taken, which mean nothing to this policy's System 1."""
    config = small_config.replace({"system1.hidden": 64} if differs == "token_dim" else {})
    other = make_policy(config)
    with torch.no_grad():
        other.slow.stream_embedding.add_(1.0)
    serving = program.serve_system2(other.slow, config, instructions=())
    with (
        Server(serving.make_session, serving.contract.to_metadata(), port=0).running() as server,
        Runner(policy, system2=server.address) as runner,
    ):
        runner.reset()
        with pytest.raises(System2Error, match=rf"a System 2 of another training is served there: its {differs} is"):
            runner.step(observation(0))


def test_a_server_that_does_not_say_its_weights_is_used_and_named(
    policy: Video2Act, small_config: PolicyConfig, caplog: pytest.LogCaptureFixture
):
    """One of an earlier version."""
    serving = program.serve_system2(policy.slow, small_config, instructions=())
    told = serving.contract.to_metadata()
    del told["fingerprint"], told["token_dim"]
    with (
        Server(serving.make_session, told, port=0).running() as server,
        Runner(policy, system2=server.address) as runner,
    ):
        runner.reset()
        assert np.isfinite(runner.step(observation(0))).all()
    assert "does not say which weights it serves" in caplog.text


def test_one_lock_guards_system_2_whoever_asks(policy: Video2Act):
    """A client's refresh had a lock of its own, beside that of the shared worker."""
    client = program.ClientSystem(policy, threading.Lock(), timeout_s=0.05)
    with turn(policy), pytest.raises(HoldError, match=r"at another refresh for more than 0\.05 s"):
        client.perceive({}, ["push"])


def test_a_new_sentence_of_one_client_does_not_stop_the_plans_of_others(
    policy: Video2Act, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """It was read under the lock of all plans, and a frozen text encoder takes seconds. What a client says is not
    written to disk."""
    is_reading, gate = threading.Event(), threading.Event()

    class Encoder:
        fingerprint = "slow"

        def __call__(self, instruction: str) -> dict[str, torch.Tensor]:
            is_reading.set()
            assert gate.wait(30)
            return {"tokens": torch.zeros(1, 4)}

        def let_go(self) -> None: ...

    embeddings = TextEmbeddings(tmp_path, Encoder(), width=4, missing="")
    read = policy.check_instruction
    monkeypatch.setattr(policy, "check_instruction", lambda said: embeddings(said) if said == "new" else read(said))
    with (
        program.serving(policy, "inline") as server,
        closing(RemotePolicy(server.address, timeout_s=10.0)) as one,
        closing(RemotePolicy(server.address)) as other,
    ):
        for each in (one, other):
            each.reset()
        one.infer(observation(0))
        asking = threading.Thread(target=other.infer, args=(replace(observation(0), instruction="new"),))
        asking.start()
        assert is_reading.wait(10)
        one.infer(observation(1))
        gate.set()
        asking.join()
    assert not list(tmp_path.iterdir())


def test_a_stale_condition_holds_the_robot(policy: Video2Act, monkeypatch: pytest.MonkeyPatch):
    with (
        program.serving(policy, "thread", runtime=RuntimeConfig(max_staleness_s=0.2)) as server,
        closing(RemotePolicy(server.address)) as remote,
    ):
        remote.reset()
        remote.infer(observation(0))
        gate = threading.Event()
        perceive = policy.perceive
        monkeypatch.setattr(policy, "perceive", lambda *asked: perceive(*asked) if gate.wait(10) else None)
        with pytest.raises(HoldError, match=r"the video condition is 0.500 s old, and max_staleness_s is 0.2"):
            remote.infer(observation(10))
        gate.set()


def test_the_program_serves_a_run_folder_until_it_is_told_to_stop(
    policy: Video2Act, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    policy.save(tmp_path)
    (tmp_path / INSTRUCTIONS_FILE).write_text(json.dumps(["push", "pull"]))
    found: list[Any] = []

    def visit(server: Server) -> None:
        try:
            with closing(RemotePolicy(server.address)) as remote:
                found.extend([remote.contract, drive(remote, 0)])
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    program.serve(tmp_path, port=0, is_ready=lambda server: threading.Thread(target=visit, args=(server,)).start())
    contract, chunks = found
    assert contract == Contract.of(
        policy.config, "policy", instructions=("push", "pull"), max_prompt_bytes=longest_instruction(policy)
    )
    assert len(chunks) == 5
    told = capfd.readouterr().err
    assert "at ws://127.0.0.1:" in told
    assert "for this machine only" in told
    assert "stopped" in told


def test_the_program_refuses_a_public_address_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("VIDEO2ACT_API_KEY", raising=False)
    with pytest.raises(ValueError, match=r"0\.0\.0\.0 can be reached from other machines"):
        program.serve(tmp_path / "no run folder", host="0.0.0.0")


def test_what_only_a_whole_policy_has_is_refused_for_system2_alone(policy: Video2Act, tmp_path: Path):
    """They were taken, even where they made no sense, and did nothing."""
    policy.save(tmp_path)
    with pytest.raises(
        ValueError, match="System 2 alone makes no plans: set refresh_every, max_staleness_s on the robot"
    ):
        program.serve(tmp_path, only="system2", refresh_every=4, max_staleness_s=1.0)


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        (0.01, r"in between; raise --max-staleness-s to 0\.2 s and the time of a refresh"),
        (0.11, r"in between; refresh more often \(--refresh-every 2\), or raise --max-staleness-s to 0\.2 s"),
    ],
)
def test_a_limit_of_staleness_that_cannot_be_kept_names_what_serve_has(
    policy: Video2Act, tmp_path: Path, limit: float, remedy: str
):
    """It said: set when_stale=inline, which `serve` has not."""
    policy.save(tmp_path)
    with pytest.raises(ValueError, match=remedy):
        program.serve(tmp_path, port=0, refresh_every=4, max_staleness_s=limit)


def test_a_refresh_of_every_zeroth_step_is_refused(policy: Video2Act, tmp_path: Path):
    """It was taken for the policy's own."""
    policy.save(tmp_path)
    with pytest.raises(ValueError, match="refresh_every must be at least 1, got 0"):
        program.serve(tmp_path, refresh_every=0)


def test_a_served_plan_keeps_the_demonstrations_limits(policy: Video2Act):
    with (
        program.serving(policy, "inline", runtime=RuntimeConfig(limits="data")) as server,
        closing(RemotePolicy(server.address)) as remote,
    ):
        seen = policy.statistics["action"]
        for chunk in drive(remote, 0):
            assert (chunk.actions >= np.array(seen.min, np.float32)).all()
            assert (chunk.actions <= np.array(seen.max, np.float32)).all()


def test_a_client_is_told_of_a_state_that_is_clipped(policy: Video2Act):
    """Plans came back as if nothing was wrong, for a gripper that stood 1,000 m away."""
    with program.serving(policy, "inline") as server, closing(RemotePolicy(server.address)) as remote:
        remote.reset()
        for step, state in enumerate((np.zeros(3), np.full(3, 1000.0))):
            seen = replace(observation(step), state=state.astype(np.float32))
            remote.observe(seen)
            remote.infer(seen)
            assert remote.incidents.counts == ({"state_clipped": 1} if step else {})
    assert "the state is far outside the training data" in remote.incidents[-1].text


def test_limits_of_another_robot_are_refused(policy: Video2Act, tmp_path: Path):
    policy.save(tmp_path)
    (tmp_path / "limits.json").write_text('{"low": [0], "high": [1]}')
    with pytest.raises(ValueError, match="the limits are for 1 numbers, but an action of this policy has 2"):
        program.serve(tmp_path, limits=str(tmp_path / "limits.json"))


def test_a_policy_without_system2_has_none_to_serve(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path
):
    make_policy(replace(small_config, system2=None)).save(tmp_path)
    with pytest.raises(ValueError, match="this policy has no System 2"):
        program.serve(tmp_path, only="system2")


def test_a_policy_without_system2_is_served(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
):
    with (
        program.serving(make_policy(replace(small_config, system2=None)), "thread") as server,
        closing(RemotePolicy(server.address)) as remote,
    ):
        assert len(drive(remote, 0)) == 5


def test_a_port_that_is_none_is_refused_before_anything_is_loaded(tmp_path: Path):
    with pytest.raises(ValueError, match="port must be at most 65535, got 99999"):
        program.serve(tmp_path / "no run folder", port=99999)


def test_a_taken_port_is_told_in_a_line_before_anything_is_loaded(tmp_path: Path):
    """It was told after the weights were read, and without the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"^port {port} of 127\.0\.0\.1 is in use .* choose another with --port"):
            program.serve(tmp_path / "no run folder", port=port)


def test_only_the_newest_measurements_are_kept(policy: Video2Act, small_config: PolicyConfig):
    """A server runs for months."""
    assert small_config.system2 is not None
    loop = InlineSlowLoop(
        policy, RefreshSpec(small_config.system2.streams, refresh_every=1, control_fps=small_config.fps)
    )
    loop.perceive_s.extend([0.0] * 50_000)
    drive(DualPolicy(policy, loop, cameras=small_config.cameras), 0, steps=2)
    assert len(loop.perceive_s) == TIMES_KEPT
    assert loop.perceive_s[-1] > 0


class TestRefusals:
    """A message that is refused has changed nothing."""

    @pytest.fixture(scope="class")
    def policy(self, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]) -> Video2Act:
        return make_policy(small_config)

    @pytest.fixture(scope="class")
    def served(self, policy: Video2Act) -> program.Serving:
        return serve(policy, "inline")

    @pytest.fixture
    def session(self, served: program.Serving) -> PolicySession:
        session = served.make_session()
        assert isinstance(session, PolicySession)
        return session

    @pytest.fixture(scope="class")
    def expected(self, served: program.Serving) -> list[np.ndarray]:
        """The plans of six steps without a mistake."""
        session = served.make_session()
        return [session.answer(self.words(step))["actions"] for step in range(6)]

    def words(self, step: int, **changed: Any) -> dict[str, Any]:
        now = observation(step)
        return {"images": now.images, "state": now.state, "prompt": "push", "time": now.time, **changed}

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"prompt": "x" * 2000}, r"'prompt' must have 1 to \d+ bytes, for the policy's text encoder; got 2000"),
            ({"prompt": "\u5b57" * 700}, "'prompt' must have 1 to .* got 2100"),
            ({"state": np.array([3e38, 0, 0], np.float32)}, "number 0 of the state is 3e[+]38, but training has seen"),
            ({"state": [0.0, 0.0, -1e30]}, "number 2 of the state is -1e[+]30"),
            ({"state": [0.0, 1e300, 0.0]}, "'state' must be finite, but number 1 is 1e[+]300"),
        ],
    )
    def test_a_refused_observation_leaves_the_episode_as_it_was(
        self, session: PolicySession, expected: list[np.ndarray], changed: dict[str, Any], reason: str
    ):
        """The frame of a prompt that was too long for the encoder was observed, and then the prompt was refused."""
        for step in range(6):
            if step in (0, 3):
                for reset in (False, True):
                    with pytest.raises(MessageError, match=reason):
                        session.answer(self.words(step, reset=reset, **changed))
            np.testing.assert_array_equal(session.answer(self.words(step))["actions"], expected[step])

    def test_the_longest_prompt_is_the_encoders(
        self, policy: Video2Act, served: program.Serving, session: PolicySession
    ):
        longest = longest_instruction(policy)
        assert longest is not None
        assert served.contract.max_prompt_bytes == longest
        session.answer(self.words(0, prompt="x" * longest))
        with pytest.raises(MessageError, match=f"1 to {longest} bytes"):
            session.answer(self.words(1, prompt="x" * (longest + 1)))

    def test_a_prompt_that_an_encoder_refuses_is_refused_before_its_frame(
        self,
        policy: Video2Act,
        served: program.Serving,
        session: PolicySession,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Also by an encoder that counts tokens, where the contract cannot know."""

        def check(instruction: str) -> None:
            if instruction == "long":
                raise ValueError("the instruction has 600 tokens, the text encoder takes 512")

        monkeypatch.setattr(policy.system2, "check_instruction", check)
        other = served.make_session()
        for each in (session, other):
            each.answer(self.words(0))
        with pytest.raises(MessageError, match="has 600 tokens"):
            session.answer(self.words(1, prompt="long"))
        found, expected = (each.answer(self.words(1)) for each in (session, other))
        np.testing.assert_array_equal(found["actions"], expected["actions"])

    def test_the_largest_state_that_is_taken_gives_a_plan(self, policy: Video2Act, session: PolicySession):
        scale = policy.normalize_state.scale.numpy()
        largest = policy.normalize_state.shift.numpy() + 0.99 * program.MAX_NORMALISED * scale
        assert np.isfinite(session.answer(self.words(0, state=largest))["actions"]).all()

    def test_system2_alone_refuses_them_too(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path)
        parts = program.serve_system2(load_system2(tmp_path), policy.config, instructions=())
        clips = {
            name: np.zeros((shape.num_frames, shape.height, shape.width, 3), np.uint8)
            for name, shape in parts.contract.streams.items()
        }
        message = {"clips": clips, "time": 1.0, "episode": 0}
        session = parts.make_session()
        with pytest.raises(MessageError, match="'prompt' must have 1 to"):
            session.answer({**message, "prompt": "x" * 2000, "time": 5.0})
        assert "tokens" in session.answer({**message, "prompt": "push"})


def serve(policy: Video2Act, system2: program.System2Mode) -> program.Serving:
    return program.serve_policy(policy, (), frame_sizes={}, refresh_every=4, system2=system2, runtime=RuntimeConfig())


def test_inline_plans_are_reproducible_for_every_client(policy: Video2Act):
    """The noise was shared by all clients and never seeded: a plan depended on how many others had been made."""
    with program.serving(policy, "inline") as server:

        def drive_one(seed: int, episodes: int) -> list[np.ndarray]:
            with closing(RemotePolicy(server.address, timeout_s=30.0)) as remote:
                for _ in range(episodes):
                    chunks = drive(remote, seed, steps=4)
                return [chunk.actions for chunk in chunks]

        alone = drive_one(0, episodes=1)
        with ThreadPoolExecutor(4) as pool:
            others = [pool.submit(drive_one, seed, 1) for seed in (1, 2)]
            for each in [pool.submit(drive_one, 0, episodes) for episodes in (1, 2)]:
                np.testing.assert_array_equal(each.result(60), alone)
            assert not np.array_equal(others[0].result(60), others[1].result(60))


def test_two_plans_of_an_episode_begin_with_different_noise(policy: Video2Act):
    session = serve(policy, "inline").make_session()
    now = observation(0)
    words = {"images": now.images, "state": now.state, "prompt": "push", "time": 0.0}
    first, second = session.answer(words)["actions"], session.answer({"plan": True})["actions"]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(session.answer({**words, "reset": True})["actions"], first)


@pytest.mark.parametrize("times", [(0.0, 0.05, 0.1, 0.15), (0.0, 0.001, 0.002, 0.003), (None,) * 4])
def test_a_new_prompt_reaches_system2_at_once(
    policy: Video2Act, monkeypatch: pytest.MonkeyPatch, times: tuple[float | None, ...]
):
    """It waited for the next refresh; within one control step, and without a clock of the client's, it was lost."""
    heard: list[str] = []
    perceive = policy.perceive
    monkeypatch.setattr(policy, "perceive", lambda clips, said: (heard.append(said[0]), perceive(clips, said))[1])
    session = serve(policy, "inline").make_session()
    for step, (time_s, prompt) in enumerate(zip(times, ("push", "pull", "pull", "push"), strict=True)):
        now = observation(0)
        session.answer({"images": now.images, "state": now.state, "prompt": prompt, "time": time_s, "reset": step == 0})
        assert heard[-1] == prompt


def test_the_server_warms_up_before_it_listens(policy: Video2Act, monkeypatch: pytest.MonkeyPatch):
    """The first refresh compiles kernels and reads weights: every client was told that the policy hangs."""
    is_cold: set[str] = set()

    def slow_at_first(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*asked: Any) -> Any:
            is_cold.discard(name)
            return work(*asked)

        return run

    monkeypatch.setattr(policy, "perceive", slow_at_first("perceive", policy.perceive))
    monkeypatch.setattr(policy, "act", slow_at_first("act", policy.act))
    listen = program.Server.__init__

    def warm(*given: Any, **options: Any) -> None:
        assert not is_cold
        listen(*given, **options)

    monkeypatch.setattr(program.Server, "__init__", warm)
    for mode in ("thread", "inline"):
        is_cold |= {"perceive", "act"}
        with program.serving(policy, mode) as server, closing(RemotePolicy(server.address)) as remote:
            remote.reset()
            assert np.isfinite(remote.infer(observation(0)).actions).all()


def test_a_server_that_cannot_plan_for_its_training_instruction_does_not_start(
    policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    policy.save(tmp_path)
    (tmp_path / INSTRUCTIONS_FILE).write_text(json.dumps(["x" * 5000]))
    with pytest.raises(ValueError, match="the instruction has 5000 bytes"):
        program.serve(tmp_path, port=0)


def test_how_long_a_first_answer_may_take_is_an_option(policy: Video2Act):
    """A prompt that a large text encoder reads for the first time, in mid-service."""
    gate = threading.Event()
    perceive = policy.perceive
    limits = ConnectionLimits(answer_timeout_s=0.2, first_condition_timeout_s=20.0)
    with program.serving(policy, "inline", limits=limits) as server, closing(RemotePolicy(server.address)) as remote:
        policy.perceive = lambda *asked: perceive(*asked) if gate.wait(10) else None  # type: ignore[method-assign]
        threading.Timer(0.6, gate.set).start()
        remote.reset()
        assert np.isfinite(remote.infer(observation(0)).actions).all()


def test_a_first_condition_that_does_not_come_is_told_before_the_server_gives_the_answer_up(policy: Video2Act):
    """Both waited equally long, so the client was told that the policy hangs, and not which option to raise."""
    gate = threading.Event()
    perceive = policy.perceive
    limits = ConnectionLimits(answer_timeout_s=1.0)
    with program.serving(policy, "thread", limits=limits) as server, closing(RemotePolicy(server.address)) as remote:
        policy.perceive = lambda *asked: perceive(*asked) if gate.wait(10) else None  # type: ignore[method-assign]
        remote.reset()
        with pytest.raises(RemoteError, match=r"gave no condition .* within 0\.9 s; .*raise first_condition_timeout_s"):
            remote.infer(observation(0))
        gate.set()
    options = ServeOptions()
    assert options.runtime.first_condition_timeout_s < options.first_answer_s


def test_what_serves_ends_with_an_error_in_its_block_too(policy: Video2Act, monkeypatch: pytest.MonkeyPatch):
    """The worker of System 2 was left running."""
    closed: list[bool] = []
    make = program.serve_policy

    def serve_policy(*given: Any, **options: Any) -> program.Serving:
        parts = make(*given, **options)
        return replace(parts, close=lambda: (parts.close(), closed.append(True)))

    monkeypatch.setattr(program, "serve_policy", serve_policy)
    with pytest.raises(KeyError), program.serving(policy):
        raise KeyError
    assert closed == [True]
