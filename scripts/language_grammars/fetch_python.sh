#!/usr/bin/env bash
# fetch_python.sh FOLDER: the Python files of the wheels below, into FOLDER/NAME-VERSION/.
set -euo pipefail
folder=$1
packages=(
    anyio==4.6.2.post1
    attrs==24.2.0
    black==24.10.0
    click==8.1.7
    django==5.1.3
    flask==3.0.3
    httpx==0.27.2
    hypothesis==6.119.3
    jinja2==3.1.4
    networkx==3.4.2
    pydantic==2.9.2
    pytest==8.3.3
    requests==2.32.3
    rich==13.9.4
    sympy==1.13.3
    trio==0.27.0
)
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
for package in "${packages[@]}"; do
    target="$folder/${package/==/-}"
    [ -d "$target" ] && continue
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --platform any --python-version 3.11 --dest "$wheels" "$package"
    wheel=("$wheels"/*.whl)
    python3 - "${wheel[0]}" "$target" <<'UNPACK'
import sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(target, [name for name in archive.namelist() if name.endswith(".py")])
UNPACK
    rm "${wheel[@]}"
done
