"""A whole policy of the released code, rebuilt by our conversion: what it sees, predicts, samples and learns."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from check_parts import FILTER, POLICY
from released_checkpoint import as_video
from released_defects import filter_of, known_schedule, known_selection
from torch import Tensor, nn
from wan_features import WanFeatures, load_wan, with_lora

from golden import Golden, Report, additive_attention, under
from video2act import layers
from video2act.config import System1Config
from video2act.interop.rdt import silent_tensors
from video2act.system1 import System1
from video2act.system1.action_dit import ProjectedConditions
from video2act.system1.denoising import Denoising
from video2act.system2.former import make_former
from video2act.system2.latents import show
from video2act.types import Conditions, Tokens, Video, concatenate
from video2act_released.config import Sources, former_config, horizon, system1_config
from video2act_released.convert import without_video_model
from video2act_released.streams import (
    Latents,
    extraction_of,
    latents_of,
    source_of,
    stream_names,
)
from video2act_released.structure import check_structure
from video2act_released.weights import policy_names, rename

GRADIENT = 1e-4


class Rebuilt(nn.Module):
    """Our System 1 and formers, named as in `Video2Act`, around a video model that starts from latents."""

    def __init__(
        self,
        golden: Golden,
        report: Report,
        state: dict[str, Tensor],
        tensors: dict[str, Tensor],
        norm: str,
        prediction: str,
    ):
        super().__init__()
        self.report, self.video = report, golden.description.get("video_config", {})
        asked = known_selection(golden.description["config"], report)
        self.settings = known_schedule(asked, report)
        self.has_schedule = self.settings == asked
        state = self._policy_alone(state)
        check_structure(state, self.settings, source=golden.path.name)
        self.streams = stream_names(self.settings)
        self.shown = {stream: self._latents(stream, tensors) for stream in self.streams}
        self.system1 = System1(
            self._system1_config(state, norm, prediction),
            ("all",),
            state_dim=14,
            action_dim=14,
            horizon=horizon(state),
            fps=25.0,
        )
        self.wan = self._video_model(golden, tensors)
        self.system2 = nn.Module()
        self.system2.formers = nn.ModuleDict(
            {
                stream: make_former(
                    former_config(state, stream), self.wan.feature_dim, token_dim=self.system1.config.hidden
                )
                for stream in self.streams
            }
        )
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("wan.")}
        self.names = policy_names(state, self.streams)
        self.theirs = state
        renamed = rename(state, self.names, own=own, source=golden.path.name)
        loaded = self.load_state_dict(renamed | silent_tensors(own), strict=False)
        assert not loaded.unexpected_keys
        assert all(name.startswith("wan.") for name in loaded.missing_keys)

    def _policy_alone(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A LoRA is added to the weights of the fixture's video model, as it is when a converted policy is loaded."""
        own, lora = without_video_model(state)
        prefix = "wan_transformer.model."
        self.lora = {name.removeprefix(prefix): tensor for name, tensor in lora.items()}
        return own

    def _video_model(self, golden: Golden, tensors: dict[str, Tensor]) -> WanFeatures:
        config, weights = _find(golden.description, "ffn_dim"), under(tensors, "wan.")
        if self.lora:
            lora = self.video.get("train_lora", {})
            rank = int(lora.get("rank", 8))
            weights = with_lora(weights, self.lora, float(lora.get("alpha", rank)) / rank)
        num_layers = golden.number("feature_extraction_layers", min(20, config["num_layers"]))
        return WanFeatures(load_wan(weights, config), num_layers or config["num_layers"])

    def _latents(self, stream: str, tensors: dict[str, Tensor]) -> Latents:
        num_latents = _latents(tensors, source_of(stream, self.settings)).shape[2]
        return latents_of(stream, self.settings, video=as_video(self.video), num_latents=num_latents)

    def _system1_config(self, state: dict[str, Tensor], norm: str, prediction: str) -> System1Config:
        config = system1_config(state, self.settings, sources=Sources(text="none", image="none"), num_images=1)
        denoising = replace(config.denoising, prediction=prediction)  # type: ignore[arg-type]
        return replace(config, dit=replace(config.dit, norm=norm), denoising=denoising)  # type: ignore[arg-type]

    def tokens(
        self, tensors: dict[str, Tensor], context: Tensor, extraction: dict[str, str | None] | None = None
    ) -> Tokens:
        """Filter on latents, transformer, former, stream after stream."""
        self.wan.context = context
        joined = []
        for stream in self.streams:
            shown, fps = self.shown[stream], as_video(self.video).fps
            latents = show(Video(_latents(tensors, shown.source), fps), shown.frames, size=shown.size)
            word = (extraction or {}).get(stream, extraction_of(stream, self.settings))
            keep = filter_of(word, self.video, fps, shown.frames, self.report)
            features = self.wan.features(keep(latents), [])
            joined.append(self.system2.formers[stream](features))  # type: ignore[index, operator]
        return concatenate(*joined)

    def project(self, tensors: dict[str, Tensor], video: Tokens) -> ProjectedConditions:
        text = self.system1.text_in(tensors["in.lang_tokens"])
        image = self.system1.image_in(tensors["in.img_tokens"])
        mask = (
            tensors["in.lang_attn_mask"].bool() if "in.lang_attn_mask" in tensors else torch.ones(text.shape[:2]).bool()
        )
        conditions = Conditions(Tokens(text, mask), Tokens.all_visible(image), video)
        known = tensors["in.action_mask"][:, 0]
        b = len(known)
        rate = tensors["in.ctrl_freqs"].float().expand(b)
        # any age: a converted policy does not know it yet
        return self.system1.dit.project(
            conditions,
            tensors["in.state_tokens"][:, 0],
            has_state=known,
            staleness=torch.full((b,), 0.2),
            fps=rate,
            has_action=known,
        )


