"""`video2act report`: the page shows what was measured, and says what it cannot show."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import FOUND, PLAY, SMALLEST_TEXT, Browser
from video2act.config import PolicyConfig, SimulatedLatency
from video2act.evaluation import sight
from video2act.evaluation.results import EpisodeOutcome, Results, best_and_worst
from video2act.policy import Video2Act
from video2act.programs.evaluate import evaluate
from video2act.programs.report import report
from video2act.viz.video_writer import write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, saved_policy: Path) -> Path:
    """A run folder with an evaluation of three episodes and with a training's curve."""
    folder = tmp_path_factory.mktemp("reported") / "policy"
    shutil.copytree(saved_policy, folder)
    lines = [{"step": step, "loss": 1 / (step + 1), "gradient_norm": 2.0} for step in range(50)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"episodes": 3, "workers": 1, "num_videos": 0, "out": folder / "eval" / "first"}
    evaluate(folder, "report_world:make", **options)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    return report(run, films="yes")


def test_the_page_has_every_section_and_its_numbers(page: Path, run: Path):
    text = page.read_text()
    sections = re.findall(r"<h2[^>]*>([^<]*)</h2>", text)
    wanted = "Success,Best and worst episode,What System 2 sees,Where System 1 attends,Plan and execution"
    assert sections == [*wanted.split(","), "Latency and staleness", "Incidents", "Training", "Versions"]
    assert "2/3 = 67 %" in text
    assert text.count("<video") == 6  # two episodes: cameras, System 2, attention
    assert text.count("every state is the same to the bit") == 2
    gaps = [float(found) for found in re.findall(r"differ from those of the evaluation by up to ([\d.e-]+)", text)]
    assert len(gaps) == 2
    assert max(gaps) < 1e-5  # the plans that were explained are those that were executed


def test_several_evaluations_are_told_apart(run: Path, tmp_path: Path):
    """The settings of one stood over a table of both, and nothing said whose films and incidents these were."""
    folder = tmp_path / "policy"
    shutil.copytree(run, folder)
    options = {"episodes": 1, "workers": 1, "num_videos": 0, "out": folder / "eval" / "late"}
    evaluate(folder, "report_world:make", **options, simulate_latency=SimulatedLatency(system2=0.1))
    text = report(folder, films="no").read_text()
    rows = re.findall(r"<td>(first|late)</td><td>([^<]*)</td>", text)
    assert [name for name, _ in rows] == ["late", "first"]
    assert ["SIMULATED" in how for _, how in rows] == [True, False]
    assert text.count("Of the evaluation late.") == 2  # latency, incidents
    assert "What follows is of late" in text


