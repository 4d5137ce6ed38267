"""What a report says of its curves and counts."""

import json
import re
from pathlib import Path

from evaluations import evaluation_info, write_info
from video2act.evaluation.pages import incidents, losses, timing
from video2act.evaluation.results import Results
from video2act.viz.page import Page


def test_a_curve_that_is_averaged_is_named(tmp_path: Path):
    """The caption went by the last line drawn, so a few validation losses hid that the loss was averaged."""
    lines = [{"step": step, "loss": 1.0, "gradient_norm": 1.0, "learning_rate": 0.1} for step in range(4000)]
    lines += [{"step": step, "validation_loss": 1.0} for step in range(0, 4000, 500)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = Page("losses", "")
    losses(page, tmp_path, title="Policy")
    page.write(tmp_path / "page.html")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", (tmp_path / "page.html").read_text())
    assert captions == [
        "Policy: loss, logarithmic; of loss, each point is the mean of 10 values",
        "Policy: gradient norm, logarithmic; of gradient norm, each point is the mean of 10 values",
        "Policy: learning rate; of learning rate, each point is the mean of 10 values",
    ]


def test_without_steps_the_counts_are_still_told(tmp_path: Path):
    """Without `steps.csv` a report said that no action was held and no control step late, against `eval_info.json`."""
    info = evaluation_info({"fake:a": [True, False]})
    page = Page("nothing happened")
    incidents(page, Results(write_info(tmp_path / "calm", info)))
    assert "None, in 2 episodes: no action was held or clamped, no control step was late." in page.html()
    info["runtime"] |= {"held_steps": 5, "clamped_steps": 0}
    info["missed_deadlines"] = 7
    page = Page("something did")
    results = Results(write_info(tmp_path / "busy", info))
    incidents(page, results)
    timing(page, results, chosen=[])
    text = page.html()
    assert "None, in" not in text
    assert "<td>control steps that were held</td><td>5</td>" in text
    assert "<td>control steps that were late</td><td>7</td>" in text
    assert "clamped" not in text
    assert "steps.csv is missing, so when these happened is not known." in text
    assert "steps.csv is missing, so the course of single episodes is not known." in text
