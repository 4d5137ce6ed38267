"""Numerical parity with the released code, over every fixture of the folder that VIDEO2ACT_GOLDEN_DIR names.

Run with `-s` to see one line per check with the largest difference. Where the released code is wrong
(`docs/paper_vs_code.md`), its defect is put in from outside for the comparison, or the comparison is confined to where
both are right.
"""

from collections.abc import Callable

import pytest
import torch
from check_parts import (
    check_action_core,
    check_compressor,
    check_filters,
    check_motion_frame_select,
    check_scheduler,
    check_wan_dit,
)
from check_policy import check_policy
from check_vae import check_vae_encoder

from golden import Golden, Report, all_golden
from video2act.embodiment import EMBODIMENTS, FIELDS, UNIFIED_DIM

Check = Callable[[Golden, Report], None]

CHECKS: dict[str, Check] = {
    "filters": check_filters,
    "scheduler": check_scheduler,
    "compressor": check_compressor,
    "action_core": check_action_core,
    "wan_dit": check_wan_dit,
    "motion_frame_select": check_motion_frame_select,
    "vae_encoder": check_vae_encoder,
}
"""kind of fixture -> its check; whole policies (`policy_*`) share one"""

GOLDEN = [golden for golden in all_golden() if golden.kind]


def check_of(kind: str) -> Check | None:
    return check_policy if kind.startswith("policy") else CHECKS.get(kind)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.path.stem)
def test_it_computes_what_the_released_code_computed(golden: Golden):
    check = check_of(golden.kind)
    assert check is not None, (
        f"{golden.path.name}: no check for fixtures of kind {golden.kind!r}; there are {', '.join(CHECKS)}"
    )
    torch.manual_seed(0)
    report = Report(golden.path.stem)
    check(golden, report)
    report.finish()


def test_places_of_the_unified_vector_are_those_of_the_released_code():
    described = [golden.description for golden in all_golden() if "STATE_VEC_LEN" in golden.description]
    if not described:
        pytest.skip("this folder does not describe the vector")
    for description in described:
        theirs = description["mapping"]
        assert description["STATE_VEC_LEN"] == UNIFIED_DIM
        shared = FIELDS.keys() & theirs.keys()
        assert len(shared) > 50
        assert {name: FIELDS[name] for name in shared} == {name: theirs[name] for name in shared}
        assert [FIELDS[name] for name in EMBODIMENTS["aloha_agilex"]] == description["aloha_agilex_indices"]