def check_policy(golden: Golden, report: Report) -> None:
    tensors = golden.tensors()
    truncated = {word for word in str(golden.description.get("truncated", "")).split() if word.startswith("sd.")}
    state = {name: tensor for name, tensor in under(tensors, "sd.").items() if f"sd.{name}" not in truncated}
    context = _text(tensors, _find(golden.description, "ffn_dim")["text_dim"])
    mask = tensors.get("in.lang_attn_mask")
    usual = golden.description["config"].get("noise_scheduler", {}).get("prediction_type", "sample")
    # theirs trains every other word as a sample
    usual = "epsilon" if usual == "epsilon" else "sample"
    # alt.true_rms.sample_pred.loss.value: a variant, a kind of prediction, what is expected of it
    groups = sorted(
        {found[1] for name in tensors if (found := re.match(r"((?:[\w.]+?\.)?)(?:adapt$|loss\.|sample\.)", name))}
    )
    assert groups, f"{golden.path.name} expects nothing that is known here"
    for prefix in groups:
        group = prefix.removesuffix(".") or "policy"
        prediction = next((kind for kind in ("epsilon", "sample") if f"{kind}_pred" in group), usual)
        rebuilt = Rebuilt(golden, report, state, tensors, "rms" if "true_rms" in group else "variance", prediction)
        is_additive = "boolean_mask" not in group and mask is not None and not bool(mask.all())
        expected = under(tensors, prefix)
        with _released_mask(is_additive):
            video = rebuilt.tokens(tensors, context)
            if "adapt" in expected:
                report.close(f"{group}.adapt", video.data, expected["adapt"], POLICY)
            given = Group(group, rebuilt, tensors, rebuilt.project(tensors, video), expected)
            given.check_loss(report)
            given.check_sample(report)
            # they were recorded of the policy as its config says
            if not group.startswith("alt") and prediction == usual:
                given.check_gradients(report, golden)
    rebuilt = Rebuilt(golden, report, state, tensors, "variance", usual)
    _check_other_inputs(report, rebuilt, tensors, context)


