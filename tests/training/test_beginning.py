"""A policy that begins with another's weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from video2act.config import PolicyConfig
from video2act.files.atomic import write_text
from video2act.policy import Video2Act
from video2act.statistics import load_statistics, statistics_to_json
from video2act.training.beginning import FROM_THE_DATA, begin_from

Make = Callable[[PolicyConfig], Video2Act]


@pytest.fixture
def source(small_config: PolicyConfig, make_policy: Make, tmp_path: Path) -> Path:
    policy = make_policy(small_config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    policy.save(tmp_path / "source")
    return tmp_path / "source"


def test_everything_that_fits_is_taken(small_config: PolicyConfig, make_policy: Make, source: Path):
    policy = make_policy(small_config)
    beginning = begin_from(policy, source)
    there = Video2Act.load(source).state_dict()
    assert all(torch.equal(tensor, there[name]) for name, tensor in policy.state_dict().items())
    assert beginning.other_shapes == beginning.only_there == beginning.only_here == ()


def test_what_does_not_fit_is_named_with_both_shapes(small_config: PolicyConfig, make_policy: Make, source: Path):
    longer = make_policy(small_config.replace({"horizon": 6, "system2": None}))
    beginning = begin_from(longer, source)
    assert "system1.dit.position [7, 32] there, [9, 32] here" in beginning.other_shapes
    assert any(name.startswith("system2.") for name in beginning.only_there)
    assert "of another shape, not taken" in str(beginning)


def test_a_part_begins_alone(small_config: PolicyConfig, make_policy: Make, source: Path):
    policy = make_policy(small_config)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    begin_from(policy, source, parts=("system2.formers.motion",))
    changed = {name for name, tensor in policy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("system2.formers.motion.") for name in changed)


def test_an_unknown_part_is_answered_with_those_there_are(small_config: PolicyConfig, make_policy: Make, source: Path):
    with pytest.raises(ValueError, match=r"no part 'system3' to begin with; its parts are .*system2.formers"):
        begin_from(make_policy(small_config), source, parts=("system3",))


def test_it_is_refused_where_nothing_fits(small_config: PolicyConfig, make_policy: Make, source: Path):
    other = make_policy(replace(small_config, system2=None))
    other.save(source)
    with pytest.raises(ValueError, match=r"nothing of .* fits this policy"):
        begin_from(make_policy(small_config), source, parts=("system2",))


def test_the_video_model_that_was_given_stays(small_config: PolicyConfig, make_policy: Make, source: Path):
    """`--video-model X --init RUN` took RUN's video model, and X went without a word."""
    policy = make_policy(small_config)
    given = {name: tensor.clone() for name, tensor in policy.state_dict().items() if ".backbone." in name}
    beginning = begin_from(policy, source, has_video_model=True)
    found = policy.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    assert set(beginning.kept) == set(given)
    assert set(beginning.taken).isdisjoint(given)
    assert not beginning.only_here
    hint = "kept from --video-model (to take them, too: --init-parts system1 system2 system2.backbone)"
    assert f"{len(given)} {hint}" in str(beginning)


def test_the_hint_takes_the_whole_policy(small_config: PolicyConfig, make_policy: Make, source: Path):
    """It said `--init-parts system2.backbone`, which left System 1 and the formers new."""
    policy, there = make_policy(small_config), Video2Act.load(source).state_dict()
    parts = ("system1", "system2", "system2.backbone")
    assert not begin_from(policy, source, parts=parts, has_video_model=True).left_out
    assert all(torch.equal(tensor, there[name]) for name, tensor in policy.state_dict().items())


def test_what_the_parts_leave_out_is_reported(small_config: PolicyConfig, make_policy: Make, source: Path):
    """A policy that took the other one's video model alone did not say that all else was new."""
    policy = make_policy(small_config)
    beginning = begin_from(policy, source, parts=("system2.backbone",), has_video_model=True)
    count = sum(not name.startswith(("system2.backbone.", *FROM_THE_DATA)) for name in policy.state_dict())
    assert f"{count} not among --init-parts, left as they were: " in str(beginning)
    assert " of system1.dit" in str(beginning)
    assert "not among" not in str(begin_from(policy, source))


def test_joints_in_another_order_are_refused(small_config: PolicyConfig, make_policy: Make, source: Path):
    """System 1's weights were taken for data whose joints stand in another order, and read one joint as another."""
    policy = make_policy(small_config)
    sizes = {what: len(entry.mean) for what, entry in policy.statistics.items()}
    statistics = load_statistics(source / "stats.json")
    named = {what: replace(entry, names=tuple("xyzuvw"[: sizes[what]])) for what, entry in statistics.items()}
    write_text(source / "stats.json", statistics_to_json(named))
    turned = {what: replace(entry, names=entry.names[::-1]) for what, entry in named.items()}
    for what in ("state", "action"):
        other = Video2Act(small_config, named | {what: turned[what]})
        with pytest.raises(ValueError, match=rf"order of the {what}: x, y.* in training, here .*--init-parts system2"):
            begin_from(other, source)
        begin_from(other, source, parts=("system2",))
    begin_from(Video2Act(small_config, named), source)
