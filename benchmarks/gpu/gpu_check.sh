#!/usr/bin/env bash
# All that only a GPU can show, in about 9 minutes on one H100 or H200; each stage has its own limit.
#   uv run bash benchmarks/gpu/gpu_check.sh
# On a bare machine (torch 2.11 or newer, Python 3.12, no network) without uv: run wheels.sh in the
# checkout before, where there is a network, and take the folder .whl/ along. README.md says more.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
OUT=${OUT:-$PWD/.gpu/$(date +%Y%m%d-%H%M%S)}
scratch=$(mktemp -d /tmp/gpu_check.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$OUT" "$scratch/json"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD
export TORCHINDUCTOR_CACHE_DIR=$scratch/inductor XDG_CACHE_HOME=$scratch/cache
began=$(date +%s)

say() { echo "== $(($(date +%s) - began)) s: $*" | tee -a "$OUT/log"; }
# check LIMIT NAME WHAT OPTIONS...: one measurement within so many seconds.
check() {
    local limit=$1 name=$2
    shift 2
    timeout "$limit" python3 benchmarks/gpu/gpu_check.py "$@" --out "$scratch/json/$name.json" \
        >> "$OUT/log" 2>&1 || say "FAILED $*"
}
# What is measured is kept at once: where the time is cut short, only the last stage is lost.
keep() {
    cat "$scratch"/json/*.json >> "$OUT/results.jsonl" 2> /dev/null
    rm -f "$scratch"/json/*.json
}
train() {
    timeout 95 python3 train.py --dataroot data/lr2hr --monitor files \
        --checkpoints_dir "$scratch/runs" "$@"
}

# Into the environment itself: tests that start commands set a PYTHONPATH of their own.
if compgen -G ".whl/*.whl" > /dev/null; then
    python3 -m pip install -q --no-index --no-deps --no-compile .whl/*.whl || exit 3
fi
python3 -c "import cyclegan.training.trainer" || exit 3
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee -a "$OUT/log"

say "1 correctness (up to 135 s): the GPU tests on 6 processes"
# The test that is left out tries 4,096 images, which takes minutes.
timeout 95 python3 -m pytest tests/training/test_gpu.py -m gpu -n 6 -p no:cacheprovider \
    --junitxml "$OUT/junit.xml" \
    --deselect tests/training/test_gpu.py::test_a_step_that_does_not_fit_is_told_with_what_would 2>&1 |
    tail -40 | tee -a "$OUT/log"
check 40 trust trust
keep

say "2 steps that are not compiled (75 s)"
check 45 a steps --size 256 --batch 1 \
    --variants plain,eager,eager_first,graph,graph_first,tf32_graph,plain_again
check 25 b steps --size 128 --batch 1 --variants plain,eager,graph,plain_again
check 30 c steps --size 256 --batch 4 --rounds 2 --count 10 --variants plain,eager,graph
check 30 d steps --size 128 --batch 16 --rounds 2 --count 8 --variants plain,eager,graph
check 40 e steps --size 256 --batch 16 --rounds 2 --count 4 --variants plain,eager,graph
keep

say "3 compiled steps (up to 168 s): six compile at once, and are timed one after another"
jobs=("compiled 256 1" "compiled_graph 256 1" "compiled_graph_first 256 1"
    "compiled_graph_layout 256 1" "compiled_graph 128 1" "compiled_graph 256 4")
until=$(($(date +%s) + 125))
export TORCHINDUCTOR_COMPILE_THREADS=4
for job in "${jobs[@]}"; do
    read -r variant size batch <<< "$job"
    name=$variant-$size-$batch
    TORCHINDUCTOR_CACHE_DIR=$scratch/inductor-$name check 168 "$name" compiled \
        --variants "$variant" --size "$size" --batch "$batch" \
        --siblings "${#jobs[@]}" --ready "$scratch/ready" --until "$until" &
done
wait
unset TORCHINDUCTOR_COMPILE_THREADS
keep

say "4 where the time goes (25 s); what was compiled is found again"
check 20 p1 profile --variants graph
TORCHINDUCTOR_CACHE_DIR=$scratch/inductor-compiled_graph-256-1 \
    check 40 p2 profile --variants compiled_graph
keep

say "5 the classic recipe on the demo data as a user starts it (80 s), then other modes (25 s)"
train --name classic --time_limit 80s > "$OUT/train.log" 2>&1 || say "FAILED train.py"
tail -4 "$OUT/train.log" | tee -a "$OUT/log"
cp "$scratch/runs/classic/metrics.jsonl" "$OUT/metrics.jsonl"
du -sh "$scratch/runs/classic" | tee -a "$OUT/log"
modes=("--precision fp16" "--deterministic --histograms_every 1" "--checkpoint_activations"
    "--batch_size auto")
for mode in "${modes[@]}"; do
    name=${mode//[^a-z0-9]/}
    read -ra options <<< "$mode"
    {
        train --name "$name" --steps 60 --compile off "${options[@]}" > "$scratch/$name" 2>&1
        echo "mode $mode: status $?: $(tail -1 "$scratch/$name" | cut -c1-200)" >> "$OUT/log"
    } &
done
wait

say "6 translation (30 s)"
if timeout 45 python3 benchmarks/translate.py --images 256 --rounds 2 \
    > "$scratch/translation" 2>> "$OUT/log"; then
    tail -n 1 "$scratch/translation" >> "$OUT/results.jsonl"
else
    say "FAILED benchmarks/translate.py"
fi
say "end"
tail -25 "$OUT/log"
wc -l "$OUT/results.jsonl"
! grep -q FAILED "$OUT/log"
