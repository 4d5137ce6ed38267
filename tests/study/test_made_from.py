"""What a job of a study was made from is known by its contents."""

from pathlib import Path

from video2act.study.made_from import _fingerprint


def test_a_cache_beside_a_published_video_model_does_not_change_it(tmp_path: Path):
    """A study said that a tuned video model had changed, after another training had filled its cache there."""
    (tmp_path / "backbone.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"weights")
    before = _fingerprint(tmp_path)
    (tmp_path / "seen" / "0123").mkdir(parents=True)
    (tmp_path / "seen" / "0123" / "000000.safetensors").write_bytes(b"features")
    assert _fingerprint(tmp_path) == before
    weights.write_bytes(b"others")
    assert _fingerprint(tmp_path) not in (before, "")
