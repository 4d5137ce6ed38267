"""`video2act label`: actions for videos that have none, by an inverse-dynamics model.

The model is trained on the episodes with recorded actions and measured on some that it never saw, beside the baseline
that always predicts the mean action. Then it labels every episode of the videos, into a new dataset. Training a policy
on these labels is VPT's recipe (arXiv 2206.11795), and the control that every use of action-free video must beat (arXiv
2602.02762).

    OUT           a LeRobotDataset v3.0: the videos' episodes, with labels as `action`; `meta/video2act.json` says so
    OUT.model/    the model: inverse_dynamics.json, model.safetensors, and the record of its training
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from video2act.config import LETTERBOX, InverseTrainConfig
from video2act.config.calls import takes
from video2act.config.training_options import LabelOptions
from video2act.data import Dataset, load_origin, open_datasets, parse_episodes
from video2act.data.labels import LABELS, Labels, label_notes, labelled_form, load_labels, recorded_parts
from video2act.data.lerobot_format import INFO_PATH, load_info
from video2act.data.lerobot_writer import empty_info
from video2act.data.opening import SAME, AnyDataset, as_dataset, name_problem
from video2act.data.sentences import check_sentences
from video2act.files.differences import differences
from video2act.frames import fit_problem
from video2act.training.resuming import check_out, differs_from_finished, settings_of
from video2act.training.trackers import check_tracker

HANDFUL = 5
"""episodes with recorded actions, at least"""
BOTH = "both must be of one robot"


def main(options: LabelOptions) -> None:
    """Label as the command line asks."""
    episodes = parse_episodes(options.episodes) if options.episodes else None
    names = ("out", "cameras", "use_state", "model", "training")
    label(
        open_datasets(options.data, episodes=episodes, state=options.state, action=options.action),
        open_datasets(options.videos, state=options.state if options.use_state else None),
        **{name: getattr(options, name) for name in names},
    )


@takes(InverseTrainConfig)
def label(
    data: AnyDataset,
    videos: AnyDataset,
    *,
    out: Path | str,
    cameras: Sequence[str] | None = None,
    use_state: bool = False,
    model: Path | str | None = None,
    training: InverseTrainConfig | None = None,
) -> Labels | None:
    """Train the inverse-dynamics model, unless it is trained already, and write the labelled dataset. The same call
    goes on after an interruption, and leaves finished labels as they are.

    Args:
        data: one or several datasets of a robot with recorded actions (`open_datasets`), or a folder.
        videos: of the same robot, without actions; likewise.
        out: dataset folder to write.
        cameras: those that the model reads; all, if None.
        use_state: the model reads the state too.
        model: the model's folder; `out` with `.model` behind its name, if None.
    Returns:
        What is recorded of the labels; None in other processes than the first.
    Raises:
        FileExistsError: `out` holds something else.
        ValueError: too few episodes; data and videos that do not go together.
        TrainingPausedError: a signal came, or the time given by `max_minutes` is over.
    """
    data, videos = as_dataset(data), as_dataset(videos)
    out, config = Path(out), training or InverseTrainConfig()
    folder = out.with_name(f"{out.name}.model") if model is None else Path(model)
    looks = tuple(cameras or data.cameras)
    _check(data, videos, cameras=looks, chosen=cameras is not None, use_state=use_state, config=config)
    identity = {"data": data.fingerprint, "cameras": list(looks), "use_state": use_state}
    settings = {"videos": videos.fingerprint, "model": settings_of(config, identity)}
    if _is_finished(out, settings, total=len(videos)):
        labels = load_labels(out)
        print(f"note: {out} holds these labels already: {labels}")
        return labels
    is_trained = _is_trained(folder, settings["model"])
    if not is_trained:
        check_tracker(config.track)
        check_out(folder, resume=True)

    from video2act.training.labelling import write_labels  # torch: after the input was checked

    where: dict[str, Any] = {"out": out, "folder": folder, "identity": identity, "settings": settings}
    return write_labels(data, videos, config=config, is_trained=is_trained, **where)


def _check(
    data: Dataset,
    videos: Dataset,
    *,
    cameras: Sequence[str],
    chosen: bool,
    use_state: bool,
    config: InverseTrainConfig,
) -> None:
    """Raise ValueError where nothing can be learned from the data, or not for these videos."""
    if data.action_dim is None:
        raise ValueError("label learns from recorded actions, but the data have none; name datasets that have")
    if notes := label_notes(data):
        raise ValueError(f"label learns from recorded actions, but {notes[0]}; name the recorded ones")
    if len(data) < HANDFUL:
        raise ValueError(f"label needs at least {HANDFUL} episodes with recorded actions, got {len(data)}; record more")
    if videos.action_dim is not None:
        raise ValueError(
            f"{recorded_parts(videos)[0].root} has actions already; name datasets without actions as --videos"
        )
    for word, remedy in (("robot", BOTH), ("fps", BOTH), ("orientation", "turn the pictures of one")):
        ours, theirs = getattr(data, word), getattr(videos, word)
        if ours != theirs:
            raise ValueError(f"{word} is {ours} in the data and {theirs} in the videos; {remedy}")
    if not chosen and set(data.cameras) != set(videos.cameras):
        ours, theirs = ", ".join(data.cameras), ", ".join(videos.cameras)
        raise ValueError(f"the data's cameras are {ours}, the videos' {theirs}; choose common ones with --cameras")
    for camera in cameras:
        for name, dataset in (("data", data), ("videos", videos)):
            if camera not in dataset.cameras:
                raise ValueError(
                    f"the {name} have no camera {camera!r}; their cameras are {', '.join(dataset.cameras)}"
                )
        ours, theirs = data.image_size(camera), videos.image_size(camera)
        if ours != theirs:
            raise ValueError(f"camera {camera!r}: height and width are {ours} in the data, {theirs} in the videos")
        if problem := fit_problem(ours, (config.image_px, config.image_px), rule=LETTERBOX):
            raise ValueError(f"camera {camera!r}: {problem}; lower --image-px, or record larger frames")
    if not cameras:
        raise ValueError("the data have no camera, so there is nothing to see an action in")
    if use_state and (not data.state_dim or data.state_dim != videos.state_dim):
        problem = (
            f"--use-state: the state has {data.state_dim} numbers in the data and {videos.state_dim} in the videos"
        )
        raise ValueError(f"{problem}; leave it out")
    for one, other in product(recorded_parts(data), recorded_parts(videos)) if use_state else ():
        names = one.info.state_names, other.info.state_names
        if problem := name_problem("state", *names, words=("the data", "the videos")):
            raise ValueError(f"--use-state: {problem}; leave it out, or record them alike. {SAME}")
    try:  # what can be read cannot always be written
        check_sentences([videos], None)
        empty_info(**labelled_form(data, videos))
    except ValueError as error:
        roots = ", ".join(str(part.root) for part in recorded_parts(videos))
        raise ValueError(f"the videos of {roots} cannot be labelled: {error}") from error


def _is_finished(out: Path, settings: dict[str, Any], *, total: int) -> bool:
    """Whether all these labels are there. Raises FileExistsError or DatasetError unless they can be written there, or
    go on."""
    if not out.exists() or (out.is_dir() and not any(entry.name != ".staging" for entry in out.iterdir())):
        return False
    if not (out / INFO_PATH).is_file() or LABELS not in load_origin(out):
        raise FileExistsError(f"{out} exists and holds no labels that could be continued; choose another folder")
    origin = load_origin(out)
    if changed := differences({name: origin.get(name) for name in settings}, settings, words=("then", "now")):
        raise FileExistsError(f"{out} was labelled otherwise ({'; '.join(changed)}); choose another folder")
    return load_info(out).total_episodes >= total


def _is_trained(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this model, finished. Raises FileExistsError: it holds another one."""
    changed = differs_from_finished(folder, settings)
    if changed:
        problem = f"{folder} holds another inverse-dynamics model ({'; '.join(changed)})"
        raise FileExistsError(f"{problem}; name another folder with --model")
    if changed is not None:
        print(f"note: {folder} holds the trained model, which is used")
    return changed is not None
