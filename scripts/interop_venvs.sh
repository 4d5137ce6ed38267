#!/bin/sh
# Virtual environments in which this package lives beside the real lerobot: one for each line of it, because their
# dependencies exclude each other. Each is one resolution: that pip finds one is the proof that our lower bounds are wide enough.
#
#   scripts/interop_venvs.sh FOLDER [VERSION...]        about 7 GB each: the torch that these releases ask for comes with CUDA
#
# A version that the package index does not serve is left out, and said.
set -e
mkdir -p "$1"
folder=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
shift
chosen=${*:-0.4.4 0.6.1 0.7.0}
venv() { # version, python, requirements...
    name=lerobot-$1 version=$1 python=$2
    shift 2
    case " $chosen " in *" $version "*) ;; *) return 0 ;; esac
    [ -f "$folder/$name/complete" ] && return
    "$python" -c "" 2>/dev/null || { echo "$python is needed for $name: install it or put it on the path" >&2; exit 1; }
    "$python" -m pip index versions lerobot 2>/dev/null | tr ', ' '\n\n' | grep -qx "$version" ||
        { echo "lerobot $version is not in the package index for $("$python" -V): left out" >&2; return 0; }
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --no-compile "$@" -e "$here[sim,serve]"
    "$folder/$name/bin/python" -m pip install --quiet --no-compile --no-deps -e "$here/lerobot_policy_video2act"
    # torchcodec looks for an installed FFmpeg; it is given the one that PyAV brings
    libraries=$(echo "$folder/$name"/lib/python3*/site-packages/av.libs)
    mkdir -p "$folder/$name/ffmpeg"
    for file in "$libraries"/libav* "$libraries"/libsw*; do
        ln -sf "$file" "$folder/$name/ffmpeg/$(basename "$file" | sed -E 's/-[0-9a-f]+\.so\.([0-9]+).*/.so.\1/')"
    done
    touch "$folder/$name/complete"
}
new='aloha,pusht,metaworld,training,evaluation,core_scripts,diffusers-dep,transformers-dep,peft-dep'
venv 0.4.4 "${PYTHON311:-python3.11}" 'lerobot[aloha,pusht,metaworld,transformers-dep]==0.4.4' 'torch==2.10.*' 'diffusers==0.35.*' 'transformers==4.57.*'
venv 0.6.1 "${PYTHON312:-python3.12}" "lerobot[$new]==0.6.1" 'torch==2.11.*' 'diffusers==0.39.*' 'transformers==5.5.*'
venv 0.7.0 "${PYTHON312:-python3.12}" "lerobot[$new]==0.7.0"
ls "$folder"/lerobot-*/complete >/dev/null 2>&1 || { echo "none of lerobot $chosen could be installed" >&2; exit 1; }
