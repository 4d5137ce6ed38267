"""The report of a study, also of one that is partly done: `table.md`, `results.json`, plots and `study.html`.

The primary contrast stands first, whatever it says. What is missing is listed.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from video2act.config.study import ArmPlan, Contrast, Slice
from video2act.evaluation.comparison import (
    ArmRate,
    Difference,
    cannot_be_told_apart,
    correct,
    difference,
    rate,
    told_by,
    untested_pairs,
)
from video2act.files.atomic import write_text
from video2act.study.elsewhere import Elsewhere, commands, elsewhere_notes, joined, named_first
from video2act.study.jobs import StudyJob, StudyPlan
from video2act.study.named import Named, named_with
from video2act.study.plots import draw
from video2act.study.records import MADE_FROM, read_record
from video2act.study.results import (
    Results,
    left_out_note,
    origin_notes,
    read_evaluations,
    results_of,
    size_note,
    version_notes,
)
from video2act.study.sections import (
    Section,
    best_in_words,
    difference_sections,
    goal_words,
    in_words,
    rate_cells,
    to_markdown,
    to_page,
    untested_in_words,
)
from video2act.viz.page import Page

Records = Sequence[tuple[StudyJob, dict[str, Any]]]
"""jobs that were begun, and what is recorded of them"""


def write_report(
    plan: StudyPlan,
    folder: Path,
    *,
    part: str | None = None,
    is_last: bool = True,
    elsewhere: Sequence[Elsewhere] = (),
) -> Path:
    """Write what is known so far; returns the path of `table.md`.

    Args:
        part: the slice that it is of. The goal is the whole study's, and is not judged then.
        is_last: draw the plots and write `study.html`, too.
        elsewhere: results of other machines, which count like those of this one.
    Raises:
        ValueError: an evaluation was made on other scenes.
    """
    config, seeds = plan.config, plan.config.seeds
    arms = (config.slices[part].arms if part else ()) or tuple(config.arms)
    evaluations = read_evaluations(plan, folder)
    here = results_of(plan, evaluations)
    found = joined(here, elsewhere)
    results = {arm: found[arm] for arm in arms if arm in found}
    rates = {arm: rate(outcomes) for arm, outcomes in results.items()}
    primary, secondary = _differences(plan, results)
    records = [(job, record) for job in plan.jobs.values() if (record := read_record(folder, job))]
    costs, made_from, notice = _costs(records), _made_from(records), _slice(plan, part)
    done = {arm: tuple(outcomes) for arm, outcomes in found.items()}
    named = named_with(folder, config.primary, done=done, elsewhere=named_first(elsewhere))
    sources = [source for other in elsewhere for source in other.sources]
    notes = (left_out_note(plan, folder), size_note(plan, evaluations))
    notes += (*version_notes(plan, evaluations), *origin_notes(plan, evaluations))
    notes += tuple(elsewhere_notes(elsewhere, here, made_from=made_from))
    sections = [
        _primary(plan, results, named, has_goal=part is None),
        _arms(plan, results, rates=rates, seeds=seeds, notes=notes),
        *_contrasts(plan, primary, secondary, reasons=tuple(_reasons(plan, results, has_goal=part is None))),
        _plans(plan, arms),
        _missing(plan, results, arms=arms, seeds=seeds),
        _compute([costs, *(source.compute for source in sources)]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "table.md", to_markdown(config.name, [Section("", (*notice, config.question)), *sections]))
    content = {
        "study": config.name,
        "slice": part,
        "primary": primary and primary.to_json(),
        "secondary": [each.to_json() for each in secondary],
        "arms": {arm: vars(rates[arm]) for arm in results},
        # one letter for each scene, so that anybody can compute it again
        "scenes": {
            arm: {seed: "".join("01"[int(w)] for w in won) for seed, won in results[arm].items()} for arm in results
        },
        "commands": {arm: commands(plan, arm) for arm in results},
        "named": [asdict(each) for each in named],
        "made_from": made_from,
        "compute": costs,
        "elsewhere": [asdict(source) for source in sources],
    }
    write_text(folder / "results.json", json.dumps(content, indent=2) + "\n")
    if is_last and results:
        titles = {arm: config.title(arm) for arm in rates}
        figures = draw(folder / "plots", titles, rates=rates, differences=[*([primary] if primary else []), *secondary])
        page = Page(config.name, config.question)
        to_page(page, [Section("", notice), sections[0]])
        for figure in figures:
            page.figure(figure.read_bytes(), figure.stem)
        to_page(page, sections[1:])
        page.write(folder / "study.html")
    return folder / "table.md"


def _differences(plan: StudyPlan, results: Results) -> tuple[Difference | None, list[Difference]]:
    """The primary contrast, and the secondary ones with their p corrected for all that the file names."""
    named = plan.config.secondary
    found = [each for contrast in named if (each := _difference(plan, results, contrast))]
    return _difference(plan, results, plan.config.primary), correct(found, num_named=len(named))


def _difference(plan: StudyPlan, results: Results, contrast: Contrast) -> Difference | None:
    """None: no training seed of both arms is done."""
    pair = [(_title(plan, name), results.get(name, {})) for name in (contrast.arm, contrast.than)]
    return difference(*pair) if set(pair[0][1]) & set(pair[1][1]) else None


def _title(plan: StudyPlan, arm: str) -> str:
    """Also of an arm that the file no longer has."""
    return plan.config.title(arm) if arm in plan.config.arms else arm


def _slice(plan: StudyPlan, part: str | None) -> tuple[str, ...]:
    """That a report is of a slice, and how that differs from the study."""
    if part is None:
        return ()
    own = _given(plan.config.slices[part], ("arms", "seeds", "changes"))
    said = f"**These are numbers of the slice {part}, not of the whole study.** Its own: {own}."
    has_goal = plan.config.primary.goal_points is not None
    return (said + " The goal is the whole study's, and is not judged here." * has_goal,)


def _primary(plan: StudyPlan, results: Results, named: Sequence[Named], *, has_goal: bool) -> Section:
    contrast = plan.config.primary
    title, text = "Primary contrast, named before the run", [_found(plan, results, contrast, has_goal=has_goal)]
    text += [f"It was chosen because it shows this: {contrast.why}."] if contrast.why else []
    first, last = (named[0], named[-1]) if named else (None, None)
    if first and first is last and first.num_done:
        seeds = "one of its training seeds was" if first.num_done == 1 else f"{first.num_done} training seeds were"
        title = f"Primary contrast, named when {seeds} done already"
        text.append("Whether their results were known then, nothing here can tell.")
    if first and last and first is not last:
        title = f"Primary contrast, CHANGED when {last.num_done} evaluations were done"
        old = f"{first.words}. {_found(plan, results, first.contrast, has_goal=has_goal)}"
        is_back = first.words == last.words
        text.append(
            f"It was named at {last.time}, with the results in view, and says less than one that was named before. The "
            f"first, of {first.time}: {'the same; there was another in between' if is_back else old}"
        )
    return Section(title, tuple(text))


def _found(plan: StudyPlan, results: Results, contrast: Contrast, *, has_goal: bool) -> str:
    """It is judged, against its goal too, when all seeds are done."""
    found = _difference(plan, results, contrast)
    if found is None:
        return f"**{_title(plan, contrast.arm)} - {_title(plan, contrast.than)}: not known yet.**"
    return in_words(found, contrast.goal_points if has_goal else None, num_planned=len(plan.config.seeds))


def _is_whole(plan: StudyPlan, results: Results, contrast: Contrast) -> bool:
    """All training seeds of both arms are done."""
    return all(seed in results.get(arm, {}) for arm in (contrast.arm, contrast.than) for seed in plan.config.seeds)


def _reasons(plan: StudyPlan, results: Results, *, has_goal: bool) -> Iterator[str]:
    """Why secondary contrasts were chosen, and their goals."""
    for contrast in plan.config.secondary:
        found, goal = _difference(plan, results, contrast), contrast.goal_points
        said = [f"{contrast.why}."] * bool(contrast.why)
        if goal is not None and has_goal and found and _is_whole(plan, results, contrast):
            said.append(goal_words(found, goal))
        if said and found:
            yield f"{_title(plan, contrast.arm)} - {_title(plan, contrast.than)}: {' '.join(said)}"


def _arms(
    plan: StudyPlan, results: Results, *, rates: dict[str, ArmRate], seeds: Collection[int], notes: Sequence[str]
) -> Section:
    columns = ("arm", "mean", "95 % interval", "interval by", *(f"seed {seed}" for seed in seeds))
    rows = []
    for arm, outcomes in results.items():
        counts = [f"{outcomes[seed].sum()}/{outcomes[seed].size}" if seed in outcomes else "-" for seed in seeds]
        rows.append((*rate_cells(plan.config.title(arm), rates[arm]), *counts))
    text = ("Successes of each training seed on the same scenes.",) if rows else ("No evaluation is done yet.",)
    if len(results) > 1:
        left = [(plan.config.title(a), plan.config.title(b)) for a, b in untested_pairs(results)]
        best = _best(plan, results)
        text += (f"{best} The primary contrast is judged by itself, uncorrected.", untested_in_words(left))
    return Section("Arms", tuple(filter(None, (*text, *notes))), columns, tuple(rows))


def _best(plan: StudyPlan, results: Results) -> str:
    planned = len(plan.config.seeds)
    if any(len(outcomes) < planned and not plan.config.arms[arm].results for arm, outcomes in results.items()):
        return "Which arms may be the best is not judged before all seeds of these are done."
    return best_in_words([plan.config.title(arm) for arm in cannot_be_told_apart(results)], tests=told_by(results))


def _contrasts(
    plan: StudyPlan, primary: Difference | None, secondary: Sequence[Difference], *, reasons: Sequence[str]
) -> list[Section]:
    found, number = [*([primary] if primary else []), *secondary], len(plan.config.secondary)
    family = f"Holm corrects the others for all {number} that the file names; a missing one counts as p = 1. "
    text = (
        f"Paired by training seed: sign-flip test, t interval. The first is the primary one. {family * (number > 0)}"
        "Seeds needed: for a power of .8, if the difference and its spread are as measured; where p (Holm) is given, "
        "of the corrected test; - with fewer than three seeds, or no difference.",
    )
    scenes = ("For each training by itself, which says nothing about other trainings.",)
    return difference_sections(
        Section("Contrasts", (*text, *reasons)), Section("The same contrasts over scenes", scenes), found=found
    )


def _plans(plan: StudyPlan, arms: Collection[str]) -> Section:
    """The fields that the file gives to each arm."""
    names = [field.name for field in fields(ArmPlan) if field.name not in ("title", "preset")]
    made = {name: plan.config.arms[name] for name in arms}
    rows = [(plan.config.title(name), name, arm.start or "-", _given(arm, names)) for name, arm in made.items()]
    return Section("What each arm is", (), ("arm", "in the file", "preset", "its own"), tuple(rows))


def _given(of: ArmPlan | Slice, names: Sequence[str]) -> str:
    """The fields that are set, in one line."""
    values = {name: getattr(of, name) for name in names}
    return "; ".join(f"{name}: {_written(value)}" for name, value in values.items() if value)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{path} {json.dumps(each)}" for path, each in value.items())
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _missing(plan: StudyPlan, results: Results, *, arms: Collection[str], seeds: Collection[int]) -> Section:
    missing = {arm: [seed for seed in seeds if seed not in results.get(arm, {})] for arm in arms}
    listed = tuple(
        f"{plan.config.title(arm)}: seed{'s' * (len(left) > 1)} {', '.join(map(str, left))}"
        for arm, left in missing.items()
        if left
    )
    return Section("Missing", listed or ("Nothing: every arm and seed is done.",))


def _costs(records: Records) -> dict[str, Any]:
    """CPU-seconds by kind of job, attempts that were interrupted and their seconds, machines and versions."""
    spent, machines, versions = dict[str, float](), dict[str, Any](), dict[str, list[str]]()
    cut = list[float]()
    for job, record in records:
        for attempt in record["attempts"]:
            if "cpu_seconds" in attempt:
                spent[job.kind] = round(spent.get(job.kind, 0.0) + attempt["cpu_seconds"], 3)
            elif "seconds" in attempt:
                cut.append(attempt["seconds"])
            machines[attempt["machine"]["host"]] = attempt["machine"]
        for name, version in record.get("versions", {}).items():
            found = versions.setdefault(name, [])
            found += [version] * (bool(version) and version not in found)
    interrupted = {"attempts": len(cut), "seconds": round(sum(cut), 3)}
    return {
        "cpu_seconds": spent,
        "interrupted": interrupted,
        "machines": list(machines.values()),
        "versions": {name: " and ".join(found) for name, found in versions.items()},
    }


def _made_from(records: Records) -> dict[str, str]:
    """The fingerprints of datasets and video models: whether a study elsewhere had the same."""
    read = [record.get(MADE_FROM, {}) for _, record in records if record.get("finished")]
    places = {place: found for each in read for place, found in each.items()}
    return {place: found for place, found in sorted(places.items()) if not place.startswith("policies/")}


def _compute(machines: Sequence[dict[str, Any]]) -> Section:
    """Args: machines: what each spent; this one first."""
    told = [_spent(costs) for costs in machines if costs["machines"]]
    return Section("Compute", tuple(told or ["Nothing was computed here."]))


def _spent(costs: dict[str, Any]) -> str:
    spent = ", ".join(f"{kind} {seconds / 3600:.2f}" for kind, seconds in costs["cpu_seconds"].items())
    machines = "; ".join(f"{each['cpu']}, {each['cores']} cores" for each in costs["machines"])
    versions = ", ".join(f"{name} {version}" for name, version in costs["versions"].items() if version)
    cut = costs["interrupted"]
    told = f"CPU-hours: {spent or 'none'}." + (
        f" {cut['attempts']} attempt{'s' * (cut['attempts'] > 1)} ended together with the study, after "
        f"{cut['seconds'] / 3600:.2f} hours, not counted in these numbers." * bool(cut["attempts"])
    )
    return f"{told} Machine: {machines}. Versions: {versions}."
