"""The training loop that `train` and `train-video` share: accelerate, AdamW, a moving average, checkpoints, a progress
line.

A module whose `forward` returns the loss is trained on `inputs(micro_step)`. All randomness of a step comes from
(seed, step, rank), so nothing random needs saving, and a killed run that is resumed equals one that was never
interrupted.

A run folder grows:
    metrics.jsonl            one line per step: loss, gradient norm, learning rate
    tensorboard/             the same, drawn
    checkpoints/000500/      everything needed to go on; only the newest is kept, and it appears whole or not at all
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.tensorboard.writer import SummaryWriter

from video2act.config import OptimizationConfig, to_json
from video2act.files.atomic import write_text
from video2act.precision import has_fast_bf16

CHECKPOINTS = "checkpoints"
SETTINGS_FILE = "training.json"
FINISHED = "finished"
METRICS_FILE = "metrics.jsonl"


class TrainingPausedError(RuntimeError):
    """The time that was given is used up; a checkpoint was written, and the same command with resume goes on from
    it."""


class TrainingLoop:
    """One training of one module.

    Args:
        module: its `forward(*inputs)` returns the loss; parameters that need no gradient are left alone.
        folder: the run folder.
        resume: go on from the newest checkpoint in `folder`, which must exist.
        identity: what else makes this training this one (data, preset, ...); a resumed one must agree in it.
        rates: learning rates of their own of some parameters, by the beginning of their names; some of these may go
            unused.
    Raises:
        FileExistsError: the folder holds a finished training, or another one and `resume` is off.
        FileNotFoundError, ValueError: there is nothing to resume, or it was started with other settings.
    """

    def __init__(
        self,
        module: nn.Module,
        config: OptimizationConfig,
        *,
        folder: Path,
        resume: bool,
        identity: dict[str, Any] | None = None,
        rates: dict[str, float] | None = None,
    ):
        self.config = config
        self.folder = folder
        self._settings = {**json.loads(to_json(config)), **json.loads(json.dumps(identity or {}))}
        # how long one piece of it may take does not change what is learned
        del self._settings["max_minutes"]
        self.accelerator = Accelerator(
            mixed_precision=_precision(config),
            gradient_accumulation_steps=config.gradient_accumulation,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=bool(rates))],
        )
        self.is_main = self.accelerator.is_main_process
        self._claim_folder(resume)
        trainable = _groups(module, rates or {})
        # beta2 below the usual .999: in a training of a thousand steps the second moment must forget its start
        optimizer = torch.optim.AdamW(
            trainable, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
        )
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.schedule = get_cosine_schedule_with_warmup(
            self.optimizer.optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.num_steps
        )
        # fp32 like the parameters (mixed precision only casts within the forward pass): in bf16 an average stands still
        # what FSDP has divided cannot be copied all at once
        whole = not any(isinstance(parameter, DTensor) for parameter in self.parameters)
        self.average = EMAModel(
            self.parameters, decay=0.9999, use_ema_warmup=True, power=config.ema_power, foreach=whole
        )
        self.accelerator.register_for_checkpointing(self.schedule)
        self.first_step = self._load_newest() if resume else 0

    def run(
        self, inputs: Callable[[int], tuple[Any, ...]], title: str, *, validate: Callable[[], float] | None = None
    ) -> None:
        """Train to `num_steps`.

        Args:
            inputs: micro-step -> arguments of the module's forward, the same for the same step.
            validate: the loss on held-out data, measured every `validate_every` steps and at the end, of the averaged
                weights.
        Raises:
            FloatingPointError: the loss is not finite; checkpoints before it are kept.
            TrainingPausedError: `max_minutes` are over.
        """
        self.module.train()
        started = monotonic()
        metrics = _Metrics(self.folder, self.first_step) if self.is_main else None
        with self._progress(title) as progress:
            task = progress.add_task(title, total=self.config.num_steps, completed=self.first_step, loss="", rate="")
            for step in range(self.first_step, self.config.num_steps):
                loss, gradient_norm = self._step(step, inputs)
                measured = {"loss": loss, "gradient_norm": gradient_norm}
                measured["learning_rate"] = float(self.schedule.get_last_lr()[0])
                if validate and self._is_validation_due(step):
                    measured["validation_loss"] = self._validation_loss(validate)
                if metrics:
                    metrics.write(step, measured)
                    rate = (step + 1 - self.first_step) / (monotonic() - started)
                    progress.update(task, advance=1, loss=str(metrics), rate=f"{rate:.1f} steps/s")
                    if not progress.console.is_terminal and (step + 1) % max(1, self.config.num_steps // 5) == 0:
                        done = f"{title}: step {step + 1} of {self.config.num_steps}"
                        print(f"{done}, {metrics}, {rate:.1f} steps/s", flush=True)
                is_over = self._is_over(started)
                if step + 1 < self.config.num_steps and (is_over or (step + 1) % self.config.save_every == 0):
                    self._save(step + 1)
                    if is_over:
                        raise TrainingPausedError(
                            f"{title}: {self.config.max_minutes:g} minutes are over at step {step + 1} of "
                            f"{self.config.num_steps}; resume to go on"
                        )
        if metrics:
            metrics.close()

    def _is_validation_due(self, step: int) -> bool:
        every = getattr(self.config, "validate_every", 0)
        return step + 1 == self.config.num_steps or (bool(every) and (step + 1) % every == 0)

    @torch.no_grad()
    def _validation_loss(self, validate: Callable[[], float]) -> float:
        """Of the averaged weights, which are those that a run keeps."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        self.module.eval()
        loss = validate()
        self.module.train()
        self.average.restore(self.parameters)
        return loss

    def _is_over(self, started: float) -> bool:
        """Whether the time is used up, on any process: they must stop at one step."""
        if not self.config.max_minutes:
            return False
        late = torch.tensor(float(monotonic() - started > 60 * self.config.max_minutes), device=self.accelerator.device)
        return bool(self.accelerator.reduce(late, reduction="sum") > 0)  # type: ignore[operator]

    def generator(self, micro_step: int) -> torch.Generator:
        """Draws what a program needs in one micro-step: the same whenever it is asked, another on each rank."""
        seed = hash((self.config.seed, micro_step, self.accelerator.process_index))
        return torch.Generator().manual_seed(seed % 2**63)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The module's weights with the moving average in place of what was trained, gathered from all processes."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        state: dict[str, Any] = self.accelerator.get_state_dict(self.module)
        # copied is what will be trained weights again, and what FSDP gathered into more memory than it fills, which no
        # file
        # takes; a frozen video model of gigabytes is not
        trained = {_own_part(tensor).data_ptr() for tensor in self.parameters}
        weights = {
            name: tensor.clone()
            if tensor.data_ptr() in trained or tensor.untyped_storage().nbytes() > tensor.nbytes
            else tensor
            for name, tensor in state.items()
        }
        self.average.restore(self.parameters)
        return weights

    def finish(self) -> None:
        """Mark the training as finished and remove what was only needed to resume. Call it when the result is saved."""
        self.accelerator.wait_for_everyone()
        if self.is_main:
            write_text(self.folder / SETTINGS_FILE, json.dumps({**self._settings, FINISHED: True}, indent=2) + "\n")
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        self.accelerator.end_training()
        # accelerate keeps its settings for the life of the process, but the next training may want others
        AcceleratorState._reset_state()

    def _step(self, step: int, inputs: Callable[[int], tuple[Any, ...]]) -> tuple[float, float]:
        # what draws from the global generators (dropout of a big backbone, say) depends on the step alone, too
        set_seed(hash((self.config.seed, step, self.accelerator.process_index)) % 2**31)
        losses = []
        gradient_norm = 0.0
        for micro in range(self.config.gradient_accumulation):
            with self.accelerator.accumulate(self.module):
                loss = self.module(*inputs(step * self.config.gradient_accumulation + micro))
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
                    # under FSDP it is one number in parts
                    gradient_norm = float((norm.full_tensor() if isinstance(norm, DTensor) else norm) or 0.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(loss.detach())
        mean = float(self.accelerator.reduce(torch.stack(losses).mean(), reduction="mean"))  # type: ignore[arg-type]
        if not torch.isfinite(torch.tensor(mean)):
            raise FloatingPointError(
                f"the loss of step {step} is {mean}; lower the learning rate, or look for outliers in the data"
            )
        self.schedule.step()
        self.average.step(self.parameters)
        return mean, gradient_norm

    def _progress(self, title: str) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            disable=not self.is_main,
        )

    # checkpoints

    def _claim_folder(self, resume: bool) -> None:
        settings = self.folder / SETTINGS_FILE
        if resume:
            if not settings.is_file():
                raise FileNotFoundError(
                    f"{self.folder} holds no training to resume ({SETTINGS_FILE} is missing); start without resume"
                )
            before, now = json.loads(settings.read_text()), self._settings
            if before.get(FINISHED):
                raise FileExistsError(f"{self.folder} holds a finished training; choose another folder to train again")
            changed = [
                f"{name}: {before.get(name)} then, {now.get(name)} now"
                for name in now
                if before.get(name) != now.get(name)
            ]
            if changed:
                raise ValueError(
                    f"{self.folder} was started with other settings ({'; '.join(changed)}); resume with the same ones"
                )
            return
        self.accelerator.wait_for_everyone()
        if self.is_main:
            if settings.exists() and self._has_begun():
                raise FileExistsError(f"{self.folder} already holds a training; resume it, or choose another folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(settings, json.dumps(self._settings, indent=2) + "\n")
        self.accelerator.wait_for_everyone()

    def _has_begun(self) -> bool:
        """Whether there is anything to lose: a folder in which no step was taken is free."""
        metrics = self.folder / METRICS_FILE
        is_finished = json.loads((self.folder / SETTINGS_FILE).read_text()).get(FINISHED, False)
        return is_finished or (metrics.is_file() and metrics.stat().st_size > 0)

    def _save(self, step: int) -> None:
        final = self.folder / CHECKPOINTS / f"{step:06d}"
        temporary = final.with_name(final.name + ".tmp")
        # FSDP restores none where one is missing: those of a head that the features do not pass have no state yet
        for parameter in self.parameters:
            if parameter not in self.optimizer.state:
                zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}
        # it would announce at every checkpoint that tied weights (a T5's embedding) are stored once
        logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
        self.accelerator.save_state(str(temporary))
        rank = self.accelerator.process_index
        average = {str(i): _own_part(tensor).cpu() for i, tensor in enumerate(self.average.shadow_params)}
        save_file(average, temporary / f"average_{rank}.safetensors")
        self.accelerator.wait_for_everyone()
        if self.is_main:
            facts = {"step": step, "num_processes": self.accelerator.num_processes}
            (temporary / "checkpoint.json").write_text(json.dumps(facts))
            temporary.rename(final)
            for older in final.parent.iterdir():
                if older != final:
                    shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def _load_newest(self) -> int:
        found = (path.parent for path in (self.folder / CHECKPOINTS).glob("*/checkpoint.json"))
        complete = sorted((path for path in found if path.suffix != ".tmp"), key=lambda path: int(path.name))
        if not complete:
            if self.is_main:
                print(f"{self.folder} has no complete checkpoint yet; starting from the first step")
            return 0
        newest = complete[-1]
        facts = json.loads((newest / "checkpoint.json").read_text())
        if facts["num_processes"] != self.accelerator.num_processes:
            raise ValueError(
                f"{newest} was written by {facts['num_processes']} processes, this run has "
                f"{self.accelerator.num_processes}; "
                "resume with the same number"
            )
        self.accelerator.load_state(str(newest))
        average = load_file(newest / f"average_{self.accelerator.process_index}.safetensors")
        for i, tensor in enumerate(self.average.shadow_params):
            _own_part(tensor).copy_(average[str(i)])
        self.average.optimization_step = facts["step"]
        return facts["step"]