@dataclass(frozen=True)
class Group:
    """What a fixture expects of one variant of the policy, and that variant rebuilt."""

    group: str
    rebuilt: Rebuilt
    tensors: dict[str, Tensor]
    projected: ProjectedConditions
    expected: dict[str, Tensor]

    def check_loss(self, report: Report) -> None:
        loss = under(self.expected, "loss.")
        if not loss:
            return
        config = self.rebuilt.system1.config.denoising
        actions, timesteps = self.tensors["in.action_gt"], loss["timesteps"]
        noisy, timestep, target = Denoising(config).add_noise(
            actions, loss["noise"], uniform=(timesteps + 0.5) / config.num_train_timesteps
        )
        if self.rebuilt.has_schedule:
            report.close(f"{self.group}.loss.noisy_action", noisy, loss["noisy_action"], FILTER)
        else:
            noisy, timestep = loss["noisy_action"], timesteps.float()
        with torch.no_grad():
            predicted = self.rebuilt.system1.dit(noisy, timestep, self.projected)
        report.close(f"{self.group}.loss.model_output", predicted, loss["model_output"], POLICY)
        # theirs counts the places that the robot lacks; ours does not
        value = nn.functional.mse_loss(predicted, target)
        report.close(f"{self.group}.loss.value", value.reshape(1), loss["value"].reshape(1), POLICY)

    def check_sample(self, report: Report) -> None:
        wanted = under(self.expected, "sample.")
        if not wanted or not self.rebuilt.has_schedule:
            return
        asked: list[Tensor] = []
        answers: list[Tensor] = []
        timesteps: list[float] = []

        def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
            asked.append(noisy)
            timesteps.append(float(timestep[0]))
            answers.append(self.rebuilt.system1.dit(noisy, timestep, self.projected))
            return answers[-1]

        with torch.no_grad():
            last = self.rebuilt.system1.denoising.sample(denoise, wanted["init_noise"])
        if "timesteps" in wanted:
            report.equal(f"{self.group}.sample.timesteps", timesteps, wanted["timesteps"].tolist())
        for step, (ours, after) in enumerate(zip(answers, [*asked[1:], last], strict=True)):
            for name, tensor in (("model_output", ours), ("prev_sample", after)):
                if f"step{step}.{name}" in wanted:
                    theirs = wanted[f"step{step}.{name}"]
                    scale = _scale(self.rebuilt, theirs) if name == "prev_sample" else 1.0
                    report.close(f"{self.group}.sample.step{step}.{name}", tensor / scale, theirs / scale, POLICY)
        theirs = wanted["action"]
        scale = _scale(self.rebuilt, theirs)
        report.close(
            f"{self.group}.sample.action", last * self.tensors["in.action_mask"] / scale, theirs / scale, POLICY
        )

    def check_gradients(self, report: Report, golden: Golden) -> None:
        gradients = golden.gradients()
        if gradients is None:
            return
        loss = under(self.expected, "loss.")
        predicted = self.rebuilt.system1.dit(loss["noisy_action"], loss["timesteps"].float(), self.projected)
        is_epsilon = self.rebuilt.system1.config.denoising.prediction == "epsilon"
        value = nn.functional.mse_loss(predicted, loss["noise"] if is_epsilon else self.tensors["in.action_gt"])
        value.backward()
        report.ratio("loss", float(value.detach()), float(gradients["loss"]), GRADIENT)
        # what they share and we have twice: the sum of both gradients is that of the one
        summed: dict[str, Tensor] = {}
        parameters = dict(self.rebuilt.named_parameters())
        for ours, theirs in self.rebuilt.names.items():
            gradient = parameters[ours].grad
            if gradient is not None:
                if theirs.endswith("time_pos_emb") and len(self.rebuilt.theirs[theirs]) == 1:
                    # theirs repeats the one that it has
                    gradient = gradient.sum(dim=0, keepdim=True)
                summed[theirs] = summed[theirs] + gradient if theirs in summed else gradient
        for theirs, norm in gradients["grad_l2"].items():
            if theirs.startswith("wan_transformer."):
                continue
            if norm is None:
                report.equal(f"gradient of {theirs}", theirs in summed, False)
            else:
                ours = float(summed[theirs].norm()) if theirs in summed else 0.0
                report.ratio(f"gradient of {theirs}", ours, float(norm), GRADIENT)


def _check_other_inputs(report: Report, rebuilt: Rebuilt, tensors: dict[str, Tensor], context: Tensor) -> None:
    """The same policy with other text or other filters."""
    with torch.no_grad():
        for name, expected in tensors.items():
            if name == "adapt_no_text":
                ours = rebuilt.tokens(tensors, context[:, :0])
            elif name == "adapt_zero_text":
                # the released code's own zeros; a missing text is an error with us
                ours = rebuilt.tokens(tensors, torch.zeros_like(context))
            elif found := re.match(r"adapt_(raw|motion)_([\w+]+)$", name):
                stream = {"raw": "spatial", "motion": "motion"}[found[1]]
                ours = rebuilt.tokens(tensors, context, {stream: found[2]})
            elif name == "mid.lang_adaptor":
                ours = Tokens.all_visible(rebuilt.system1.text_in(tensors["in.lang_tokens"]))
            elif name == "mid.img_adaptor":
                ours = Tokens.all_visible(rebuilt.system1.image_in(tensors["in.img_tokens"]))
            else:
                continue
            report.close(name, ours.data, expected, POLICY)


@contextmanager
def _released_mask(is_additive: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if is_additive:
            patch.setattr(layers, "attention", additive_attention)
        yield


def _scale(rebuilt: Rebuilt, theirs: Tensor) -> float:
    """An epsilon prediction is first divided by a signal near zero: its error counts relative to the result."""
    is_epsilon = rebuilt.system1.config.denoising.prediction == "epsilon"
    return max(1.0, float(theirs.abs().max())) if is_epsilon else 1.0


def _latents(tensors: dict[str, Tensor], stream: str) -> Tensor:
    """`[b 1 c t h w]`, as batches have it, or `[b c t h w]`."""
    names = sorted(name for name in tensors if name.startswith("in.batch.image_latents"))
    is_wanted = [("motion" in name) == (stream == "motion") for name in names]
    tensor = tensors[names[is_wanted.index(True)]]
    return tensor[:, 0] if tensor.ndim == 6 else tensor


def _text(tensors: dict[str, Tensor], text_dim: int) -> Tensor:
    if "in.batch.llama_vec" not in tensors:
        return torch.zeros(len(tensors["in.action_mask"]), 0, text_dim)
    context = tensors["in.batch.llama_vec"]
    return context[:, 0] if context.ndim == 4 else context


def _find(description: Any, word: str) -> dict[str, Any]:
    """The first object within a description that has a field of that name."""
    if isinstance(description, dict):
        if word in description:
            return description
        for value in description.values():
            found = _find(value, word)
            if found:
                return found
    return {}
