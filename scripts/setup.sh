#!/bin/sh
# What a fresh machine needs before pip can do the rest.
#   setup.sh venv     make .venv with the first Python of 3.11 or later ($PYTHON is tried first)
#   setup.sh debian   install the Debian packages the tests use, where they are missing
set -eu
cd "$(dirname "$0")/.."

can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

install() {
    echo "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "towline needs Python 3.11 or later; set PYTHON to one: make PYTHON=/path/to/python3" >&2
    exit 1
}

make_venv() {
    python=$(find_python)
    rm -rf .venv
    if "$python" -m venv .venv 2>/dev/null; then return; fi
    # Debian ships Python without ensurepip
    if can_install; then
        install python3-venv
        rm -rf .venv
        "$python" -m venv .venv
    else
        echo "$python can't make a virtual environment; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
}

have() {
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]
}

debian() {
    missing=
    for pair in sshd:openssh-server tmux:tmux rsync:rsync unzip:unzip ip:iproute2 iptables:iptables faketime:faketime; do
        have "${pair%%:*}" || missing="$missing ${pair#*:}"
    done
    [ -n "$missing" ] || return 0
    if can_install; then
        # shellcheck disable=SC2086 # a list of names
        install $missing
    else
        echo "not installed:$missing; the tests that need them are skipped"
    fi
}

case ${1:-} in
venv) make_venv ;;
debian) debian ;;
*)
    echo "usage: setup.sh venv|debian" >&2
    exit 2
    ;;
esac
