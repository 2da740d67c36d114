#!/bin/sh
# Fetches what ananke-nano was trained on.
#
#   scripts/fetch_nano_data.sh [DEST]     default: ./nano-data
#
# Sources go to DEST/src, and the arguments for `train_nano.py data --roots` to DEST/roots.txt, one on each line.
# Ordinary registry clients only: pip, npm, apt and whatever crates cargo has already fetched on this machine.
set -eu
dest=${1:-nano-data}
mkdir -p "$dest/src/dl" "$dest/src/py" "$dest/src/npm" "$dest/src/apt" "$dest/src/go"
dest=$(cd "$dest" && pwd)
src=$dest/src
pip download -q --no-deps -d "$src/dl" aiohttp==3.14.5 attrs==26.1.0 black==26.10.1 click==8.5.1 django==5.2.19 fastapi==0.165.0 \
  flask==3.1.3 httpx==0.28.1 jinja2==3.1.6 mypy==2.4.1 networkx==3.6.1 pydantic==2.14.3 pygments==2.21.0 pytest==9.2.0 \
  requests==2.34.2 rich==15.0.0 sqlalchemy==2.1.9 starlette==1.10.0 sympy==1.14.0 tornado==6.6.1 werkzeug==3.1.9 ziglang==0.17.1
for wheel in "$src"/dl/*.whl; do
  root=$src/py/$(basename "$wheel" | cut -d- -f1,2)
  mkdir -p "$root"
  unzip -qo "$wheel" -d "$root" -x '*.so'
done
(cd "$src/npm" && npm install --no-audit --no-fund --ignore-scripts --legacy-peer-deps rxjs@7.8.2 zod@4.6.7 effect@4.1.0 viem@2.57.20 \
  ethers@6.17.0 @tanstack/query-core@5.108.0 @tanstack/table-core @tanstack/react-query@5.108.0 @reduxjs/toolkit@2.14.0 immer redux \
  @trpc/server@11.25.2 @noble/curves@2.4.0 type-fest)
(cd "$src/apt" && apt-get download golang-1.19-src && dpkg-deb -x golang-1.19-src_*.deb "$src/go")
{
  ls -d "$src"/py/* "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/*
  ls -d "$src"/npm/node_modules/[!@.]* "$src"/npm/node_modules/@*/*
  python3 - <<'PY'
import platform, sysconfig
print(f"cpython-stdlib={platform.python_version()}=PSF-2.0={sysconfig.get_paths()['stdlib']}")
PY
  echo "go-stdlib=1.19.8=BSD-3-Clause=$src/go/usr/share/go-1.19/src"
} > "$dest/roots.txt"
wc -l "$dest/roots.txt"
