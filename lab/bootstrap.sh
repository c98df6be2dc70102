#!/bin/sh
# Makes the Python environment that everything else runs in: $1 is its folder, $2 the hash-pinned requirements.
set -eu
venv=$1
requirements=$2

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "istio-vm-mesh: Python 3.11 or newer is needed as python3 (Debian 12: apt-get install python3)" >&2
    exit 1
fi
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "istio-vm-mesh: installing the Debian package python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9
[ -e "$venv/.ready" ] && exit 0
echo "istio-vm-mesh: installing the Python packages of $requirements (about a minute, once)"
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$requirements"
touch "$venv/.ready"
