"""`video2act cache`: let System 2 see the demonstrations before training, and check the stored result.

`train` fills a cache by itself. Filled apart, it can be shared by trainings, computed by many machines (a pool, or
accelerate launch), kept to a size, and hold an earlier stage, which is smaller and fits policies that differ only
behind it.
"""

from video2act.config.training_options import FillCacheOptions, VerifyCacheOptions
from video2act.data.cache_manifest import COPIES, MANIFEST, load_spec
from video2act.training.cache_contents import Filled, contents
from video2act.training.resuming import check_kind


def fill_cache(options: FillCacheOptions) -> Filled:
    """Fill a cache, or go on filling it. Raises ValueError: the policy has no System 2, or `out` is needed;
    StaleCacheError: `out` holds a cache of something else; FileExistsError: it holds what another program wrote;
    OSError: it would not fit."""
    config, dataset = contents(options)
    if options.out is not None:
        check_kind(options.out, "a cache", own=MANIFEST)

    from video2act.training.cache_filling import fill_chosen  # torch: after the input was checked

    return fill_chosen(options, config, dataset=dataset)


def verify_cache(options: VerifyCacheOptions) -> str:
    """Read every episode and compare it with its checksums. Raises FileNotFoundError: there is no cache; ValueError:
    lists all that is wrong."""
    folder, spec = options.folder, load_spec(options.folder)
    copies = [path.parent for path in sorted(folder.glob(f"{COPIES}/*/{MANIFEST}"))]

    from video2act.data.cache import FeatureCache  # torch: after the manifest was read

    caches = [FeatureCache(each, load_spec(each)) for each in (folder, *copies)]
    found = (cache.verify(episode) for cache in caches for episode in range(cache.spec.num_episodes))
    faults = [fault for fault in found if fault]
    if faults:
        raise ValueError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  " + "\n  ".join(faults))
    written = f"{spec.num_episodes} episodes" + (f" and {len(copies)} varied copies of them" if copies else "")
    return f"{folder}: {written} as they were written; stage {spec.stage}, {spec.dtype}"
