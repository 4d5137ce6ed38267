"""Recording with a made-up arm: real worker processes where processes matter, a stand-in for them elsewhere."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from video2act.data import DatasetError, LeRobotDataset
from video2act.data.lerobot_tables import read_episodes
from video2act.data.seeds import recorded_seeds
from video2act.interfaces import EnvironmentSpec
from video2act.programs import collect as module
from video2act.programs.collect import record, record_episode
from video2act.runtime.pool import Pool, open_pool
from video2act.types import Observation, Step

SETTINGS = {"seed": 10, "noise": 0.05, "videos_only": False}
FAILING_SEED = 12


class Line:
    """A point that must come to 0 on a line; it starts where its seed says. Seed 12 starts too far away."""

    def __init__(self, noise_free_px: int = 32, delay_s: float = 0.0):
        self.spec = EnvironmentSpec(
            name="line",
            robot="point",
            instruction="come to zero",
            cameras=("eye",),
            image_size=noise_free_px,
            state_names=("x",),
            action_names=("step", "gripper"),
            fps=10.0,
            max_steps=12,
        )
        self.executed: list[np.ndarray] = []
        self._delay_s = delay_s
        self.x, self.seed, self._steps = 0.0, 0, 0

    def reset(self, seed: int) -> Observation:
        self.seed, self.executed, self._steps = seed, [], 0
        self.x = 30.0 if seed == FAILING_SEED else float(np.random.default_rng(seed).uniform(0.5, 0.9))
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        time.sleep(self._delay_s)
        self.executed.append(action)
        self._steps += 1
        self.x += float(action[0])
        success = abs(self.x) < 0.1
        return Step(self._observe(), done=success or self._steps >= self.spec.max_steps, success=success)

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        px = self.spec.image_size
        assert isinstance(px, int)
        image = np.full((px, px, 3), int(np.clip(abs(self.x), 0, 1) * 200), np.uint8)
        return Observation({"eye": image}, np.array([self.x], np.float32), self.spec.instruction, self._steps / 10)


class WideLine(Line):
    """Its pictures are wider than high."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, image_size=(32, 48))

    def _observe(self) -> Observation:
        image = np.full((*self.spec.frame_sizes["eye"], 3), 100, np.uint8)
        return Observation({"eye": image}, np.array([self.x], np.float32), self.spec.instruction, self._steps / 10)


class Walker:
    """Steps towards zero; ends its process, or lies about the disk, when told to."""

    def __init__(self, line: Line, fault: str = ""):
        self._line, self._fault = line, fault

    def reset(self) -> None:
        if self._line.seed == FAILING_SEED and self._fault == "exit":
            os._exit(3)
        if self._line.seed == FAILING_SEED and self._fault == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")

    def act(self) -> np.ndarray:
        return np.array([np.clip(-self._line.x, -0.2, 0.2), 0.5], np.float32)


def set_up(fault: str = "", px: int = 32, delay_s: float = 0.0) -> tuple[Line, Walker]:
    line = Line(px, delay_s)
    return line, Walker(line, fault)


def set_up_task(name: str) -> tuple[Line, Walker]:
    line, walker = set_up()
    line.spec = replace(line.spec, name=name, instruction=f"do {name}")
    return line, walker


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Jumbled(Pool):
    """Records in this process and answers out of order."""

    def __init__(self, worker: module.RecordingWorker):
        super().__init__(())
        self.worker, self.jobs = worker, []
        self.order = np.random.default_rng(0)

    @property
    def num_running(self):
        return len(self.jobs)

    @property
    def has_free(self):
        return len(self.jobs) < 3

    def submit(self, task):
        self.jobs.append(task)

    def take(self):
        job = self.jobs.pop(self.order.integers(len(self.jobs)))
        return job, self.worker(job)


@contextmanager
def open_jumbled(make_worker, size, **_):
    yield Jumbled(make_worker())


@pytest.fixture
def local(monkeypatch):
    """No processes."""
    monkeypatch.setattr(module, "open_pool", open_jumbled)


def test_noise_moves_the_arm_but_not_the_label():
    line, walker = set_up()
    episode = record_episode(line, walker, seed=10, noise=0.05)
    assert episode is not None
    assert episode.action is not None
    executed = np.stack(line.executed)
    assert len(executed) == len(episode.state) == len(episode.frames["eye"])
    np.testing.assert_allclose(episode.action[:, 0], np.clip(-episode.state[:, 0], -0.2, 0.2))
    assert (executed[:, 0] != episode.action[:, 0]).all()
    assert (executed[:, 1] == 0.5).all()  # a gripper is left alone
    again = record_episode(line, walker, seed=10, noise=0.05)
    assert again is not None
    assert np.array_equal(again.state, episode.state)


