import numpy as np
from recordings import numbered_frames

from video2act.data.statistics import combine, image_stats, vector_stats


def test_those_of_parts_combine_to_those_of_the_whole():
    values = np.random.default_rng(0).normal(size=(100, 3))
    whole, combined = vector_stats(values), combine([vector_stats(values[:30]), vector_stats(values[30:])])
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(combined[name], whole[name])
    assert (combined["q01"] < combined["q50"]).all()
    assert (combined["q50"] < combined["q99"]).all()


def test_scalars_have_shape_one():
    stats = vector_stats(np.arange(11))
    assert {entry.shape for entry in stats.values()} == {(1,)}
    assert stats["q50"] == 5


def test_images_per_channel_between_zero_and_one():
    frames = numbered_frames(0, 20)
    stats = image_stats(frames)
    sample = frames[:, ::2, ::2] / 255
    assert {entry.shape for name, entry in stats.items() if name != "count"} == {(3, 1, 1)}
    assert stats["count"].tolist() == [20]
    np.testing.assert_allclose(stats["mean"].ravel(), sample.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(stats["std"].ravel(), sample.std(axis=(0, 1, 2)))
    np.testing.assert_allclose(stats["min"].ravel(), sample.min(axis=(0, 1, 2)))
    np.testing.assert_allclose(stats["q50"].ravel(), np.quantile(sample, 0.5, axis=(0, 1, 2)), atol=1 / 255)
