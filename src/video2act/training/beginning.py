"""A policy that begins with weights of another one: those that fit by name and shape."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from video2act.config.checks import order_problem
from video2act.files.run_folder import ADAPTER, STATISTICS_FILE, WEIGHTS_FILE
from video2act.files.weights import read_tensors, shapes_of
from video2act.policy import Video2Act
from video2act.statistics import load_statistics, names_of

FROM_THE_DATA = ("normalize_state.", "normalize_action.")
"""weights that describe the new policy's own data"""

VIDEO_MODEL = "system2.backbone"
EVERYTHING = f"system1 system2 {VIDEO_MODEL}"
"""the parts of a policy, its video model named by itself"""

LISTED = 10
"""tensors of each kind that a report names"""


@dataclass(frozen=True)
class Beginning:
    """What a new policy took from another one, and what did not fit."""

    source: Path
    taken: tuple[str, ...]
    other_shapes: tuple[str, ...]
    """name, shape there and shape here"""
    only_there: tuple[str, ...]
    only_here: tuple[str, ...]
    """these keep their new weights"""
    kept: tuple[str, ...] = ()
    """of the video model that was given beside the source"""
    left_out: tuple[str, ...] = ()
    """not among the parts that were asked for: they stay as they were, new or of the video model that was given"""

    def __str__(self) -> str:
        lines = [f"begins with {len(self.taken)} tensors of {self.source}:"]
        lines += [f"  {count} of {part}" for part, count in _counts(self.taken).items()]
        for title, names in (
            ("of another shape, not taken", self.other_shapes),
            ("only there, not taken", self.only_there),
            ("only here, new", self.only_here),
            (f"kept from --video-model (to take them, too: --init-parts {EVERYTHING})", self.kept),
        ):
            if names:
                more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
                lines.append(f"  {len(names)} {title}: {', '.join(names[:LISTED])}{more}")
        if self.left_out:
            parts = ", ".join(f"{count} of {part}" for part, count in _counts(self.left_out).items())
            lines.append(f"  {len(self.left_out)} not among --init-parts, left as they were: {parts}")
        return "\n".join(lines)


def _counts(names: Sequence[str]) -> Counter[str]:
    return Counter(".".join(name.split(".")[:2]) for name in names)


def begin_from(
    policy: Video2Act, source: Path, *, parts: tuple[str, ...] = (), has_video_model: bool = False
) -> Beginning:
    """Fill a policy with another's weights where name and shape agree.

    Args:
        source: a run folder.
        parts: beginnings of names (`system1`, `system2.formers.motion`); empty: everything. Weights of a published
            video model are not in a run folder, and statistics stay those of the new data.
        has_video_model: the policy was given its video model, which it keeps unless `parts` names it.
    Raises:
        FileNotFoundError: the run has no weights.
        ValueError: the policy has no such part, nothing fits, or the joints stand in another order.
    """
    own = {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith(FROM_THE_DATA)}
    for part in parts:
        if not any(_is_below(name, part) for name in own):
            known = sorted({".".join(name.split(".")[:depth]) for name in own for depth in (1, 2)})
            raise ValueError(f"this policy has no part {part!r} to begin with; its parts are {', '.join(known)}")

    def chosen(name: str) -> bool:
        return not name.startswith(FROM_THE_DATA) and (not parts or any(_is_below(name, part) for part in parts))

    keeps = has_video_model and not any(_is_below(part, VIDEO_MODEL) for part in parts)
    found = {name: tensor for name, tensor in read_tensors(source / WEIGHTS_FILE).items() if chosen(name)}
    kept = tuple(name for name in found if keeps and _is_below(name, VIDEO_MODEL) and name in own)
    found = {name: tensor for name, tensor in found.items() if name not in kept}
    here, there = shapes_of(own), shapes_of(found)
    taken = [name for name in there if here.get(name) == there[name]]
    unfit = [f"{n} {list(there[n])} there, {list(here[n])} here" for n in there if n in here and n not in taken]
    only_there = [name for name in there if name not in here]
    if (source / ADAPTER).is_dir():
        only_there.append(f"{ADAPTER}/ (a LoRA)")
    only_here = tuple(name for name in here if name not in there and name not in kept and chosen(name))
    left_out = tuple(name for name in here if not chosen(name))
    beginning = Beginning(source, tuple(taken), tuple(unfit), tuple(only_there), only_here, kept, left_out)
    if not taken:
        listed = "; ".join((*unfit, *only_there)[:LISTED]) or "it has no such part"
        raise ValueError(f"nothing of {source} fits this policy: {listed}")
    if any(_is_below(name, "system1") for name in taken):
        _check_order(policy, source)
    policy.load_state_dict(policy.state_dict() | {name: found[name] for name in taken})
    return beginning


def _check_order(policy: Video2Act, source: Path) -> None:
    """Raise ValueError where the weights of the source would read one joint as another."""
    own, there = names_of(policy.statistics), names_of(load_statistics(source / STATISTICS_FILE))
    for what in ("state", "action"):
        if problem := order_problem(what, there[what], own[what]):
            remedy = "take System 2 alone (--init-parts system2), or record the data in that order"
            raise ValueError(f"--init {source}: {problem}; {remedy}")


def _is_below(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
