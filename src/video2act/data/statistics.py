"""Statistics of features in LeRobot's form: per episode, and for a whole dataset out of those of its episodes.

They are written for the tools that read `stats.json`. Training here computes its own from the data, because quantiles
cannot be combined exactly: like LeRobot 0.4 we average them, weighted by the number of samples.
"""

import numpy as np
from jaxtyping import Bool, Num, UInt8

Stats = dict[str, np.ndarray]
"""min, max, mean, std, count and the quantiles of one feature"""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MAX_IMAGES = 100
"""frames of an episode that are sampled"""


def vector_stats(values: Num[np.ndarray, "t *d"] | Bool[np.ndarray, "t *d"]) -> Stats:
    """Per dimension over time; shape `[d]`, and `[1]` for a column of scalars."""
    table = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(table, list(QUANTILES.values()), axis=0)
    return {
        "min": table.min(axis=0),
        "max": table.max(axis=0),
        "mean": table.mean(axis=0),
        "std": table.std(axis=0),
        "count": np.array([len(table)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def image_stats(frames: UInt8[np.ndarray, "t h w 3"]) -> Stats:
    """Per colour channel, shape `[3 1 1]`, in [0, 1], from a sample of the frames."""
    t = len(frames)
    sample = frames[np.unique(np.linspace(0, t - 1, min(t, MAX_IMAGES)).round().astype(int))]
    # every other pixel is enough for statistics, and a histogram of 256 values gives them all in one pass
    pixels = sample[:, ::2, ::2]
    channels = [_histogram_stats(np.bincount(pixels[..., c].ravel(), minlength=256)) for c in range(3)]
    stats = {name: np.array([channel[name] for channel in channels]).reshape(3, 1, 1) for name in channels[0]}
    return stats | {"count": np.array([len(sample)])}


def combine(stats: list[Stats]) -> Stats:
    """Those of a dataset out of those of its episodes."""
    count = np.array([int(entry["count"][0]) for entry in stats])
    weight = count / count.sum()

    def mean_of(values: list[np.ndarray]) -> np.ndarray:
        return np.tensordot(weight, np.stack(values), axes=1)

    mean = mean_of([entry["mean"] for entry in stats])
    # the spread within episodes plus the spread between them
    variance = mean_of([entry["std"] ** 2 + (entry["mean"] - mean) ** 2 for entry in stats])
    return {
        "min": np.min([entry["min"] for entry in stats], axis=0),
        "max": np.max([entry["max"] for entry in stats], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([count.sum()]),
        **{name: mean_of([entry[name] for entry in stats]) for name in QUANTILES},
    }


def _histogram_stats(counts: np.ndarray) -> dict[str, float]:
    levels = np.arange(256) / 255
    total = counts.sum()
    mean = (counts * levels).sum() / total
    seen, cumulative = np.flatnonzero(counts), np.cumsum(counts)
    return {
        "min": float(levels[seen[0]]),
        "max": float(levels[seen[-1]]),
        "mean": float(mean),
        "std": float(np.sqrt((counts * (levels - mean) ** 2).sum() / total)),
        **{name: float(levels[np.searchsorted(cumulative, q * total)]) for name, q in QUANTILES.items()},
    }
