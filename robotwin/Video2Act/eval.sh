#!/bin/bash
# bash eval.sh TASK TASK_CONFIG CKPT_SETTING SEED GPU RUN_OR_SERVER
# e.g. bash eval.sh beat_block_hammer demo_clean wan22 0 0 ws://127.0.0.1:8000
set -euo pipefail
if [ $# -ne 6 ]; then
    sed -n 2,3p "$0" >&2
    exit 2
fi
case "$6" in
    ws://* | wss://*) where=server ;;
    *) where=run ;;
esac
export CUDA_VISIBLE_DEVICES=$5
cd "$(dirname "$0")/../.."
PYTHONWARNINGS=ignore::UserWarning python script/eval_policy.py --config policy/Video2Act/deploy_policy.yml --overrides \
    --task_name "$1" --task_config "$2" --ckpt_setting "$3" --seed "$4" --policy_name Video2Act "--$where" "$6"
