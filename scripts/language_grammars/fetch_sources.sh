#!/usr/bin/env bash
# Fetches real source files by package name and version from the registries, to judge the language grammars by them.
# They are not part of this repository and keep their own licences.
#
#   scripts/language_grammars/fetch_sources.sh LANGUAGE...     typescript, python, rust, go, zig; none: all of them
#
# Writes sources/LANGUAGE/PACKAGE-VERSION/... below the repository's root.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- typescript python rust go zig
for language in "$@"; do
    fetch="scripts/language_grammars/fetch_$language.sh"
    [ -x "$fetch" ] || { echo "no $fetch" >&2; exit 2; }
    mkdir -p "sources/$language"
    "$fetch" "sources/$language"
    echo "$language: $(find "sources/$language" -type f | wc -l) files in sources/$language" >&2
done
