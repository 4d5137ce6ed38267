"""RoboTwin 2.0 drives a Video2Act policy: its `script/eval_policy.py` calls the four functions below.

RoboTwin's own environment is older than what Video2Act needs, so the policy usually runs in another one, behind
`video2act serve`, and is reached through PyPI's `openpi-client` (`server` in the yml). Where both fit into one
environment, `run` names the run folder and no server is needed. Either way the policy sees every frame, also those
between two plans.

RoboTwin has no clock that a policy could read: one action is one control step, `1 / fps` seconds of the policy's
    training.

This folder is copied into RoboTwin's `policy/`, so it imports nothing of the repository but, for `run`, the installed
package; and it runs on Python 3.10, which is RoboTwin's.
"""

from pathlib import Path
from typing import Any

import numpy as np

ROBOTWIN_CAMERAS = ("head_camera", "left_camera", "right_camera", "front_camera")

OTHER_NAMES = {
    "cam_high": "head_camera",
    "cam_left_wrist": "left_camera",
    "cam_right_wrist": "right_camera",
    "head": "head_camera",
    "left_wrist": "left_camera",
    "right_wrist": "right_camera",
}
"""what converters of RoboTwin's data call its cameras"""

FROM_ROBOTWIN = {
    *("policy_name", "task_name", "task_config", "ckpt_setting", "seed", "instruction_type", "policy_conda_env"),
    *("left_arm_dim", "right_arm_dim", "checkpoint_id", "gpu_id", "expert_data_num"),
}
"""words of the yml, or added by RoboTwin's scripts, that are theirs or that only name the result"""

OURS = {"run", "server", "api_key", "action_step", "cameras", "device"}

OF_THE_RELEASED_CODE = {
    "model_config_path": "config.json in the run folder says what the policy is",
    "config_path": "config.json in the run folder says what the policy is",
    "test_num": "RoboTwin's script runs 100 episodes, whatever it says",
    "use_wandb": "RoboTwin's script writes _result.txt and nothing else",
    "fixed_wan_text_embed_path": "embeddings of instructions are in the policy's text cache, computed when they are "
    "missing",
}
"""words of the released code's yml -> why they are not here; those of one fixed instruction follow"""

FIXED_INSTRUCTION = ("fixed_lang_embed", "fix_lang_embed", "fixed_lang_embed_path")


# what RoboTwin calls


def get_model(usr_args: dict[str, Any]) -> "RoboTwinPolicy":
    """The policy that the yml names, after RoboTwin has added to it.

    Raises:
        ValueError: a word of the yml is unknown or missing, or the policy is not of this robot.
    """
    check_words(usr_args)
    driver = (
        _RemoteDriver(usr_args["server"], usr_args.get("api_key"))
        if usr_args.get("server")
        else _local_driver(usr_args)
    )
    action_step = usr_args.get("action_step")
    return RoboTwinPolicy(driver, usr_args.get("cameras"), action_step, num_joints(usr_args))


def encode_obs(observation: dict[str, Any]) -> dict[str, Any]:
    """RoboTwin's observation -> its pictures by camera, and the state: all joints and grippers, left arm first.

    Raises:
        KeyError: RoboTwin's task_config switches rendering or joint positions off.
    """
    pictures = {name: part["rgb"] for name, part in observation["observation"].items() if "rgb" in part}
    if not pictures:
        raise KeyError("the observation has no picture; set data_type: rgb: true in RoboTwin's task_config")
    if "vector" not in observation.get("joint_action", {}):
        raise KeyError(
            "the observation has no joint_action/vector; set data_type: qpos: true in RoboTwin's task_config"
        )
    return {"images": pictures, "state": np.asarray(observation["joint_action"]["vector"], dtype=np.float32)}


def eval(TASK_ENV: Any, model: "RoboTwinPolicy", observation: dict[str, Any]) -> None:  # noqa: N803 - RoboTwin's names
    """Plan once, and execute the plan's first `action_step` actions. Ends early if the task is done or its steps are
    used up."""
    for action in model.plan(TASK_ENV.get_instruction(), encode_obs(observation), TASK_ENV.take_action_cnt):
        if TASK_ENV.take_action_cnt > model.newest_step:
            model.observe(encode_obs(TASK_ENV.get_obs()), TASK_ENV.take_action_cnt)
        TASK_ENV.take_action(action, action_type="qpos")
        if TASK_ENV.eval_success or TASK_ENV.take_action_cnt >= TASK_ENV.step_lim:
            return


def reset_model(model: "RoboTwinPolicy") -> None:
    """A new episode: nothing of the one before is left."""
    model.reset()


# what it takes


