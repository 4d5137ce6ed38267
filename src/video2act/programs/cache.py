"""`video2act cache`: let System 2 see the demonstrations before training, and check the stored result.

`train` fills a cache by itself. Filled apart, it can be shared by trainings, computed by many machines (a pool, or
accelerate launch), kept to a size, and hold an earlier stage, which is smaller and fits policies that differ only
behind it.
"""

from math import isfinite

from video2act.config.training_options import FillCacheOptions, VerifyCacheOptions
from video2act.data.cache_manifest import load_spec
from video2act.training.cache_contents import Filled, contents


def fill_cache(options: FillCacheOptions) -> Filled:
    """Fill a cache, or go on filling it. Raises ValueError: the policy has no System 2, `out` is needed, or `max_gib`
    is no size; StaleCacheError: `out` holds a cache of something else; OSError: it would not fit."""
    max_gib = options.max_gib
    if max_gib is not None and not isfinite(max_gib):
        raise ValueError(f"max_gib must be finite, got {max_gib:g}; leave it out for as much as the disk holds")
    config, dataset = contents(options)

    from video2act.training.cache_filling import fill_chosen  # torch: after the input was checked

    return fill_chosen(options, config, dataset=dataset)


def verify_cache(options: VerifyCacheOptions) -> str:
    """Read every episode and compare it with its checksums. Raises FileNotFoundError: there is no cache; ValueError:
    lists all that is wrong."""
    folder, spec = options.folder, load_spec(options.folder)

    from video2act.data.cache import FeatureCache  # torch: after the manifest was read

    cache = FeatureCache(folder, spec)
    faults = [fault for episode in range(spec.num_episodes) if (fault := cache.verify(episode))]
    if faults:
        raise ValueError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  " + "\n  ".join(faults))
    return f"{folder}: {spec.num_episodes} episodes as they were written; stage {spec.stage}, {spec.dtype}"
