#!/usr/bin/env bash
# Compiles kernels/*.cu for one compute capability and prints what each kernel takes: registers of a thread, shared bytes
# of a block that are known at compile time, and bytes spilled to memory.
#
#   scripts/kernel_report.sh NVCC CAPABILITY OUT
#
# Fails where a kernel does not compile, a warning is printed, or one spills.
set -euo pipefail

if (($# != 3)); then
  echo "usage: $0 NVCC CAPABILITY OUT" >&2
  exit 2
fi
nvcc=$1 capability=$2 out=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$out"

log=$out/sm_$capability.log
: > "$log"
for source in "$root"/kernels/*.cu; do
  "$nvcc" -std=c++17 -O3 -Werror all-warnings -Xptxas -v -cubin -arch="sm_$capability" \
    -o "$out/$(basename "$source" .cu)-$capability.cubin" "$source" >> "$log" 2>&1 || {
    cat "$log" >&2
    exit 1
  }
done

awk -v capability="$capability" '
  /Compiling entry function/ { split($0, quoted, "\x27"); name = quoted[2] }
  /bytes spill stores/ { match($0, /[0-9]+ bytes spill stores/); spilled = substr($0, RSTART) + 0 }
  /Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5) + 0
    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
    printf "sm_%s %-36s %4d registers %6d shared %4d spilled\n", capability, name, registers, shared, spilled
    count++
    if (spilled > 0) worst = name
  }
  END {
    printf "sm_%s: %d kernels\n", capability, count
    if (count == 0) { print "no kernels were found" > "/dev/stderr"; exit 1 }
    if (worst != "") { print worst " spills" > "/dev/stderr"; exit 1 }
  }' "$log"
