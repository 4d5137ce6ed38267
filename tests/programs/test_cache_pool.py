"""A cache that the workers of a pool fill is the one that a single process fills."""

from pathlib import Path
from typing import Any

import pytest

from trainings import fill_cache, train_video, verify_cache
from video2act.config import BackboneConfig, PolicyConfig, VideoTrainConfig
from video2act.config.files import to_json
from video2act.runtime.pool import open_pool

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def test_two_workers_write_what_one_process_writes(
    recorded: Path,
    small_backbone: BackboneConfig,
    small_config: PolicyConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    model, config = tmp_path / "video", tmp_path / "config.json"
    training = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), model, config=training, backbone=small_backbone)
    config.write_text(to_json(small_config))
    for name, workers in (("one", 1), ("two", 2)):
        fill_cache((recorded,), tmp_path / name, config=config, video_model=model, workers=workers)
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("one", "two")]
    assert len(written[0]) == 4
    assert written[0] == written[1]
    # what is there already needs no worker
    (tmp_path / "two" / "000001.safetensors").unlink()
    fill_cache((recorded,), tmp_path / "two", config=config, video_model=model, workers=2)
    assert verify_cache(tmp_path / "two").startswith(f"{tmp_path / 'two'}: 3 episodes")
    limited = {"workers": 2, "max_gib": 1e-6, "episodes": "0:1"}
    with pytest.raises(OSError, match=r"the cache would take .* more than"):
        fill_cache((recorded,), tmp_path / "small", config=config, video_model=model, **limited)
    # a complete cache may lie where nothing can be written: it was locked
    monkeypatch.setattr("video2act.files.lock.FolderLock.__init__", lambda *_, **__: pytest.fail("it is locked"))
    fill_cache((recorded,), tmp_path / "two", config=config, video_model=model, workers=2)


def test_copies_are_filled_by_the_same_workers(
    recorded: Path,
    small_backbone: BackboneConfig,
    small_config: PolicyConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """A pool was opened, and the video model loaded, for every copy."""
    model, config, opened = tmp_path / "video", tmp_path / "config.json", []
    training = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), model, config=training, backbone=small_backbone)
    config.write_text(to_json(small_config))

    def alone(make_worker: Any, size: int, **options: Any) -> Any:
        opened.append(size)
        return open_pool(make_worker, 1, **options)

    monkeypatch.setattr("video2act.training.cache_filling.open_pool", alone)
    given = {"config": config, "video_model": model, "clip_jitter": 0.2, "clip_copies": 2}
    fill_cache((recorded,), tmp_path / "one", **given)
    assert opened == []
    fill_cache((recorded,), tmp_path / "two", **given, workers=2)
    assert opened == [2]
    fill_cache((recorded,), tmp_path / "two", **given, workers=2)
    assert opened == [2]
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.safetensors")}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == 9
    assert one == two


@pytest.mark.slow
def test_ray_writes_what_one_process_writes(
    recorded: Path, small_backbone: BackboneConfig, small_config: PolicyConfig, tmp_path: Path
):
    """Ray starts on this machine."""
    pytest.importorskip("ray")
    model, config = tmp_path / "video", tmp_path / "config.json"
    training = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), model, config=training, backbone=small_backbone)
    config.write_text(to_json(small_config))
    for name, pool in (("local", "local"), ("ray", "ray")):
        fill_cache((recorded,), tmp_path / name, config=config, video_model=model, workers=2, pool=pool)
    written = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("local", "ray")]
    assert len(written[0]) == 4
    assert written[0] == written[1]
