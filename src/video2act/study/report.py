"""The report of a study."""

from collections.abc import Iterable
from pathlib import Path

from video2act.files.atomic import write_text
from video2act.study.jobs import StudyPlan
from video2act.study.results import read_results


def write_report(
    plan: StudyPlan, folder: Path, *, arms: Iterable[str] | None = None, seeds: Iterable[int] | None = None
) -> Path:
    config = plan.config
    results = read_results(plan, folder)
    chosen = list(arms or config.arms)
    lines = [f"# {config.name}", "", config.question, ""]
    lines.append("| arm | " + " | ".join(f"seed {seed}" for seed in config.seeds) + " |")
    lines.append("|" + "---|" * (len(config.seeds) + 1))
    for arm in chosen:
        cells = [
            f"{results[arm, seed].sum()}/{results[arm, seed].size}" if (arm, seed) in results else "-"
            for seed in config.seeds
        ]
        lines.append(f"| {config.title(arm)} | {' | '.join(cells)} |")
    write_text(folder / "table.md", "\n".join(lines) + "\n")
    return folder / "table.md"
