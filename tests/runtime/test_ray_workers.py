"""A pool on a Ray cluster of two nodes on this machine, and addresses where nothing answers.

Needs the extra `cluster`; no part of the default tests starts a cluster.
"""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pool_work import Squares

from video2act.config import EvaluateOptions
from video2act.evaluation.episodes import Evaluation
from video2act.programs.evaluate import run_evaluation
from video2act.runtime.pool import open_pool
from video2act.runtime.workers import WorkerDiedError

sys.path.insert(0, str(Path(__file__).parents[1] / "programs"))

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Any:
    return pytest.importorskip("ray")


@pytest.fixture
def mute() -> Iterator[int]:
    """A port where something accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.usefixtures("ray")
def test_an_address_that_does_not_answer_is_named_in_seconds(mute: int, monkeypatch: pytest.MonkeyPatch):
    """Closed, mute, or in a variable: Ray would try for a minute and more."""
    monkeypatch.setattr("video2act.runtime.ray_workers.ANSWER_S", 1)
    addresses = [("ray://127.0.0.1:9", ""), (f"ray://127.0.0.1:{mute}", ""), ("ray", f"127.0.0.1:{mute}")]
    for pool, variable in addresses:
        monkeypatch.setenv("RAY_ADDRESS", variable)
        started = time.monotonic()
        with (
            pytest.raises(ConnectionError, match=f"no Ray cluster answers at {re.escape(variable or pool)} within"),
            open_pool(Squares, 2, pool=pool),
        ):
            raise AssertionError("the pool opened")
        assert time.monotonic() - started < 10


@pytest.fixture
def cluster(ray: Any) -> Iterator[Callable[[], None]]:
    """Two nodes, and this process is connected to the first; kills the second."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False)
    try:
        cluster.wait_for_nodes()
        yield partial(cluster.remove_node, second, allow_graceful=False)
    finally:
        ray.shutdown()
        cluster.shutdown()


@slow
@pytest.mark.usefixtures("cluster")
def test_errors_arrive_and_a_missing_folder_names_node_and_path(tmp_path: Path):
    with open_pool(Squares, 2, pool="ray") as pool:
        assert {task: square for task, (square, _) in pool.results(range(9))} == {n: n * n for n in range(9)}
        with pytest.raises(ValueError, match="scene 7 has no door"):
            list(pool.results(["raise"]))
    with open_pool(Squares, 2, pool="ray") as pool, pytest.raises(WorkerDiedError, match="on Ray ended on exit"):
        list(pool.results(["exit"]))
    with pytest.raises(ValueError, match="no weights in run7"), open_pool(partial(Squares, "raise"), 2, pool="ray"):
        raise AssertionError("the pool opened")
    with (
        pytest.raises(FileNotFoundError, match=rf"node {socket.gethostname()} does not see .*{tmp_path.name}/run"),
        open_pool(Squares, 2, pool="ray", folders=[tmp_path / "run"]),
    ):
        raise AssertionError("the pool opened")
    with (
        pytest.raises(ValueError, match="2 workers on GPUs need 2 GPUs, the Ray cluster has 0"),
        open_pool(Squares, 2, pool="ray", uses_gpu=True),
    ):
        raise AssertionError("the pool opened")


@slow
def test_the_share_of_a_killed_node_is_taken_over(cluster: Callable[[], None], tmp_path: Path):
    log = tmp_path / "log"
    with open_pool(partial(Squares, log=log), 4, pool="ray") as pool:
        killer = threading.Timer(0.3, cluster)
        killer.start()
        found = {task: square for task, (square, _) in pool.results(range(300))}
        killer.join()
    assert found == {number: number**2 for number in range(300)}
    assert log.read_text().split().count("built") > 4, "workers were started again on the node that is left"


@slow
@pytest.mark.usefixtures("cluster")
def test_a_recording_is_the_same_byte_for_byte(tmp_path: Path):
    it = import_module("test_collect")
    it.record(it.set_up, tmp_path / "local", 6, workers=2, **it.SETTINGS)
    done = it.record(it.set_up, tmp_path / "ray", 6, workers=2, pool="ray", **it.SETTINGS)
    assert (done.num_episodes, done.failed_seeds) == (6, (12,))
    assert it.contents(tmp_path / "ray") == it.contents(tmp_path / "local")


@slow
@pytest.mark.usefixtures("cluster")
def test_a_recording_survives_a_killed_node(cluster: Callable[[], None], tmp_path: Path):
    it = import_module("test_collect")
    slow_set_up = partial(it.set_up, "", 32, 0.05)
    it.record(slow_set_up, tmp_path / "local", 30, workers=2, **it.SETTINGS)
    killer = threading.Thread(target=_kill_when, args=(cluster, tmp_path / "ray/meta/info.json"))
    killer.start()
    it.record(slow_set_up, tmp_path / "ray", 30, workers=4, pool="ray", **it.SETTINGS)
    killer.join()
    assert it.contents(tmp_path / "ray") == it.contents(tmp_path / "local")


def _kill_when(kill: Callable[[], None], info: Path) -> None:
    """Kill the second node when the dataset holds an episode."""
    while not (info.is_file() and json.loads(info.read_text())["total_episodes"]):
        time.sleep(0.05)
    kill()


@slow
@pytest.mark.usefixtures("cluster")
def test_an_evaluation_is_the_same(tmp_path: Path):
    it, untimed = import_module("test_evaluate"), import_module("test_evaluate_resumed").untimed
    (tmp_path / "run").mkdir()
    options = EvaluateOptions(episodes=6, refresh_every=4, workers=1, num_videos=1, out=tmp_path / "local")
    local = Evaluation(it.FakeRun(tmp_path / "run"), ("fake:a", "fake:b"), options, it.fake_environment, it.fake_expert)
    distributed = replace(local, options=replace(options, workers=3, pool="ray", out=tmp_path / "ray"))
    done: list[bool] = []
    results = [run_evaluation(local), run_evaluation(distributed, done.append)]
    assert untimed(results[0]) == untimed(results[1])
    assert len(done) == 12, "each episode was reported"
    films = [sorted((tmp_path / where / "videos").rglob("*.mp4")) for where in ("local", "ray")]
    assert len(films[0]) == 2
    for ours, theirs in zip(*films, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
