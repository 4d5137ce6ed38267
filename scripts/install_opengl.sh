#!/bin/sh
# Installs what MuJoCo needs to draw without a screen (Debian, Ubuntu), or says what to run.
set -e
packages="libegl1 libgl1-mesa-dri libosmesa6"
command="apt-get install -y --no-install-recommends $packages"
if ! command -v apt-get >/dev/null; then
    echo "MuJoCo needs EGL: install your distribution's packages for $packages, then run make again" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command >/dev/null
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive $command >/dev/null
else
    echo "MuJoCo needs EGL; run this, then make again:  sudo apt-get update && sudo $command" >&2
    exit 1
fi
