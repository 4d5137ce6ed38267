"""`video2act probe`: the same moments and seeds for every row, honest controls, and a verdict on the task itself."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainings import train_video
from video2act.config import BackboneConfig, PolicyConfig, VideoTrainConfig, to_json
from video2act.config.probe import ProbeOptions
from video2act.data import DatasetWriter, Episode, open_dataset
from video2act.programs import probe as program
from video2act.programs.probe import BLIND, Row, probe, verdict
from video2act.system2.backbones import load_video_model
from video2act.training import probing
from video2act.training.probe_arms import arms_of, split_of
from video2act.training.probing import randomise

FAST = {"labelled": 3, "held_out": 2, "seeds": 2, "num_steps": 20, "every": 3}


@pytest.fixture(scope="session")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes of a square that goes left or right; the action says which way, the state does not."""
    root = tmp_path_factory.mktemp("probe") / "data"
    names = {"state_names": ("x", "y", "grip"), "action_names": ("dx", "dy")}
    with DatasetWriter.create(
        root, fps=20.0, robot="arm", cameras=("front", "wrist"), image_size=16, **names
    ) as writer:
        for number in range(6):
            way, frames = (-1) ** number, np.full((14, 16, 16, 3), 30, np.uint8)
            for t in range(14):
                x = (8 + way * t) % 16
                frames[t, 4:12, x] = 220
            action = np.tile(np.array([way, 0.1 * (number % 2)], np.float32), (14, 1))
            images = {"front": frames, "wrist": frames}
            state = np.zeros((14, 3), np.float32)
            state[:, 2] = np.arange(14)
            writer.add_episode(Episode(images, state, action, "go", seed=number))
    return root


