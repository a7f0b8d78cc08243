#!/bin/sh
# Pre-train a small model on the texts of FILE: sh train.sh FILE [OUT] [further options of mix train]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
file=$1
out=${2:-runs/books}
shift "$(( $# > 2 ? 2 : $# ))"
[ -f "$here/data/train.parquet" ] || python "$here/chunks.py" "$file"
mix train books --catalog "$here/catalog.yaml" --model scratch:small --max-length 512 \
  --learning-rate 2e-3 --batch-tokens 4096 --epochs 0.1 --eval-every 200 --save-every 100 --out "$out" "$@"
