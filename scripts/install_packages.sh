#!/bin/sh
# Installs packages of Debian or Ubuntu, or says what to run.  install_packages.sh WHY PACKAGE...
set -e
why=$1
shift
command="apt-get install -y --no-install-recommends $*"
if ! command -v apt-get >/dev/null; then
    echo "$why: install your distribution's packages for $*, then run make again" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command >/dev/null
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive $command >/dev/null
else
    echo "$why; run this, then make again:  sudo apt-get update && sudo $command" >&2
    exit 1
fi
