"""The sentences of a dataset, checked before training: an encoder that refuses one names its episode."""

from collections.abc import Callable, Iterable, Iterator

from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_reader import Dataset
from video2act.text.instruction import check_instruction


def first_episodes(datasets: Iterable[Dataset]) -> dict[str, str]:
    """Each distinct sentence, also those to be drawn from, and the first episode that has it."""
    places: dict[str, str] = {}
    for dataset in datasets:
        for i in range(len(dataset)):
            for sentence in dict.fromkeys((*dataset.episode(i).instruction, *dataset.sentences(i))):
                places.setdefault(sentence, f"episode {i}")
    return places


def check_sentences(datasets: Iterable[Dataset], max_bytes: int | None) -> None:
    """Raise DatasetError, with episode and sentence, for one that is empty or longer than `max_bytes` (None: any)."""
    hand_over(datasets, lambda sentences: [check_instruction(sentence, max_bytes) for sentence in sentences])


def hand_over(datasets: Iterable[Dataset], encode: Callable[[Iterable[str]], object]) -> None:
    """Let `encode` take the distinct sentences one by one. Raises DatasetError, with the episode, if it refuses one."""
    place = ""

    def sentences() -> Iterator[str]:
        nonlocal place
        for sentence, place in first_episodes(datasets).items():  # noqa: B007
            yield sentence

    try:
        encode(sentences())
    except ValueError as error:
        raise DatasetError(f"{place}: {error}" if place else str(error)) from error
