#!/usr/bin/env bash
# What only a GPU can show, one stage per run, each under nine minutes:
#
#   scripts/gpu_check.sh parity     every kernel against its CPU body, whole models' logits, and a run under
#                                   compute-sanitizer where that is installed
#   scripts/gpu_check.sh kernels    each kernel's time and share of the memory's speed
#   scripts/gpu_check.sh decode     tokens per second of made-up models of real shapes
#
# Needs what scripts/build_gpu.sh builds, for this GPU's capability; nothing is compiled here. BIN names its folder where
# it is not target/gpu-90/bin. The full log goes to OUT (default: target/gpu-check); the last thing printed is a table.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
stage=${1:-}
bin=${BIN:-target/gpu-90/bin}
out=${OUT:-target/gpu-check}
seconds_max=500
mkdir -p "$out"
log=$out/$stage.log

# CUDA's libraries, where they came with Python packages.
if [[ -z ${LD_LIBRARY_PATH:-} ]]; then
  for folder in /usr/local/cuda/lib64 $(python3 -c 'import site; print(*site.getsitepackages())' 2> /dev/null); do
    for candidate in "$folder" "$folder/nvidia/cu13/lib"; do
      if compgen -G "$candidate/libcublas.so.13*" > /dev/null; then
        export LD_LIBRARY_PATH=$candidate
      fi
    done
  done
fi

machine() {
  date -u +%Y-%m-%dT%H:%MZ
  nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader
  git log -1 --format='commit %h' 2> /dev/null || true
}

# Tests that compare must find a GPU; one after another, because they share it.
run_tests() {
  ANANKE_REQUIRE_GPU=1 timeout "$seconds_max" "$@" --test-threads=1
}

summary() {
  grep -hE '^(test .*(ok|FAILED)|test result)|ERROR SUMMARY|passed=|panicked at|off by' "$log" | tail -n 60
}

case $stage in
  parity)
    {
      machine
      failed=0
      run_tests "$bin/test-lib" kernels:: || failed=1
      run_tests "$bin/test-gpu" || failed=1
      if command -v compute-sanitizer > /dev/null; then
        # Smaller: the sanitizer is a hundred times slower.
        run_tests compute-sanitizer --error-exitcode 9 "$bin/test-lib" kernels::rope kernels::rms_norm kernels::gather \
          kernels::kv_write kernels::paged_attention::tests::every_device kernels::mla_attention::tests::every_device \
          kernels::pair_groups kernels::grouped_matmul::tests::every_device kernels::expert_choice || failed=1
      else
        echo "compute-sanitizer is not installed: memory accesses were not checked"
      fi
      echo "passed=$((1 - failed))"
    } > "$log" 2>&1 || true
    summary
    grep -q '^passed=1$' "$log"
    ;;
  kernels | decode)
    {
      machine
      timeout "$seconds_max" "$bin/bench-$stage" --gpu "${GPU:-0}" "${@:2}"
      echo "passed=1"
    } > "$log" 2>&1 || true
    head -n 4 "$log"
    grep -E '^(\||copy|Error|passed=)|panicked' "$log"
    grep -q '^passed=1$' "$log"
    ;;
  *)
    echo "usage: $0 parity | kernels | decode [CELL...]" >&2
    exit 2
    ;;
esac
