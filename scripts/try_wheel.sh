#!/usr/bin/env bash
# try_wheel.sh WHEEL FOLDER: the wheel, without extras, in a clean virtual environment. `make wheel` calls it.
set -euo pipefail
wheel=$(realpath "$1") folder=$2 constraints=$(realpath constraints.txt)
version=$(basename "$wheel" | cut -d- -f2)

rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
cd "$folder" # away from the checkout
bin/python -m pip install --quiet --no-compile -c "$constraints" torch
bin/python -m pip install --quiet --no-compile -c "$constraints" "$wheel"

bin/python -c '
import video2act
assert "site-packages" in video2act.__file__, video2act.__file__
assert all(getattr(video2act, name) for name in video2act.__all__)
'
test "$(bin/video2act --version)" = "video2act $version"
bin/video2act --help | grep -q "train-video"
bin/video2act info tiny | grep -q "tiny"

# what an extra brings is asked for by name, in one line
if said=$(bin/video2act collect --env metaworld:push-v3 --episodes 1 --out data 2>&1); then
    echo "collect worked without a simulator" >&2
    exit 1
fi
grep -q "pip install 'video2act\[sim\]'" <<<"$said" || { echo "$said" >&2; exit 1; }
test "$(wc -l <<<"$said")" -eq 1 || { echo "$said" >&2; exit 1; }
echo "$(basename "$wheel"): imported, and four commands tried, on $(bin/python --version)"
