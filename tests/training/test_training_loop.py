"""The loop itself, on a model of one layer: what is written, what is refused, and that a resumed run is an
uninterrupted one."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launched import launch_two
from video2act.config import OptimizationConfig
from video2act.training.loop import TrainingLoop
from video2act.training.pause import TrainingPausedError

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CONFIG = OptimizationConfig(
    num_steps=10, batch_size=4, warmup_steps=2, save_every=3, learning_rate=0.1, mixed_precision="no"
)
Inputs = Callable[[int], tuple[Any, ...]]


class Regression(nn.Module):
    """Forward returns the loss. Dropout draws from the global generator; `frozen` must stay as it is."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.dropout = nn.Dropout(dropout)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.linear(self.dropout(x)) * self.frozen - y).square().mean()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)


def killed_at(last: int) -> Inputs:
    def inputs(step: int) -> tuple[Tensor, Tensor]:
        if step == last:
            raise KeyboardInterrupt
        return batch(step)

    return inputs


def fit(
    folder: Path,
    config: OptimizationConfig = CONFIG,
    resume: bool = False,
    inputs: Inputs = batch,
    module: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Train; the weights followed by their moving average."""
    module = module or Regression(dropout=0.3)
    loop = TrainingLoop(module, config, folder=folder, resume=resume)
    loop.run(inputs, "test")
    average = loop.averaged_weights()
    loop.finish()
    return {**{f"last.{name}": tensor.clone() for name, tensor in module.state_dict().items()}, **average}


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


class TestRun:
    def test_it_learns_and_writes_every_step_down(self, tmp_path: Path):
        fit(tmp_path / "run", inputs=lambda step: batch(0), module=Regression())
        lines = metrics(tmp_path / "run")
        assert [line["step"] for line in lines] == list(range(10))
        assert set(lines[0]) == {"step", "loss", "gradient_norm", "learning_rate"}
        assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
        assert all(line["gradient_norm"] > 0 for line in lines)
        assert list((tmp_path / "run" / "tensorboard").iterdir())

    def test_a_script_finds_whether_it_is_finished(self, tmp_path: Path):
        """Under accelerate launch and torchrun the exit code is 1 for an error and for a piece (docs/scaling.md)."""
        with pytest.raises(TrainingPausedError):
            fit(tmp_path / "run", replace(CONFIG, max_minutes=1e-9))
        assert '"finished": true' not in (tmp_path / "run" / "training.json").read_text()
        fit(tmp_path / "run", resume=True)
        assert '"finished": true' in (tmp_path / "run" / "training.json").read_text()

    def test_nothing_only_needed_to_resume_is_left_behind(self, tmp_path: Path):
        fit(tmp_path / "run")
        assert not (tmp_path / "run" / "checkpoints").exists()

    def test_what_needs_no_gradient_is_left_alone(self, tmp_path: Path):
        weights = fit(tmp_path / "run")
        assert torch.equal(weights["frozen"], torch.ones(2))
        assert not torch.equal(weights["linear.weight"], Regression().linear.weight)

    def test_the_learning_rate_rises_and_falls(self, tmp_path: Path):
        fit(tmp_path / "run")
        rates = [line["learning_rate"] for line in metrics(tmp_path / "run")]
        assert rates[:3] == pytest.approx([0, 0.05, 0.1])
        assert rates[2:] == sorted(rates[2:], reverse=True)
        assert 0 < rates[-1] < 0.01

    def test_the_learning_rate_of_a_record_is_the_one_that_its_step_took(self, tmp_path: Path):
        """It was that of the next step: the first step, which learns nothing, was recorded with a rate."""
        used, step = [], torch.optim.AdamW.step

        def noted(self: torch.optim.AdamW, *arguments: Any, **options: Any) -> Any:
            used.append(self.param_groups[0]["lr"])
            return step(self, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", noted)
            fit(tmp_path / "run")
        assert [line["learning_rate"] for line in metrics(tmp_path / "run")] == used

    def test_no_steps_leave_the_weights_as_they_were(self, tmp_path: Path):
        weights = fit(tmp_path / "run", replace(CONFIG, num_steps=0))
        for name, tensor in Regression().state_dict().items():
            assert torch.equal(weights[name], tensor)

    def test_the_average_follows_the_weights_in_full_precision(self, tmp_path: Path):
        module, seen = Regression(), []

        def inputs(step: int) -> tuple[Tensor, Tensor]:
            seen.append(module.linear.weight.detach().clone())
            return batch(step)

        weights = fit(tmp_path / "run", inputs=inputs, module=module)
        after = [*seen[1:], weights["last.linear.weight"]]
        average = seen[0]
        for step, value in enumerate(after):
            forget = (1 + step) ** -CONFIG.ema_power
            average = (1 - forget) * average + forget * value
        assert torch.allclose(weights["linear.weight"], average, atol=1e-6)
        assert not torch.allclose(weights["linear.weight"], weights["last.linear.weight"], atol=1e-4)

    def test_accumulated_batches_are_one_large_batch(self, tmp_path: Path):
        def halves(micro: int) -> tuple[Tensor, Tensor]:
            x, y = batch(micro // 2)
            half = slice(0, 2) if micro % 2 == 0 else slice(2, 4)
            return x[half], y[half]

        whole = fit(tmp_path / "whole", module=Regression())
        config = replace(CONFIG, gradient_accumulation=2)
        parts = fit(tmp_path / "parts", config, inputs=halves, module=Regression())
        for name, tensor in whole.items():
            assert torch.allclose(parts[name], tensor, atol=1e-5), name
        losses = [[line["loss"] for line in metrics(tmp_path / name)] for name in ("whole", "parts")]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)

    def test_large_gradients_are_clipped(self, tmp_path: Path):
        def far(step: int) -> tuple[Tensor, Tensor]:
            x, y = batch(step)
            return x, 1e6 * y

        config = replace(CONFIG, num_steps=1, warmup_steps=0)
        clipped = fit(tmp_path / "clipped", config, inputs=far, module=Regression())
        assert metrics(tmp_path / "clipped")[0]["gradient_norm"] > 1e3  # as it was before
        assert all(tensor.isfinite().all() for tensor in clipped.values())


class TestResume:
    @pytest.mark.parametrize("killed", [3, 4, 7])
    @pytest.mark.parametrize("accumulation", [1, 2])
    def test_a_killed_run_that_goes_on_equals_one_that_was_never_killed(
        self, tmp_path: Path, killed: int, accumulation: int
    ):
        config = replace(CONFIG, gradient_accumulation=accumulation)
        whole = fit(tmp_path / "whole", config)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", config, inputs=killed_at(killed * accumulation))
        assert checkpoints(tmp_path / "killed") == [f"{step:06d}" for step in (3, 6) if step <= killed]
        asked: list[int] = []

        def inputs(step: int) -> tuple[Tensor, Tensor]:
            asked.append(step)
            return batch(step)

        resumed = fit(tmp_path / "killed", config, resume=True, inputs=inputs)
        assert asked == list(range(killed // 3 * 3 * accumulation, 10 * accumulation))
        assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_it_may_be_killed_again_and_again(self, tmp_path: Path):
        whole = fit(tmp_path / "whole")
        for number, killed in enumerate((4, 5, 8)):
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path / "killed", resume=number > 0, inputs=killed_at(killed))
        resumed = fit(tmp_path / "killed", resume=True)
        assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_killed_before_the_first_checkpoint_it_starts_over(self, tmp_path: Path):
        whole = fit(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", inputs=killed_at(2))
        resumed = fit(tmp_path / "killed", resume=True)
        assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_killed_while_it_saves_it_goes_on_from_the_checkpoint_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        whole = fit(tmp_path / "whole")
        replace_file = os.replace

        def interrupted(path: Path, target: Path) -> None:
            if Path(path).name.startswith("000006"):
                os._exit(9)
            replace_file(path, target)

        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, "replace", interrupted)
            fit(tmp_path / "killed")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert checkpoints(tmp_path / "killed") == ["000003", "000006.tmp"]
        resumed = fit(tmp_path / "killed", resume=True)
        assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_there_may_be_nothing_to_resume(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        """The same command can always be used; it once refused where nothing was there yet."""
        whole = fit(tmp_path / "whole")
        resumed = fit(tmp_path / "run", resume=True)
        assert (
            f"{tmp_path / 'run'} holds no checkpoint to resume; starting from the first step" in capsys.readouterr().out
        )
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_a_training_that_is_older_than_a_setting_goes_on(self, tmp_path: Path):
        """The error said: clip_copies: nothing then, 4 now; resume with the same ones."""
        whole = fit(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", inputs=killed_at(4))
        path = tmp_path / "killed/training.json"
        settings = json.loads(path.read_text())
        del settings["weight_decay"]
        path.write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=r"weight_decay: 0.01 then, 0.3 now"):
            fit(tmp_path / "killed", replace(CONFIG, weight_decay=0.3), resume=True)
        resumed = fit(tmp_path / "killed", resume=True)
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    @pytest.mark.parametrize("change", [{"save_every": 2}, {"max_minutes": 9.0}, {"mixed_precision": "auto"}], ids=str)
    def test_what_does_not_change_what_is_learned_may_change(self, tmp_path: Path, change: dict[str, Any]):
        whole = fit(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", inputs=killed_at(4))
        resumed = fit(tmp_path / "killed", replace(CONFIG, **change), resume=True)
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())

    def test_a_finished_training_is_not_started_over(self, tmp_path: Path):
        """It would replace what was learned by the same thing, or, with other data, by another."""
        fit(tmp_path / "run")
        before = (tmp_path / "run" / "metrics.jsonl").read_text()
        with pytest.raises((FileExistsError, ValueError), match="finished"):
            fit(tmp_path / "run", resume=True)
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


class TestRefused:
    def test_a_folder_that_holds_a_training(self, tmp_path: Path):
        fit(tmp_path / "run")
        with pytest.raises(
            FileExistsError, match=r"already holds a training; continue it with --resume \(resume=True\)"
        ):
            fit(tmp_path / "run")

    def test_a_folder_in_which_no_step_was_taken_is_free(self, tmp_path: Path):
        """A damaged video found at the first step once left a folder that refused the repaired dataset."""

        def damaged(step: int) -> tuple[Any, ...]:
            raise ValueError("a damaged video")

        with pytest.raises(ValueError, match="a damaged video"):
            fit(tmp_path / "run", inputs=damaged)
        fit(tmp_path / "run")
        assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == CONFIG.num_steps

    def test_other_settings_are_named_then_and_now(self, tmp_path: Path):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run", inputs=killed_at(4))
        with pytest.raises(ValueError, match=r"\(num_steps: 10 then, 12 now; learning_rate: 0\.1 then, 0\.2 now\)"):
            fit(tmp_path / "run", replace(CONFIG, num_steps=12, learning_rate=0.2), resume=True)

    def test_after_a_training_that_failed_the_next_may_have_another_precision(self, tmp_path: Path):
        """accelerate keeps its settings for the life of the process."""
        for precision in ("no", "bf16"):
            loop = TrainingLoop(
                Regression(), replace(CONFIG, mixed_precision=precision), folder=tmp_path / precision, resume=False
            )
            with loop, pytest.raises(FloatingPointError):
                loop.run(lambda step: (batch(step)[0], torch.full((4, 2), torch.nan)), "test")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint(self, tmp_path: Path, value: float):
        def inputs(step: int) -> tuple[Tensor, Tensor]:
            x, y = batch(step)
            return x, y * (value if step == 5 else 1.0)

        with pytest.raises(FloatingPointError, match="the loss of step 5 is"):
            fit(tmp_path / "run", inputs=inputs)
        assert [line["step"] for line in metrics(tmp_path / "run")] == list(range(5))
        assert checkpoints(tmp_path / "run") == ["000003"]


TWO_LOOPS = """
import sys
from pathlib import Path

import torch
from torch import nn

from video2act.config import OptimizationConfig
from video2act.training.loop import TrainingLoop


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x):
        return self.linear(x).square().mean()


for name in ("first", "second"):
    config = OptimizationConfig(num_steps=2, warmup_steps=0)
    with TrainingLoop(Mean(), config, folder=Path(sys.argv[1]) / name, resume=False) as loop:
        loop.run(lambda step: (torch.ones(3, 2),), name)
        loop.finish()
"""


def test_two_processes_train_twice(tmp_path: Path):
    """The second training found no processes: `train-video --preset small` trains a VAE first."""
    (tmp_path / "launched.py").write_text(TWO_LOOPS)
    launch_two(tmp_path / "launched.py", str(tmp_path))
    assert [len(metrics(tmp_path / name)) for name in ("first", "second")] == [2, 2]
