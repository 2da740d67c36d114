#!/usr/bin/env bash
# Builds the two programs, and the benches and tests of scripts/gpu_check.sh, for NVIDIA GPUs of one compute capability:
#
#   scripts/build_gpu.sh [CAPABILITY]     90 (Hopper, the default), 89 (Ada), 80 (Ampere), 100, 120 (Blackwell) ...
#
# They lie in target/gpu-CAPABILITY/bin, stripped. CUDA's libraries are looked for when a GPU is asked for, so the same
# programs start, and run on the CPU, where no CUDA is installed. Needs no GPU and no CUDA here: the compiler comes from
# scripts/setup_cuda.sh unless CUDA_HOME names one. The first build takes about 16 minutes of one core; an unchanged
# dependency is not compiled again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
capability=${1:-90}
bytes_max=$((64 << 20))
if ! [[ $capability =~ ^[0-9]{2,3}$ ]] || (($# > 1)); then
  echo "usage: $0 [CAPABILITY], such as 90 for 9.0" >&2
  exit 2
fi

if [[ -z ${CUDA_HOME:-} ]]; then
  CUDA_HOME=$(scripts/setup_cuda.sh | tail -n 1)
fi
export CUDA_HOME PATH=$CUDA_HOME/bin:$PATH CUDA_COMPUTE_CAP=$capability CUDARC_CUDA_VERSION=13000
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}

# The linker wants to see every library that candle's build script names. These stand in for them and are never loaded:
# cudarc opens the real ones by itself.
stubs=$CUDA_HOME/lib/ananke-stubs
if ! [[ -e $stubs/.complete ]]; then
  mkdir -p "$stubs"
  source=$(cargo metadata --locked --format-version 1 --features cuda |
    python3 -c 'import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(p["manifest_path"] for p in packages if p["name"] == "cudarc").removesuffix("/Cargo.toml"))')
  while read -r module library soname; do
    grep -ohE 'load::<_F>\("[A-Za-z0-9_]+"\)' "$source/src/$module/sys/mod.rs" |
      sed -E 's/.*"(.*)".*/void \1(void){__builtin_trap();}/' | sort -u > "$stubs/$library.c"
    cc -shared -fPIC -O1 -w -fno-builtin -Wl,-soname,"$soname" -o "$stubs/lib$library.so" "$stubs/$library.c"
  done << 'LIBRARIES'
driver cuda libcuda.so.1
nvrtc nvrtc libnvrtc.so.13
curand curand libcurand.so.10
cublas cublas libcublas.so.13
cublaslt cublasLt libcublasLt.so.13
LIBRARIES
  touch "$stubs/.complete"
fi
export LIBRARY_PATH=$stubs${LIBRARY_PATH:+:$LIBRARY_PATH}

# nvcc leaves what candle's kernels compile to as it is, 31 MB; compressed it is a quarter of that, and is unpacked once,
# when the driver loads it.
export NVCC_APPEND_FLAGS="-Xfatbin -compress-all --compress-mode=size${NVCC_APPEND_FLAGS:+ $NVCC_APPEND_FLAGS}"

# With a target named, these flags reach the crates but not the build scripts. The first makes cudarc open the libraries
# at run time; the second tells our own code so.
target=${ANANKE_GPU_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<< "$target")_RUSTFLAGS
export "$variable=--cfg feature=\"dynamic-loading\" --cfg cudarc_dynload"
folder=${CARGO_TARGET_DIR:-$root/target}/gpu-$capability
build=(--locked --release --features cuda --target "$target" --target-dir "$folder")
# What runs once a request, or once, is compiled for size.
for crate in jsonschema minijinja clap_builder; do
  build+=(--config "profile.release.package.$crate.opt-level=\"s\"")
done
cargo build "${build[@]}" --bins
mkdir -p "$folder/bin"
for program in ananke-serve ananke; do
  install "$folder/$target/release/$program" "$folder/bin/$program"
done
# Of tests and benches only cargo knows the files' names.
cargo test "${build[@]}" --no-run --lib --test gpu --bench kernels --bench decode --bench load --bench prefill --bench constrained \
  --message-format json-render-diagnostics |
  python3 -c 'import json, sys
names = {("lib", "ananke"): "test-lib", ("test", "gpu"): "test-gpu",
         **{("bench", name): f"bench-{name}" for name in ("kernels", "decode", "load", "prefill", "constrained")}}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        name = names.get((message["target"]["kind"][0], message["target"]["name"]))
        if name:
            print(name, message["executable"])' |
  while read -r name file; do
    install "$file" "$folder/bin/$name"
  done
strip "$folder"/bin/*
for program in "$folder"/bin/*; do
  bytes=$(stat -c %s "$program")
  echo "$program: $bytes bytes"
  # The bound is on what is shipped; tests and benches stay here.
  if [[ ${program##*/} == ananke* ]] && ((bytes > bytes_max)); then
    echo "$program is larger than $bytes_max bytes" >&2
    exit 1
  fi
done

# Where this is built there may be no CUDA at all: then this shows that the server starts all the same.
"$folder/bin/ananke-serve" --version
if ldd "$folder/bin/ananke-serve" | grep -E 'libcuda|libcublas|libcurand|libnvrtc'; then
  echo "the server is linked to CUDA's libraries: it would not start without them" >&2
  exit 1
fi
