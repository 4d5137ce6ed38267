#!/bin/sh
# Two virtual environments in which this package lives beside the real lerobot, of the two lines whose dependencies exclude each
# other. Each is one resolution: that pip finds one is the proof that our lower bounds are wide enough.
#
#   scripts/interop_venvs.sh FOLDER        about 12 GB: the torch that these releases ask for comes with CUDA
set -e
mkdir -p "$1"
folder=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
venv() { # name, python, requirements...
    name=$1 python=$2
    shift 2
    [ -f "$folder/$name/complete" ] && return
    command -v "$python" >/dev/null || { echo "$python is needed for $name: install it or put it on the path" >&2; exit 1; }
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --no-compile "$@" -e "$here[sim]"
    "$folder/$name/bin/python" -m pip install --quiet --no-compile --no-deps -e "$here/lerobot_policy_video2act"
    # torchcodec looks for an installed FFmpeg; it is given the one that PyAV brings
    libraries=$(echo "$folder/$name"/lib/python3*/site-packages/av.libs)
    mkdir -p "$folder/$name/ffmpeg"
    for file in "$libraries"/libav* "$libraries"/libsw*; do
        ln -sf "$file" "$folder/$name/ffmpeg/$(basename "$file" | sed -E 's/-[0-9a-f]+\.so\.([0-9]+).*/.so.\1/')"
    done
    touch "$folder/$name/complete"
}
venv lerobot-0.4.4 "${PYTHON311:-python3.11}" 'lerobot[aloha,transformers-dep]==0.4.4' 'torch==2.10.*' 'diffusers==0.35.*' 'transformers==4.57.*'
venv lerobot-0.6.1 "${PYTHON312:-python3.12}" 'lerobot[aloha,training,evaluation,core_scripts,diffusers-dep,transformers-dep]==0.6.1' \
    'torch==2.11.*' 'diffusers==0.39.*' 'transformers==5.5.*'
