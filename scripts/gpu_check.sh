#!/usr/bin/env bash
# What only a GPU can show, one stage per run, each under nine minutes:
#
#   scripts/gpu_check.sh parity        every kernel against its CPU body, whole models' logits, and a run under
#                                      compute-sanitizer where that is installed
#   scripts/gpu_check.sh kernels       each kernel's time and share of the memory's speed
#   scripts/gpu_check.sh load          how fast weights go from a file to the device, beside page-locked copies
#   scripts/gpu_check.sh decode        tokens per second of made-up models of real shapes
#   scripts/gpu_check.sh prefill       the same for prompts of 512, 4K and 16K tokens, beside PyTorch
#   scripts/gpu_check.sh peers         decode beside transformers and llama.cpp
#   scripts/gpu_check.sh constrained   what constraints cost the time between tokens, and what forced tokens give back
#   scripts/gpu_check.sh serve         what clients of a server wait for, at 1 to 256 streams, and a soak
#
#   scripts/gpu_check.sh STAGE --cpu   the same programs on a small model without a GPU; not for parity
#
# Further arguments go to the stage's program. Needs what scripts/build_gpu.sh builds, for this GPU's capability, and for
# constrained and serve the vocabulary that scripts/fetch_tokenizers.sh brings. BIN names the programs' folder where it
# is not target/gpu-90/bin; with --cpu and no such folder they are built without CUDA. PYTHON is the one that has torch
# and transformers; what is not installed is not measured, which the table says. The full log goes to OUT (default:
# target/gpu-check); the last thing printed is a table.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
stage=${1:-}
shift || true
gpu=${GPU:-0}
if [[ ${1:-} == --cpu ]]; then
  gpu=
  shift
fi
bin=${BIN:-target/gpu-90/bin}
out=${OUT:-target/gpu-check}
python=${PYTHON:-python3}
seconds_max=520
shape=1.3b
mkdir -p "$out"
log=$out/$stage.log

# CUDA's libraries, where they came with Python packages.
if [[ -z ${LD_LIBRARY_PATH:-} && -n $gpu ]]; then
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
  if [[ -n $gpu ]]; then
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader
  else
    sed -n 's/^model name[^:]*: /CPU: /p' /proc/cpuinfo | head -n 1
  fi
  git log -1 --format='commit %h' 2> /dev/null || true
}

# The path of a program that scripts/build_gpu.sh names so; without a GPU, one that is built here.
program() {
  local name=$1 target=${1#bench-} kind=--bin
  if [[ -x $bin/$name ]]; then
    echo "$bin/$name"
    return
  fi
  if [[ -n $gpu ]]; then
    echo "$bin/$name is missing: scripts/build_gpu.sh builds it, and BIN names another folder" >&2
    return 1
  fi
  if [[ $name == bench-* ]]; then
    kind=--bench
  fi
  cargo build --locked --release "$kind" "$target" --message-format json-render-diagnostics |
    "$python" -c 'import json, sys
messages = [message for message in map(json.loads, sys.stdin) if message.get("executable")]
print(*[message["executable"] for message in messages if message["target"]["name"] == sys.argv[1]])' "$target"
}

# Tests that compare must find a GPU; one after another, because they share it.
run_tests() {
  ANANKE_REQUIRE_GPU=1 timeout "$seconds_max" "$@" --test-threads=1
}

# Runs a stage's program with the machine above and the outcome below; everything goes to the log.
logged() {
  {
    machine
    timeout "$seconds_max" "$@" && echo "passed=1"
  } > "$log" 2>&1 || true
}

# The machine, what was not measured, and the table; fails where the stage did.
report() {
  head -n 3 "$log"
  grep -E '^(copy|Error|error|PyTorch|transformers|llama\.cpp|gpu_peers)|panicked|torch.compile failed' "$log" || true
  grep -E '^\|' "$log" || true
  if ! grep -q '^passed=1$' "$log"; then
    echo "the stage failed: see $log" >&2
    return 1
  fi
}

# A folder with a model's configuration and tokenizer, whose weights a server makes up.
dummy_model() {
  local tokenizer=models/tokenizers/deepseek-coder.tokenizer.json
  if ! [[ -f $tokenizer ]]; then
    echo "$tokenizer is missing: run scripts/fetch_tokenizers.sh" >&2
    return 1
  fi
  mkdir -p "$out/$shape"
  "$(program bench-prefill)" --config "$shape" > "$out/$shape/config.json"
  cp "$tokenizer" "$out/$shape/tokenizer.json"
  echo "$out/$shape"
}

case $stage in
  parity)
    if [[ -z $gpu ]]; then
      echo "parity compares a GPU with the CPU; scripts/emulate_kernels.sh is what a CPU can do" >&2
      exit 2
    fi
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
    grep -hE '^(test .*(ok|FAILED)|test result)|ERROR SUMMARY|passed=|panicked at|off by' "$log" | tail -n 60
    grep -q '^passed=1$' "$log"
    ;;
  kernels | load | decode)
    bench=$(program "bench-$stage")
    logged "$bench" ${gpu:+--gpu "$gpu"} "$@"
    report
    ;;
  prefill)
    bench=$(program bench-prefill)
    if [[ -n $gpu ]]; then
      logged "$python" scripts/gpu_peers.py prefill --bench "$bench" --gpu "$gpu" --shape "$shape" "$@"
    else
      logged "$python" scripts/gpu_peers.py prefill --bench "$bench" --shape tiny "$@"
    fi
    report
    ;;
  peers)
    decode=$(program bench-decode)
    shapes=$(program bench-prefill)
    logged "$python" scripts/gpu_peers.py decode --bench "$decode" --shapes "$shapes" ${gpu:+--gpu "$gpu"} "$@"
    report
    ;;
  constrained)
    bench=$(program bench-constrained)
    if [[ -n $gpu ]]; then
      logged "$bench" --gpu "$gpu" --shape "$shape" "$@"
    else
      logged "$bench" --pairs 4 --tokens 32 "$@"
    fi
    report
    ;;
  serve)
    server=$(program ananke-serve)
    if [[ -n $gpu ]]; then
      model=$(dummy_model)
      logged "$python" scripts/serving/latency.py --server "$server" --gpu "$gpu" "$@" \
        -- --gpu "$gpu" --load-format dummy --model "$model"
    else
      # The KV cache is memory once it has been written to: small enough that the loads before the soak fill it.
      logged "$python" scripts/serving/latency.py --server "$server" "$@" -- --kv-memory 160MiB
    fi
    report
    ;;
  *)
    echo "usage: $0 parity | kernels | load | decode | prefill | peers | constrained | serve [--cpu] [ARGUMENT...]" >&2
    exit 2
    ;;
esac
