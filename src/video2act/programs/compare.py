"""`video2act compare`: two or more evaluations on the same scenes, with tests that are paired.

Each argument is one arm: an evaluation, or several of the same arm with other training seeds, joined by commas. They
are paired by training seed where every arm has the same ones, and else in this order, which is said. A folder with one
evaluation below it (RUN, RUN/eval) stands for it. Evaluations on other scenes are refused, with what differs. An arm is
called by its (first) run folder.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from video2act.config.checks import check
from video2act.config.study import CompareOptions
from video2act.files.atomic import write_text
from video2act.files.evaluation_folder import INFO_FILE, env_of, evaluations_below, newest_evaluation, read_evaluation
from video2act.files.run_folder import CONFIG_FILE
from video2act.study.origins import (
    UNKNOWN,
    Evaluated,
    check_own_trainings,
    run_folder,
    seeds_differ,
    settings_differ,
    training_seed,
    trainings_differ,
    unknown_trainings,
    versions_differ,
)
from video2act.study.results import Results, scene_results


def compare(evaluations: Sequence[Path | str], *, out: Path | None = None) -> str:
    """Compare evaluations, and write the numbers as json if `out` is given.

    Returns:
        The comparison as markdown.
    Raises:
        FileNotFoundError: a folder holds no evaluation.
        ValueError: they were made on other scenes or in other environments; arms have other numbers of evaluations; a
            folder holds several evaluations, or one is named twice.
    """
    options = CompareOptions(evaluations=tuple(map(Path, evaluations)), out=out)
    words = [str(arm).split(",") for arm in options.evaluations]
    listed = ", ".join(map(str, options.evaluations))
    check(all(part.strip() for arm in words for part in arm), f"an empty name in {listed}")
    named = [[Path(part) for part in arm] for arm in words]
    check(out is None or not out.is_dir(), f"out={out} is a folder; name a file for the numbers")
    check(out is None or out.name != INFO_FILE, f"out={out} has the name of an evaluation; choose another")
    folders = _evaluations([place for arm in named for place in arm])
    whole = [folders[place].resolve() for arm in named for place in arm]
    twice = next((str(place) for place in whole if whole.count(place) > 1), "")
    check(not twice, f"an evaluation is named twice in {listed}: {twice}; name it once")
    found = [[(folders[place], read_evaluation(folders[place])) for place in arm] for arm in named]
    for arm in found:
        check_own_trainings(arm)
    arms, notes = _results(dict(zip(_labels([first for first, *_ in found]), found, strict=True)))
    # scipy: after the input was checked
    from video2act.evaluation.comparison import cannot_be_told_apart, correct, difference, rate, told_by
    from video2act.study.sections import (
        Section,
        best_in_words,
        difference_sections,
        found_in_words,
        rate_cells,
        to_markdown,
    )

    rates = {name: rate(outcomes) for name, outcomes in arms.items()}
    pairs = [difference((a, arms[a]), (b, arms[b])) for a, b in combinations(arms, 2)]
    pairs = correct(pairs) if len(pairs) > 1 else pairs
    corrected = (f"p (Holm) and the seeds needed are corrected for all {len(pairs)} pairs.",) * (len(pairs) > 1)
    told = cannot_be_told_apart(arms)
    sections = [
        Section("", found_in_words(pairs)),
        Section(
            "Arms", notes, ("arm", "mean", "95 % interval", "interval by"), tuple(rate_cells(n, rates[n]) for n in arms)
        ),
        *difference_sections(Section("Over training seeds", corrected), Section("Over scenes"), found=pairs),
        Section("", (best_in_words(told, tests=told_by(arms)),)),
    ]
    if out is not None:
        numbers = {
            "arms": {name: asdict(each) for name, each in rates.items()},
            "pairs": [pair.to_json() for pair in pairs],
            "cannot_be_told_apart": told,
            "notes": notes,
        }
        write_text(out, json.dumps(numbers, indent=2) + "\n")
    return to_markdown("", sections)


def _evaluations(places: Sequence[Path]) -> dict[Path, Path]:
    """The folder of each evaluation, or of the only one below a folder. Raises ValueError where a run has none, or a
    folder several: which one is meant is for the user to say."""
    found = {place: evaluations_below(place) for place in places}
    unclear = [
        place for place, below in found.items() if len(below) > 1 or (not below and (place / CONFIG_FILE).is_file())
    ]
    newest = [
        newest_evaluation(found[each]) or f"what `video2act eval {each} --env ...` will write" for each in unclear
    ]
    counts = ", ".join(f"{each} has {len(found[each])}" for each in unclear)
    named = ", ".join(map(str, newest))
    check(not unclear, f"one evaluation of each is compared, but {counts}; name one of each: {named}")
    return {place: below[0] if below else place for place, below in found.items()}


def _results(found: dict[str, list[Evaluated]]) -> tuple[Results, tuple[str, ...]]:
    """Success of each scene, and how the evaluations differ otherwise. Raises ValueError: they cannot be paired."""
    counts = {name: len(entries) for name, entries in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ValueError(f"every arm needs an evaluation for each training seed, got {listed}")
    (first, one), *_ = next(iter(found.values()))
    seeds, pairing = _training_seeds(found)
    arms, notes = Results(), [pairing]
    for name, entries in found.items():
        for seed, (path, info) in zip(seeds[name], entries, strict=True):
            if info["settings"]["env"] != one["settings"]["env"]:
                theirs, ours = info["settings"]["env"], one["settings"]["env"]
                order = ", in the same order" if sorted(theirs) == sorted(ours) else ""
                problem = f"{path} was evaluated in {', '.join(theirs)}, {first} in {', '.join(ours)}"
                raise ValueError(f"{problem}; evaluate all in the same environments{order}")
            arms.setdefault(name, {})[seed] = scene_results(info, one["per_task"][0]["metrics"]["seeds"], where=path)
            notes += settings_differ((first, one), (path, info))
    notes += versions_differ((str(path), info) for entries in found.values() for path, info in entries)
    for entries in found.values():
        notes += seeds_differ(entries)
    notes += unknown_trainings([each for entries in found.values() for each in entries])
    notes += trainings_differ([entries[0] for entries in found.values()])
    notes.append(_same_policy({name: entries[0][1] for name, entries in found.items()}))
    if len(tasks := one["per_task"]) > 1:
        listed = ", ".join(map(env_of, tasks))
        notes.append(f"The {len(tasks)} tasks count together, each scene alike: {listed}. `video2act report` has each.")
    return arms, tuple(filter(None, dict.fromkeys(notes)))


def _same_policy(firsts: dict[str, dict[str, Any]]) -> str:
    """Which arms are of one policy, by their first evaluations."""
    names: dict[str, list[str]] = {}
    for name, info in firsts.items():
        names.setdefault(info.get("policy_fingerprint") or name, []).append(name)
    same = [" and ".join(each) for each in names.values() if len(each) > 1]
    return f"Of the same policy: {'; '.join(same)}." * bool(same)


def _training_seeds(found: dict[str, list[Evaluated]]) -> tuple[dict[str, list[int]], str]:
    """The training seeds of each arm where every arm has the same ones; else numbers in the order given, and a note."""
    seeds = {name: [training_seed(*entry) for entry in entries] for name, entries in found.items()}
    first, *others = [sorted(own) for own in seeds.values()]
    if UNKNOWN not in first and len(set(first)) == len(first) and all(own == first for own in others):
        return seeds, ""
    words = {name: ["unknown" if seed == UNKNOWN else str(seed) for seed in own] for name, own in seeds.items()}
    listed = "; ".join(f"{name}: {', '.join(own)}" for name, own in words.items())
    note = f"Trainings are paired in the order given and numbered from 0. Their seeds are {listed}."
    return {name: list(range(len(own))) for name, own in seeds.items()}, note


def _labels(firsts: Sequence[Evaluated]) -> list[str]:
    """What each arm is called, by its first evaluation: the run folder; where several are of one run, the evaluation,
    too. Both without the folders that all share."""
    runs = [_run_name(path, info) for path, info in firsts]
    folders = list(dict.fromkeys(run for run in runs if "://" not in run))
    short = {run: run for run in runs} | dict(zip(folders, _short(folders), strict=True))
    labels = [short[run] for run in runs]
    for run in short:
        own = [number for number, each in enumerate(runs) if each == run]
        names = _short([str(firsts[number][0].resolve()) for number in own])
        for number, name in zip(own, names, strict=True):
            labels[number] += f"/{name}" * (len(own) > 1)
    return labels


def _run_name(path: Path, info: dict[str, Any]) -> str:
    """Where the policy of an evaluation is, or was; where it was served, its address."""
    run, named = run_folder(path, info), info["settings"]["run"]
    return str(run.resolve()) if run else named or str(path.resolve())


def _short(names: list[str]) -> list[str]:
    """Paths without the folders that all of them share."""
    if not names:
        return []
    parts = [Path(name).parts for name in names]
    shared = 0
    while all(len(each) > shared + 1 and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    ends = 0
    while all(len(each) > shared + ends + 1 and each[-1 - ends] == parts[0][-1 - ends] for each in parts):
        ends += 1
    return [str(Path(*each[shared : len(each) - ends])) for each in parts]
