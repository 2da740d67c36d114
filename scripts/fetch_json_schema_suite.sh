#!/bin/sh
# Fetches the official JSON-Schema-Test-Suite (MIT), drafts 7 and 2020-12, into tests/data/json_schema_suite/, for
# tests/json_schema_suite.rs and scripts/json_schema_suite.py.
#
#   scripts/fetch_json_schema_suite.sh
#
# It comes out of the source package of jsonschema (0.4 MB, from pip's index), checked by its sha256.
set -eu
cd "$(dirname "$0")/.."
package=jsonschema
version=4.25.1
sha256=e4a9655ce0da0c0b67a085847e00a3a51449e1157f4f75e9fb5aa545e122eb85
dest=tests/data/json_schema_suite

if [ -f "$dest/$version.complete" ]; then
  echo "$dest is complete"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip download --quiet --no-deps --no-binary "$package" --dest "$work" "$package==$version"
archive="$work/$package-$version.tar.gz"
echo "$sha256  $archive" | sha256sum --check --quiet
tar -xzf "$archive" -C "$work"
rm -rf "$dest"
mkdir -p "$dest"
for draft in draft7 draft2020-12; do
  cp -R "$work/$package-$version/json/tests/$draft" "$dest/$draft"
done
cp "$work/$package-$version/json/LICENSE" "$dest/LICENSE"
touch "$dest/$version.complete"
echo "fetched the suite into $dest"
