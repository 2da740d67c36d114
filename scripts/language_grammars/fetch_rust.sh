#!/usr/bin/env bash
# fetch_rust.sh FOLDER: the Rust files of the crates below, into FOLDER/NAME-VERSION/.
# Cargo fetches them (from crates.io, or from what it has already when CARGO_NET_OFFLINE=true); only `src/` is copied.
set -euo pipefail
folder=$(realpath "$1")
crates=(
    anyhow@1.0.104
    axum@0.8.9
    clap_builder@4.6.7
    hashbrown@0.17.1
    hyper@1.12.0
    indexmap@2.14.2
    itertools@0.14.0
    petgraph@0.8.3
    rand@0.10.4
    rayon@1.12.0
    regex-automata@0.4.19
    serde_json@1.0.154
    syn@2.0.119
    thiserror@2.0.21
    tokio@1.54.1
)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
touch "$scratch/src/lib.rs"
{
    printf '[package]\nname = "scratch"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'
    for crate in "${crates[@]}"; do echo "${crate%@*} = \"=${crate#*@}\""; done
    printf '\n[workspace]\n'
} >"$scratch/Cargo.toml"
cargo metadata --quiet --format-version 1 --manifest-path "$scratch/Cargo.toml" >"$scratch/metadata.json"
for crate in "${crates[@]}"; do
    target="$folder/${crate/@/-}"
    [ -d "$target" ] && continue
    manifest=$(tr ',' '\n' <"$scratch/metadata.json" |
        sed -n "s|^\"manifest_path\":\"\(.*/${crate/@/-}/Cargo.toml\)\".*|\1|p" | head -n 1)
    [ -n "$manifest" ] || { echo "cargo has no $crate" >&2; exit 1; }
    source=$(dirname "$manifest")/src
    mkdir -p "$target"
    (cd "$source" && find . -name '*.rs' -exec cp --parents -t "$target" {} +)
done