@pytest.mark.skipif(FOUND is None, reason="there is no Chromium on this machine")
def test_a_browser_plays_every_film_and_complains_about_nothing(page: Path, tmp_path: Path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(page, width=400, is_dark=True)
        played = browser.evaluate(PLAY)
        assert [film["error"] for film in played] == [None] * 6
        assert all(film["time"] > 0 and film["width"] > 0 for film in played)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400
        assert browser.evaluate(SMALLEST_TEXT) >= 10
        assert browser.complaints == []
    finally:
        browser.close()


def test_a_trace_plays_the_same_episode_again(run: Path, small_config: PolicyConfig):
    results = Results(run / "eval" / "first")
    for episode in results.episodes:
        trace = results.traces[episode.env, episode.seed]
        seen = sight.see("it", episode, trace=trace, config=small_config, settings=results.info["settings"])
        assert seen.replay.difference == 0
        assert seen.replay.success == episode.success
        assert len(seen.replay.observations) == episode.num_steps == len(trace.actions)


def test_a_trace_of_another_scene_is_noticed(run: Path, small_config: PolicyConfig):
    results = Results(run / "eval" / "first")
    first, second = results.episodes[:2]
    trace = results.traces[second.env, second.seed]
    seen = sight.see("it", first, trace=trace, config=small_config, settings=results.info["settings"])
    assert seen.replay.difference > 0


def test_an_evaluation_without_traces_says_so_and_shows_its_own_film(run: Path, tmp_path: Path):
    old = tmp_path / "old" / "eval" / "a"
    shutil.copytree(run / "eval" / "first", old)
    (old / "traces.safetensors").unlink()
    info = json.loads((old / "eval_info.json").read_text())
    info["per_task"][0]["metrics"]["video_paths"] = ["film.mp4"]
    (old / "eval_info.json").write_text(json.dumps(info))
    write_video(old / "film.mp4", np.zeros((3, 32, 48, 3), np.uint8), fps=5.0)
    for name in ("config.json", "stats.json", "model.safetensors"):
        shutil.copyfile(run / name, tmp_path / "old" / name)
    text = report(old, out=tmp_path / "page.html").read_text()
    assert "kept no traces" in text
    assert text.count("<video") == 1
    assert "Where System 1 attends" not in text
    assert "no metrics.jsonl" in text


def test_an_environment_that_may_be_a_robot_is_not_moved_without_being_asked(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("report_world.Squares.reset", lambda *_: pytest.fail("the robot moved"))
    text = report(run, out=tmp_path / "page.html").read_text()
    assert "perhaps a robot: choose films=yes" in text
    assert "Plan and execution" in text


def test_a_folder_that_is_neither_is_an_error_that_says_what_to_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"neither a policy .* nor an evaluation"):
        report(tmp_path)
    (tmp_path / "eval_info.json").write_text("{}")
    with pytest.raises(ValueError, match=r"eval_info\.json is damaged \(it has no per_task\)"):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_worst_episode_is_a_failure_and_a_long_task_is_not_the_worst():
    def episode(seed: int, success: bool, steps: int, relative: float) -> EpisodeOutcome:
        return EpisodeOutcome("a:b", seed, success, steps, relative)

    quick, slow = episode(0, True, 10, 0.5), episode(1, True, 400, 1.0)
    failed = episode(2, False, 20, 1.0)
    assert best_and_worst([slow, failed, quick]) == (quick, failed)
    assert best_and_worst([slow, quick]) == (quick, slow)
    with pytest.raises(ValueError, match="without episodes"):
        best_and_worst([])


def test_attention_is_that_of_the_layer_itself(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
):
    """The recorded weights times the values are what the layer gives."""
    import torch
    from einops import rearrange

    from video2act.system1.attention import weights

    policy = make_policy(replace(small_config, system2=None))
    cross: Any = policy.system1.dit.blocks[1].cross
    torch.manual_seed(0)
    x, mask = torch.randn(1, 5, 32), torch.ones(1, 7, dtype=torch.bool)
    mask[0, 4:] = False
    condition = cross.project(torch.randn(1, 7, 32), mask)
    found = weights(cross, x, condition)
    assert torch.allclose(found.sum(dim=-1), torch.ones(1, 4, 5))
    assert found[..., 4:].max() == 0
    mixed = rearrange(found @ condition.value, "b heads n d -> b n (heads d)")
    assert torch.allclose(cross.out(mixed), cross(x, condition), atol=1e-5)


def test_shares_name_every_camera_and_stream_and_add_up(run: Path, small_config: PolicyConfig):
    results = Results(run / "eval" / "first")
    episode = results.episodes[0]
    trace = results.traces[episode.env, episode.seed]
    seen = sight.see("it", episode, trace=trace, config=small_config, settings=results.info["settings"])
    found = sight.attended(seen, Video2Act.load(run))
    assert len(found) == len(trace.plans)
    names = ["front", "wrist", "System 2: spatial", "System 2: motion"]
    assert list(found[0].num_tokens.values())[1:] == [17, 17, 3, 3]
    for attention in found:
        assert [list(block) for block in attention.blocks] == [["text"], names] * 2
        assert all(sum(block.values()) == pytest.approx(1, abs=1e-5) for block in attention.blocks)
        assert [word for word, _ in attention.words] == ["push", "the", "square", "(end)"]
        assert sum(share for _, share in attention.words) == pytest.approx(1, abs=1e-5)
        assert attention.maps["front"].shape == (4, 4)
        assert 0 < float(np.sum(attention.maps["front"])) < 1
