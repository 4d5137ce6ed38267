"""What captions of a report say of its curves."""

import json
import re
from pathlib import Path

from video2act.evaluation.pages import losses
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