class RoboTwinPolicy:
    """One policy, one episode after another.

    Args:
        driver: takes a message in the words of `video2act serve` and answers as it does.
        cameras: the policy's names of cameras -> RoboTwin's; for names that RoboTwin, or a usual converter, does not
            use.
        action_step: actions executed of each plan; as the policy was trained, if None.
        num_joints: of both arms and grippers.
    """

    def __init__(self, driver: Any, cameras: dict[str, str] | None, action_step: int | None, num_joints: int):
        facts = driver.metadata
        if facts.get("serves") != "policy":
            raise ValueError("the server serves System 2 alone; start it without --only")
        for name in ("state_dim", "action_dim"):
            if facts[name] != num_joints:
                raise ValueError(
                    f"the policy has {name} {facts[name]}, RoboTwin's robot has {num_joints} joints and grippers; "
                    "train on data of this embodiment (joint positions, not end-effector poses)"
                )
        self.action_step = facts["execute_steps"] if action_step is None else action_step
        if not 1 <= self.action_step <= facts["horizon"]:
            raise ValueError(
                f"action_step must lie in 1..{facts['horizon']}, the actions of a plan; got {self.action_step}"
            )
        self.cameras = {camera: _robotwin_camera(camera, cameras or {}) for camera in facts["cameras"]}
        self.newest_step = -1
        """the last control step that was observed"""
        self._driver = driver
        self._period_s = facts["period_s"]
        self._instruction = ""

    def reset(self) -> None:
        self.newest_step = -1

    def observe(self, encoded: dict[str, Any], step: int) -> None:
        """Show the policy what happens between two plans."""
        self._driver.ask(self._message(encoded, step, plan=False))

    def plan(self, instruction: str, encoded: dict[str, Any], step: int) -> list[np.ndarray]:
        """The next actions, float32 `[left arm, gripper, right arm, gripper]` each: joint positions."""
        self._instruction = str(instruction)
        answer = self._driver.ask(self._message(encoded, step, plan=True))
        return list(answer["actions"][: self.action_step])

    def _message(self, encoded: dict[str, Any], step: int, plan: bool) -> dict[str, Any]:
        images = {}
        for camera, name in self.cameras.items():
            if name not in encoded["images"]:
                raise KeyError(
                    f"the policy looks through {camera!r}, which is RoboTwin's {name!r}, but the observation has "
                    f"{', '.join(encoded['images'])}; switch that camera on in RoboTwin's task_config, or name "
                    f"another in cameras"
                )
            images[camera] = encoded["images"][name]
        is_first, self.newest_step = self.newest_step < 0, step
        return {
            "images": images,
            "state": encoded["state"],
            "prompt": self._instruction,
            "time": step * self._period_s,
            "reset": is_first,
            "plan": plan,
        }


class _RemoteDriver:
    """`video2act serve`, through openpi's client."""

    def __init__(self, address: str, api_key: str | None):
        try:
            from openpi_client.websocket_client_policy import WebsocketClientPolicy
        except ImportError as error:
            raise ImportError(
                "`server` needs openpi-client in RoboTwin's environment: pip install openpi-client"
            ) from error
        self._client = WebsocketClientPolicy(address, api_key=api_key)
        self.metadata = self._client.get_server_metadata()

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._client.infer(message)


class _LocalDriver:
    """The same words to a policy in this process."""

    def __init__(self, session: Any, metadata: dict[str, Any]):
        self._session = session
        self.metadata = metadata

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._session.answer(message)


def _local_driver(words: dict[str, Any]) -> _LocalDriver:
    from video2act.config import RuntimeConfig
    from video2act.files.run_folder import load_frame_sizes
    from video2act.policy import Video2Act
    from video2act.programs.serve import serve_policy

    run = str(words["run"]).format(
        **{name: words.get(name, "") for name in ("task_name", "task_config", "ckpt_setting")}
    )
    policy = Video2Act.load(run, words.get("device") or "cuda")
    policy.seed(int(words.get("seed") or 0))
    # inline: success rates are scores, and those are reproducible
    serving = serve_policy(
        policy,
        (),
        frame_sizes=load_frame_sizes(Path(run)),
        refresh_every=policy.config.refresh_every,
        system2="inline",
        runtime=RuntimeConfig(),
    )
    return _LocalDriver(serving.make_session(), serving.contract.to_metadata())


def check_words(words: dict[str, Any]) -> None:
    """Refuse what would be ignored, and what is missing. Raises ValueError."""
    for name in FIXED_INSTRUCTION + tuple(OF_THE_RELEASED_CODE):
        if words.get(name) not in (None, False, ""):
            reason = OF_THE_RELEASED_CODE.get(name, "the policy gets RoboTwin's instruction of every episode")
            raise ValueError(f"{name} is a word of the released code's deploy_policy.yml; take it out: {reason}")
    unknown = sorted(set(words) - FROM_ROBOTWIN - OURS - set(FIXED_INSTRUCTION) - set(OF_THE_RELEASED_CODE))
    if unknown:
        raise ValueError(f"unknown in deploy_policy.yml: {', '.join(unknown)}; ours are {', '.join(sorted(OURS))}")
    if bool(words.get("run")) == bool(words.get("server")):
        raise ValueError(
            "deploy_policy.yml must name either run (a run folder) or server (ws://host:port of video2act serve)"
        )


def num_joints(words: dict[str, Any]) -> int:
    """Of both arms and their grippers; RoboTwin's script adds the arms' to the yml."""
    missing = [name for name in ("left_arm_dim", "right_arm_dim") if name not in words]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} is missing: RoboTwin's script/eval_policy.py adds it before it calls get_model"
        )
    return int(words["left_arm_dim"]) + 1 + int(words["right_arm_dim"]) + 1


def _robotwin_camera(camera: str, chosen: dict[str, str]) -> str:
    name = chosen.get(camera) or OTHER_NAMES.get(camera, camera)
    if camera not in chosen and name not in ROBOTWIN_CAMERAS:
        raise ValueError(
            f"the policy looks through {camera!r}; name RoboTwin's camera for it in deploy_policy.yml, "
            f"e.g. cameras: {{{camera}: head_camera}} ({', '.join(ROBOTWIN_CAMERAS)})"
        )
    return name
