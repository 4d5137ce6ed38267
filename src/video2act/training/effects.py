"""Options of a training that could have no effect: they are refused, since who gives them expects one."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

from video2act.config import PolicyConfig, PretrainedBackboneConfig, TrainConfig, TuningConfig
from video2act.data.cache_manifest import CacheSpec

USUAL, FROZEN = TrainConfig(), TuningConfig()
OF_CLIPS = ("clip_shift_px", "clip_jitter")
"""fields of `TrainConfig` that vary the clips of System 2"""


def check_effects(
    config: PolicyConfig,
    training: TrainConfig,
    *,
    init: PathLike[str] | str | None,
    init_parts: tuple[str, ...],
    cache: PathLike[str] | str | None,
    live: bool,
) -> None:
    """Arguments as for `video2act.train`. Raises ValueError: one of them would have no effect; says why."""
    if init_parts and init is None:
        raise ValueError(
            f"init_parts {', '.join(init_parts)} says what is taken of init, which is not given, so all weights would "
            "be new; give init, or leave init_parts out"
        )
    tuning = FROZEN if config.system2 is None else config.system2.tuning
    is_tuned = tuning.method != "frozen"
    varied = [name for name in OF_CLIPS if getattr(training, name)]
    if config.system2 is None and varied:
        raise ValueError(f"{', '.join(varied)} varies the clips of System 2, which this policy has not; leave it out")
    no_system2 = "" if config.system2 else "this policy has no System 2"
    tuned = f"system2.tuning.method={tuning.method} runs System 2 at every step" if is_tuned else ""
    frozen = "" if is_tuned else "the video model is frozen (system2.tuning.method)"
    reasons = {
        "cache": no_system2 or tuned or ("live runs System 2 at every step" if live else ""),
        "live": no_system2 or tuned,
        "video_learning_rate": no_system2 or frozen,
        "video_batch_size": "" if training.video_loss_weight else "there is no video loss (video_loss_weight)",
        "clip_copies": no_cached_copies(varied) or tuned or ("live caches nothing" if live else ""),
        "validate_every": "" if training.validation_fraction else "no episodes are held out (validation_fraction)",
    }
    given = {name: getattr(training, name) != getattr(USUAL, name) for name in reasons if hasattr(training, name)}
    refuse(reasons, {**given, "cache": cache is not None, "live": live})
    if config.system2:
        check_tuning(tuning, is_published=isinstance(config.system2.backbone, PretrainedBackboneConfig))


def instruction_notes(training: TrainConfig, cache: CacheSpec) -> list[str]:
    """That drawn instructions do not reach System 2, which has read the recorded ones for its cache."""
    if not training.vary_instruction or not cache.has_read_text:
        return []
    return [
        f"vary_instruction is for System 1 alone: the cache (stage {cache.stage}) holds what System 2 saw with the "
        "recorded instructions. For System 2 to read the drawn ones, use live, or a cache of stage latents"
    ]


def no_cached_copies(varied: list[str]) -> str:
    """Why no varied copies of clips are cached, where nothing varies."""
    return "" if varied else f"no clips vary ({' and '.join(OF_CLIPS)} are 0)"


def check_tuning(tuning: TuningConfig, *, is_published: bool) -> None:
    """Raises ValueError: a field of `tuning` would have no effect on the video model."""
    lora = "" if tuning.method == "lora" else f"tuning.method is {tuning.method}, not lora"
    frozen = "tuning.method is frozen" if tuning.method == "frozen" else ""
    reasons = {
        "rank": lora,
        "alpha": lora,
        "gradient_checkpointing": frozen or ("" if is_published else "it is for published video models and small"),
    }
    given = {name: getattr(tuning, name) != getattr(FROZEN, name) for name in reasons}
    refuse({f"tuning.{name}": reason for name, reason in reasons.items()}, {f"tuning.{n}": g for n, g in given.items()})


def refuse(reasons: Mapping[str, Any], given: Mapping[str, bool]) -> None:
    """Raises ValueError for the first option that is given although there is a reason why it has no effect."""
    for name, reason in reasons.items():
        if reason and given[name]:
            raise ValueError(f"{name} would have no effect: {reason}; leave it out")
