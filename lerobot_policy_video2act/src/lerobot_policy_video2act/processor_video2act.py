"""What LeRobot does to observations and actions around the policy: batch and device. The policy normalises by
itself."""

from typing import Any

from lerobot.configs.types import FeatureType
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.utils.constants import POLICY_POSTPROCESSOR_DEFAULT_NAME, POLICY_PREPROCESSOR_DEFAULT_NAME

from lerobot_policy_video2act.configuration_video2act import Video2ActConfig


def make_video2act_pre_post_processors(
    config: Video2ActConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]
]:
    """LeRobot's hook. `dataset_stats` go to the policy, which LeRobot hands them too. The two steps that normalise do
    nothing, since `normalization_mapping` says IDENTITY; `lerobot-train --policy.path` looks for them by name."""
    inputs, outputs = config.input_features or {}, config.output_features or {}
    mapping = {FeatureType(name): mode for name, mode in config.normalization_mapping.items()}
    before = PolicyProcessorPipeline[dict[str, Any], dict[str, Any]](
        steps=[
            RenameObservationsProcessorStep(rename_map={}),
            AddBatchDimensionProcessorStep(),
            DeviceProcessorStep(device=config.device or "cpu"),
            NormalizerProcessorStep(features={**inputs, **outputs}, norm_map=mapping),
        ],
        name=POLICY_PREPROCESSOR_DEFAULT_NAME,
    )
    after = PolicyProcessorPipeline[PolicyAction, PolicyAction](
        steps=[UnnormalizerProcessorStep(features=outputs, norm_map=mapping), DeviceProcessorStep(device="cpu")],
        name=POLICY_POSTPROCESSOR_DEFAULT_NAME,
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return before, after
