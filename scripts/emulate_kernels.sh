#!/usr/bin/env bash
# Runs kernels/*.cu on the CPU, thread by thread, against their definitions in double precision; needs a C++ compiler,
# no CUDA and no GPU. kernels/emulator/emulator.h says what that shows and what it cannot.
#
#   scripts/emulate_kernels.sh [OUT]     about a minute; OUT takes the programs (default: target/emulator)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-${CARGO_TARGET_DIR:-$root/target}/emulator}
mkdir -p "$out"
for source in "$root"/kernels/emulator/check_*.cpp; do
  program=$out/$(basename "$source" .cpp)
  # Contracted multiplications would round otherwise than the operations that are written out.
  c++ -std=c++17 -O1 -ffp-contract=off -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-parameter \
    -Wno-unused-function -Wno-missing-field-initializers -o "$program" "$source"
  "$program"
done
