#!/usr/bin/env bash
# fetch_zig.sh FOLDER: the standard library of the ziglang wheel below into FOLDER/NAME-VERSION/, and the whole
# compiler, the judge, into FOLDER/../tools/zig/.
set -euo pipefail
folder=$(realpath -m "$1")
package=ziglang==0.15.2
target="$folder/${package/==/-}"
[ -d "$target" ] && [ -x "$folder/../tools/zig/zig" ] && exit
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$scratch" "$package"
python3 - "$scratch"/*.whl "$target" "$folder/../tools/zig" <<'UNPACK'
import os, sys, zipfile
wheel, target, tools = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        where = None
        if name.startswith("ziglang/lib/std/") and name.endswith(".zig"):
            where = os.path.join(target, name.removeprefix("ziglang/lib/"))
        elif name == "ziglang/zig":
            where = os.path.join(tools, "zig")
        if where:
            os.makedirs(os.path.dirname(where), exist_ok=True)
            with open(where, "wb") as out:
                out.write(archive.read(name))
os.chmod(os.path.join(tools, "zig"), 0o755)
UNPACK
