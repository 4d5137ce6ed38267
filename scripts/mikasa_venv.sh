#!/bin/sh
# A virtual environment for MIKASA-Robo's Intercept: ManiSkill asks for an older numpy than this package, so it has its own.
#
#   scripts/mikasa_venv.sh FOLDER      FOLDER/bin/python, and FOLDER/mesa.env, to be sourced before it
#
# ManiSkill draws by Vulkan, on a CPU by Mesa's lavapipe, of which it needs version 24 or newer. On Debian 12,
# whose own is older, the backport is unpacked into FOLDER/mesa; nothing is installed system-wide.
set -e
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=${PYTHON311:-python3.11}
command -v "$python" >/dev/null || { echo "$python is needed for MIKASA: install it or put it on the path" >&2; exit 1; }
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip() { "$folder/bin/python" -m pip install --quiet --no-compile "$@"; }
pip 'torch==2.13.*'
pip 'mani_skill==3.0.1' 'numpy<2' 'setuptools<81'
pip --no-deps 'mikasa-robo-suite==1.0.0' openpi-client
pip websockets msgpack
[ -f "$folder/mesa.env" ] && exit 0
if ! grep -q bookworm /etc/os-release; then
	echo "note: this is no Debian 12, so the machine's own Vulkan driver draws: install Mesa's (mesa-vulkan-drivers), 24 or newer"
	: > "$folder/mesa.env"
	exit 0
fi
apt=$folder/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$folder/mesa"
# the machine's own mirror, with the suite of backports in place of the updates
cat /etc/apt/sources.list.d/debian.sources | sed 's/^Suites: bookworm bookworm-updates/Suites: bookworm bookworm-backports/' > "$apt/debian.sources"
options="-o Dir::Etc::sourcelist=$apt/debian.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$apt/lists -o Dir::Cache=$apt/cache"
apt-get -qq $options update
apt-get -qq $options --download-only -y -t bookworm-backports install mesa-vulkan-drivers libdrm2 libdrm-amdgpu1 >/dev/null
for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$folder/mesa"; done
lib=$folder/mesa/usr/lib/x86_64-linux-gnu
sed -i "s|\"library_path\": \".*libvulkan_lvp|\"library_path\": \"$lib/libvulkan_lvp|" "$folder"/mesa/usr/share/vulkan/icd.d/lvp_icd*.json
cat > "$folder/mesa.env" <<END
export LD_LIBRARY_PATH=$lib VK_ICD_FILENAMES=$(echo "$folder"/mesa/usr/share/vulkan/icd.d/lvp_icd*.json)
END