def test_a_failure_is_no_episode():
    assert record_episode(*set_up(), seed=FAILING_SEED, noise=0.0) is None


def test_workers_and_interruptions_do_not_change_the_result(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "open_pool", open_jumbled)
        one = record(set_up, tmp_path / "one", 5, workers=1, **SETTINGS)
        record(set_up, tmp_path / "two", 2, workers=2, **SETTINGS)
    assert (one.num_episodes, one.num_recorded, one.failed_seeds) == (5, 5, (FAILING_SEED,))
    two = record(set_up, tmp_path / "two", 5, workers=2, **SETTINGS)  # real processes, which take the others' seeds
    assert (two.num_episodes, two.num_recorded) == (5, 3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    dataset = LeRobotDataset(tmp_path / "two")
    assert [entry.seed for entry in dataset.entries] == [10, 11, 13, 14, 15]
    assert (dataset.robot, dataset.tasks, dataset.action_dim) == ("point", ("come to zero",), 2)


def test_a_recording_of_wide_pictures_goes_on(tmp_path, local):
    """The height and width of its pictures were compared with what json made of them, and never were the same."""

    def set_up_wide() -> tuple[Line, Walker]:
        line = WideLine()
        return line, Walker(line)

    record(set_up_wide, tmp_path / "a", 1, workers=1, **SETTINGS)
    assert record(set_up_wide, tmp_path / "a", 2, workers=1, **SETTINGS).num_episodes == 2
    assert LeRobotDataset(tmp_path / "a").image_size("eye") == (32, 48)


def test_order_of_completion_does_not_matter(tmp_path, local):
    record(set_up, tmp_path / "a", 4, workers=1, **SETTINGS)
    assert [entry.seed for entry in LeRobotDataset(tmp_path / "a").entries] == [10, 11, 13, 14]
    # enough already: nothing is recorded, nothing is lost
    assert record(set_up, tmp_path / "a", 2, workers=1, **SETTINGS).num_episodes == 4


def test_a_suite_is_one_dataset_with_equally_many_episodes_of_each_task(tmp_path, local):
    suite = {name: partial(set_up_task, name) for name in ("line/0", "line/1")}
    record(suite, tmp_path / "two", 3, workers=1, **SETTINGS, environment="line")
    for path in ("one", "two"):  # the second goes on with what it has
        record(suite, tmp_path / path, 6, workers=1, **SETTINGS, environment="line")
    one, two = (LeRobotDataset(tmp_path / name) for name in ("one", "two"))
    for dataset in (one, two):
        of_each = Counter((entry.environment, entry.tasks) for entry in dataset.entries)
        assert of_each == {("line/0", ("do line/0",)): 3, ("line/1", ("do line/1",)): 3}
    assert recorded_seeds([(one, tuple(range(6)))]) == {task: [10, 11, 13] for task in suite}  # 12 fails
    pairs = [{(entry.environment, entry.seed) for entry in dataset.entries} for dataset in (one, two)]
    assert pairs[0] == pairs[1]
    with pytest.raises(DatasetError, match="environment was 'line', now 'line/0'"):
        record(suite["line/0"], tmp_path / "one", 7, workers=1, **SETTINGS)


def test_videos_only(tmp_path, local):
    record(set_up, tmp_path / "videos", 1, workers=1, seed=0, noise=0.0, videos_only=True)
    dataset = LeRobotDataset(tmp_path / "videos")
    assert dataset.action_dim is None
    assert dataset.state_dim == 1


def test_other_settings_are_refused_naming_both(tmp_path, local):
    record(set_up, tmp_path / "a", 1, workers=1, **SETTINGS)
    with pytest.raises(DatasetError, match=r"noise was 0\.05, now 0\.3"):
        record(set_up, tmp_path / "a", 2, workers=1, **{**SETTINGS, "noise": 0.3})
    with pytest.raises(DatasetError, match=r"image_size was 32, now 16; seed was 10, now 0"):
        record(partial(set_up, px=16), tmp_path / "a", 2, workers=1, **{**SETTINGS, "seed": 0})
    (tmp_path / "a/meta/video2act.json").unlink()
    with pytest.raises(DatasetError, match="was not recorded by collect"):
        record(set_up, tmp_path / "a", 2, workers=1, **SETTINGS)


def test_nonsense_is_refused(tmp_path):
    with pytest.raises(ValueError, match="episodes >= 1"):
        record(set_up, tmp_path / "a", 0, workers=1, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metaworld:pusch-v3", r"unknown environment 'metaworld:pusch-v3'\. Did you mean 'metaworld:push-v3'\?"),
        ("nothing", "unknown environment 'nothing'"),
        ("my_module:make", "'my_module:make' is an environment of your own, which has no .*; record a person with"),
        ("libero:libero_90/3", "unknown environment with a scripted expert 'libero:libero_90/3'"),
        ("libero:libero_90", "unknown environment with a scripted expert 'libero:libero_90/0'"),
        ("libero:libero_goal/5", r"a scripted expert 'libero:libero_goal/5'.*_goal/0\.\.4, libero:libero_goal/6\.\.9"),
        ("libero:libero_91", r"unknown environment 'libero:libero_91'\. Did you mean"),
    ],
)
def test_an_unknown_environment_is_refused_before_a_worker_starts(name, expected, tmp_path, monkeypatch):
    """A worker was started, and imported the simulators, before it found out."""
    monkeypatch.setattr(module, "open_pool", None)
    with pytest.raises(ValueError, match=expected):
        module.collect(name, tmp_path / "set", episodes=1)
    assert not (tmp_path / "set").exists()