def _groups(module: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters for the optimizer: most at its learning rate, some at their own."""
    own: dict[str, list[nn.Parameter]] = {"": []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            start = next((start for start in rates if name.startswith(start)), "")
            own.setdefault(start, []).append(parameter)
    return [
        {"params": parameters, **({"lr": rates[start]} if start else {})}
        for start, parameters in own.items()
        if parameters
    ]


def _own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, unless FSDP has divided it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _precision(config: OptimizationConfig) -> str:
    if config.mixed_precision == "auto":
        # told about the CPU, or several processes without a GPU would not find each other
        state = PartialState(cpu=not torch.cuda.is_available())
        assert state.device is not None
        return "bf16" if has_fast_bf16(state.device) else "no"
    return config.mixed_precision


class _Metrics:
    """What is measured at every step, as lines of json and for TensorBoard."""

    def __init__(self, folder: Path, first_step: int):
        path = folder / METRICS_FILE
        # steps after the checkpoint that is resumed will be taken again
        kept = path.read_text().splitlines()[:first_step] if path.exists() else []
        path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(folder / "tensorboard", purge_step=first_step)
        self._smooth_loss = 0.0
        self._validation_loss: float | None = None
        self._count = 0

    def write(self, step: int, measured: dict[str, float]) -> None:
        self._count += 1
        self._smooth_loss += (measured["loss"] - self._smooth_loss) / min(self._count, 50)
        self._validation_loss = measured.get("validation_loss", self._validation_loss)
        self._file.write(json.dumps({"step": step, **measured}) + "\n")
        self._file.flush()
        for name, value in measured.items():
            self._board.add_scalar(name, value, step)

    def __str__(self) -> str:
        validation = "" if self._validation_loss is None else f", validation loss {self._validation_loss:.4f}"
        return f"loss {self._smooth_loss:.4f}{validation}"

    def close(self) -> None:
        self._file.close()
        self._board.close()
