#!/usr/bin/env bash
# fetch_typescript.sh FOLDER: the TypeScript sources of the npm packages below, into FOLDER/NAME-VERSION/, and the
# compiler that judge_typescript.mjs asks, into the folder `judges` beside FOLDER.
set -euo pipefail
folder=$1
packages=(
    @noble/curves@1.6.0
    @reduxjs/toolkit@2.3.0
    @tanstack/query-core@5.59.0
    @trpc/server@11.0.0
    ajv@8.17.1
    effect@3.10.0
    immer@10.1.1
    mobx@6.13.5
    openai@4.70.0
    rxjs@7.8.2
    zod@4.1.0
)
archives=$(mktemp -d)
trap 'rm -rf "$archives"' EXIT
for package in "${packages[@]}"; do
    name=${package#@}
    target="$folder/$(tr '/@' '--' <<< "$name")"
    [ -d "$target" ] && continue
    archive=$(npm pack --silent --pack-destination "$archives" "$package")
    mkdir -p "$target"
    tar -xzf "$archives/$archive" -C "$target" --strip-components=1
    find "$target" -type f \( ! -name '*.ts' -o -name '*.d.ts' \) -delete
    find "$target" -type d -empty -delete
done
npm install --silent --no-save --prefix "$folder/../judges" typescript@5.9.2
