#!/bin/sh
# Pre-train a small model on the texts of FILE: sh train.sh FILE [OUT [OPTION ...]]
set -eu
here=$(dirname "$0")
file=$1
out=${2:-runs/books}
[ $# -lt 2 ] && shift 1 || shift 2
[ -f "$here/data/train.parquet" ] || python "$here/chunks.py" "$file" --out "$here/data"
exec mix train books --catalog "$here/catalog.yaml" --model scratch:small --max-length 512 \
  --learning-rate 2e-3 --batch-tokens 4096 --limit 20000 --epochs 1 --eval-every 500 --save-every 100 \
  --out "$out" "$@"
