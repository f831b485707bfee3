#!/usr/bin/env bash
# Downloads into .whl/ what gpu_check.sh needs beside torch, for a GPU machine without a network:
# Linux on x86-64 with Python 3.12. Run it in any checkout that has a network.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What such a machine has, and what only the live page needs. All else that pyproject.toml and its
# dependencies name is downloaded: so far pydantic, pydantic_core, annotated-types,
# typing-inspection, typing-extensions and websocket-client.
there=(torch torchvision torchmetrics numpy pillow pyyaml rich safetensors filelock)
unused=(visdom tornado)

prune=()
for name in "${there[@]}" "${unused[@]}"; do prune+=(--prune "$name"); done
rm -rf .whl
mkdir .whl
uv export --quiet --no-dev --no-emit-project --no-hashes --no-annotate --no-header \
    "${prune[@]}" --output-file .whl/requirements.txt
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest .whl --requirement .whl/requirements.txt
ls -1 .whl/*.whl
