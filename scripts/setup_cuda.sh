#!/usr/bin/env bash
# Makes a CUDA 13.0 toolkit (compiler, headers, static runtime) from five wheels of the Python package index:
#
#   scripts/setup_cuda.sh [DIR]     default: cuda-13.0 in the user's cache folder for ananke
#
# About 105 MB and a few seconds; needs python3 with pip. Where DIR is a toolkit already, nothing is done. The last line
# printed is DIR: CUDA_HOME=$(scripts/setup_cuda.sh | tail -n 1). It compiles and links; to run, the machine brings the
# driver, cuBLAS and cuRAND. The versions are pinned: the PTX of a newer compiler is refused by drivers of CUDA 13.0.
set -euo pipefail

if (($# > 1)); then
  echo "usage: $0 [DIR]" >&2
  exit 2
fi
target=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/ananke/cuda-13.0}")
if [[ -x $target/bin/nvcc ]]; then
  echo "$target"
  exit
fi
if [[ -e $target ]]; then
  echo "$target exists and is no CUDA toolkit; remove it first, or name another folder" >&2
  exit 2
fi

wheels=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85
)

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Without --no-deps pip would add the compiler's own requirements, which are unpinned and newer.
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work/wheels" "${wheels[@]}"
for wheel in "$work"/wheels/*.whl; do
  python3 -m zipfile -e "$wheel" "$work/unpacked"
done

toolkit=$work/unpacked/nvidia/cu13
find "$toolkit/bin" "$toolkit/nvvm/bin" -type f -exec chmod +x {} +   # the zip module drops the bits
rm -f "$toolkit/lib/libnvvm.so.4"                                     # 63 MB that compiling does not need
ln -s lib "$toolkit/lib64"
# -lcudart finds the static runtime, so that the binary starts where no CUDA is installed.
printf 'GROUP ( %s/lib/libcudart_static.a AS_NEEDED ( -lrt -ldl -lpthread ) )\n' "$target" > "$toolkit/lib/libcudart.so"

mv "$toolkit" "$target"
"$target/bin/nvcc" --version
echo "$target"