@pytest.fixture(scope="session")
def video_model(moving: Path, small_backbone: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "model"
    config = VideoTrainConfig(num_steps=1, batch_size=2, sizes_px=(16,))
    train_video((moving,), out, config=config, backbone=small_backbone)
    return out


@pytest.fixture
def options(moving: Path, video_model: Path, small_config: PolicyConfig, tmp_path: Path) -> Callable[..., ProbeOptions]:
    (tmp_path / "config.json").write_text(to_json(small_config))

    def make(**changes: Any) -> ProbeOptions:
        given = {"data": (moving,), "video_model": video_model, "config": tmp_path / "config.json"}
        return ProbeOptions(**{**given, "out": tmp_path / "out", "filters": ("none",), **FAST, **changes})

    return make


def rows(folder: Path) -> dict[str, list[float]]:
    return {row["name"]: row["errors"] for row in json.loads((folder / "probe.json").read_text())["rows"]}


def test_a_grid_gives_a_table_a_plot_and_a_verdict(options: Callable[..., ProbeOptions], tmp_path: Path):
    table = probe(options(imagine=(0, 4), layers=("1", "0,1"), keep=("future",))).read_text()
    found = rows(tmp_path / "out")
    # per layer: trained, random and still, without and with the future; one ceiling; latents once
    assert len(found) == 1 + 2 * (3 * 2 + 1) + 1
    assert all(len(errors) == 2 and all(np.isfinite(errors)) for errors in found.values())
    assert all(name in table for name in found)
    assert (tmp_path / "out" / "probe.png").is_file()


def test_the_same_probe_gives_the_same_figures(options: Callable[..., ProbeOptions], tmp_path: Path):
    for name in ("one", "two"):
        probe(options(out=tmp_path / name, weights=("trained", "future")))
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_an_interrupted_probe_goes_on(
    options: Callable[..., ProbeOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    measured: list[str] = []
    see = probing.see

    def counted(arm: Any, *arguments: Any, **options: Any) -> Any:
        measured.append(arm.weights)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return see(arm, *arguments, **options)

    monkeypatch.setattr(probing, "see", counted)
    asked = options(weights=("trained", "latents"))
    with pytest.raises(KeyboardInterrupt):
        probe(asked)
    assert len(rows(tmp_path / "out")) == 2
    probe(asked)
    assert measured == ["trained", "latents", "latents"]
    with pytest.raises(ValueError, match=r"another probe \(num_steps: 20 then, 21 now\)"):
        probe(replace(asked, num_steps=21))


def test_what_a_training_caches_beside_the_video_model_is_no_other_model(
    options: Callable[..., ProbeOptions], video_model: Path, tmp_path: Path
):
    """After any `train` with the same video model, a probe refused to go on."""
    model = shutil.copytree(video_model, tmp_path / "model")
    probe(options(weights=("latents",), video_model=model))
    (model / "seen" / "0123").mkdir(parents=True)
    shutil.copy(model / "model.safetensors", model / "seen" / "0123" / "000000.safetensors")
    probe(options(weights=("latents",), video_model=model))
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, model / "model.safetensors")
    with pytest.raises(ValueError, match="another probe"):
        probe(options(weights=("latents",), video_model=model))


@pytest.mark.parametrize("changed", ["config", "fit", "preset", "change"])
def test_rows_of_another_policy_are_not_taken_as_done(
    options: Callable[..., ProbeOptions], small_config: PolicyConfig, tmp_path: Path, changed: str
):
    """Rows of another --config or --fit counted as done, so the table mixed two policies."""
    asked = options(weights=("latents",))
    probe(asked)
    other = tmp_path / "other.json"
    other.write_text(to_json(small_config.replace({"system2.streams.motion.size_px": 32})))
    path = "system2.streams.motion.former.num_tokens"
    given: dict[str, Any] = {
        "config": {"config": other},
        "fit": {"fit": "crop"},
        "preset": {"config": None, "preset": "tiny"},
        "change": {"changes": {path: 1}},
    }[changed]
    before = (tmp_path / "out" / "probe.json").read_text()
    with pytest.raises(ValueError, match=r"out holds another probe \(policy\..* then, .* now"):
        probe(replace(asked, **given))
    assert (tmp_path / "out" / "probe.json").read_text() == before


def test_motion_is_found_where_the_state_does_not_hold_it(options: Callable[..., ProbeOptions], tmp_path: Path):
    probe(options(weights=("latents", "still"), num_steps=150, every=1))
    found = {name.split(",")[0]: np.mean(errors) for name, errors in rows(tmp_path / "out").items()}
    assert found["latents"] < 0.5 * found[BLIND]


def test_what_comes_later_never_leaks_into_what_is_imagined(options: Callable[..., ProbeOptions], moving: Path):
    """Frames after a moment are drawn anew: nothing that is seen at it changes, but for the ceiling, which is shown
    them."""
    asked = options(imagine=(4,), weights=("trained", "future"))
    config = program.choose_policy(asked, program.DataSpec(3, 2, 20.0, ("front", "wrist")))
    dataset = program.open_chosen(asked)
    split = split_of(asked, dataset)
    store = program.FrameStore(dataset)

    class Altered(program.FrameStore):
        """Frames of the second half of each episode are black."""

        def read(self, wanted: Any, *arguments: Any, **given: Any) -> Any:
            clips = [np.array(clip) for clip in super().read(wanted, *arguments, **given)]
            for clip, (_, indices) in zip(clips, wanted, strict=True):
                clip[np.array(indices) >= 7] = 0
            return clips

    early = np.array([frame < 7 for _, frame in probing.places_of(dataset, asked, split=split)])
    for arm in arms_of(asked, config.system2):
        system2 = probing.system2_of(arm, asked)
        seen, altered = (
            probing.see(arm, system2, dataset, store=frames, options=asked, split=split).grid[early]
            for frames in (store, Altered(dataset))
        )
        assert torch.equal(seen, altered) == (arm.weights == "trained"), arm.name


def test_random_weights_keep_the_codec(video_model: Path):
    _, backbone = load_video_model(video_model)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    randomise(backbone, seed=3)
    after = backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("codec."))
    assert not torch.equal(before["blocks.0.mlp.up.weight"], after["blocks.0.mlp.up.weight"])


@pytest.mark.parametrize(
    ("past", "ceiling", "said"),
    [
        ([0.5, 0.6, 0.5], [0.1, 0.2, 0.15], "this task can tell"),
        ([0.5, 0.6, 0.5], [0.6, 0.71, 0.59], "THIS TASK CANNOT TELL"),
        ([0.5, 0.6, 0.5], [0.49, 0.62, 0.5], "NOT KNOWN whether this task can tell"),
        (
            [0.5],
            [0.1],
            "NOT KNOWN whether this task can tell: 0.500 without, 0.100 with the true future. One seed has no",
        ),
        # a gain of .4 in the mean: two standard errors say yes, a t interval of three seeds does not
        ([0.9, 0.8, 0.5], [0.3, 0.5, 0.45], "NOT KNOWN whether this task can tell"),
    ],
)
def test_the_report_says_whether_the_task_can_tell(past: list[float], ceiling: list[float], said: str):
    """`Even the truth brings nothing` was printed though the interval did not say so, also of one seed."""
    text = verdict([Row("a", "trained", False, past), Row("b", "future", False, ceiling)])
    assert text.startswith(said)
    assert ("Even the truth brings nothing" in text) == said.startswith("THIS TASK CANNOT TELL")


def test_the_interval_is_that_of_t():
    stats = pytest.importorskip("scipy.stats")
    errors = np.random.default_rng(0).normal(0.5, 0.1, (2, 31))
    for num in (2, 3, 12, 31):
        ours, ceiling = (Row("", name, False, list(errors[i, :num])) for i, name in enumerate(("trained", "future")))
        found = stats.ttest_rel(ours.errors, ceiling.errors).confidence_interval()
        assert f"95 % interval {found.low:+.3f} to {found.high:+.3f} (t over {num} seeds)" in verdict([ours, ceiling])


@pytest.mark.parametrize(("blind", "is_said"), [(0.4, True), (0.7, False)])
def test_features_that_make_it_worse_are_named(blind: float, is_said: bool):
    """With ten labelled episodes every tap was worse than none, and the table was read as a tie between them."""
    rows = [Row("a", "trained", False, [0.5, 0.6]), Row("b", "future", False, [0.1, 0.2])]
    text = verdict([Row(BLIND, "blind", False, [blind, blind]), *rows])
    told = f"TOO FEW LABELLED EPISODES to rank taps: {blind:.3f} without features, 0.550 with the best of the past"
    assert (told in text) == is_said
    assert text.startswith("this task can tell")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": "wrist"}, "no stream 'wrist'; --stream is one of spatial, motion"),
        ({"held_out": 5}, "3 labelled and 5 held-out episodes make 8, the data have 6"),
        ({"gib": 1e-6}, "raise --gib or --every"),
        ({"layers": ("9",)}, "feature_layers must lie in 0..2"),
        ({"imagine": (3,)}, "imagine.num_frames must be a multiple of 4"),
        ({"preset": "tiny_system1", "config": None}, "has no System 2, so it has no tap to probe"),
    ],
)
def test_what_cannot_be_probed_is_refused(options: Callable[..., ProbeOptions], changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        probe(options(**changes))


def test_layers_that_are_no_numbers_are_refused(options: Callable[..., ProbeOptions]):
    with pytest.raises(ValueError, match="layers are numbers, or several with commas between them"):
        options(layers=("1;2",))


class TestPredictingTheState:
    """`--predict`: is the ball's true velocity in the features?"""

    def test_the_target_is_the_state_and_the_head_does_not_get_it(self, moving: Path, options: Callable[..., Any]):
        data, given = open_dataset(moving), options(predict=("x", "grip"))
        moments = probing.moments_of(given, data, horizon=8, split=split_of(given, data))
        assert moments.target.shape == (len(moments.episode), 1, 2)
        assert not moments.state.any()
        grip = moments.target[:, 0, 1]
        assert grip[:5].diff() == pytest.approx(float(grip[1] - grip[0]))
        assert float(grip.std()) == pytest.approx(1, abs=0.2)

    def test_the_table_names_what_was_predicted(self, options: Callable[..., ProbeOptions]):
        table = probe(options(weights=("latents",), predict=("x",))).read_text()
        assert "Mean square error of x on 2 held-out episodes" in table
        assert BLIND in table

    def test_an_unknown_dimension_is_refused_before_any_work(self, options: Callable[..., ProbeOptions]):
        given = options(predict=("velocity",))
        with pytest.raises(ValueError, match=r"--predict velocity: .* those of the data are x, y, grip"):
            probe(given)
        assert not given.out.exists()