def test_ctrl_c_keeps_what_is_complete(tmp_path, local, monkeypatch):
    rename, count = os.replace, iter(range(1000))

    def interrupted(source, target):
        if next(count) == 12:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("video2act.files.atomic.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(set_up, tmp_path / "a", 4, workers=1, **SETTINGS)
    monkeypatch.setattr("video2act.files.atomic.os.replace", rename)
    assert 1 <= len(LeRobotDataset(tmp_path / "a")) < 4
    record(set_up, tmp_path / "a", 4, workers=1, **SETTINGS)
    record(set_up, tmp_path / "b", 4, workers=1, **SETTINGS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_expert_that_always_fails(tmp_path, local, monkeypatch):
    monkeypatch.setattr(module, "record_episode", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="failed on 20 seeds in a row, up to 29"):
        record(set_up, tmp_path / "a", 4, workers=1, **SETTINGS)


def test_a_worker_that_dies_is_named_with_its_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_pool", partial(open_pool, alone=False))
    with pytest.raises(RuntimeError, match="ended with exit code 3 on seed 12"):
        record(partial(set_up, "exit"), tmp_path / "a", 4, workers=1, **SETTINGS)
    assert len(LeRobotDataset(tmp_path / "a")) == 2


def test_a_full_disk_in_a_worker(tmp_path):
    with pytest.raises(OSError, match="No space left on device while recording; the complete episodes are kept"):
        record(partial(set_up, "disk"), tmp_path / "a", 4, workers=1, **SETTINGS)
    assert len(LeRobotDataset(tmp_path / "a")) == 2


def test_kill_9_leaves_no_worker_and_a_dataset_to_continue(tmp_path, local):
    program = (
        "from functools import partial; from pathlib import Path; from test_collect import SETTINGS, record, set_up\n"
        "if __name__ == '__main__': "
        f"record(partial(set_up, '', 32, 0.05), Path({str(tmp_path / 'a')!r}), 200, workers=2, **SETTINGS)"
    )
    (tmp_path / "program.py").write_text(program)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], env=os.environ | {"PYTHONPATH": paths}, stdout=-3
    )
    info = tmp_path / "a/meta/info.json"
    deadline = time.monotonic() + 60
    while not (info.is_file() and '"total_episodes": 0' not in info.read_text()):
        assert time.monotonic() < deadline, "nothing was recorded within a minute"
        assert process.poll() is None, "the recording ended by itself"
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    complete = len(LeRobotDataset(tmp_path / "a"))
    assert complete >= 1
    record(set_up, tmp_path / "a", complete + 1, workers=1, **SETTINGS)
    seeds = [entry.seed for entry in read_episodes(tmp_path / "a", LeRobotDataset(tmp_path / "a").info)]
    assert len(set(seeds)) == len(seeds) == complete + 1
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its collector"
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"
