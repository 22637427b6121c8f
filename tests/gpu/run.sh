#!/usr/bin/env bash
# Steps on a machine with a GPU and no network: tests/gpu/run.sh STEP...
# Steps: check parity modelopt bench8b bench8b-w4a4 bench70b bench70b-w4a4 reference8b startup tune8b qlora8b grid1 grid2 limits1
# limits2, each of a few minutes; the last four go on where they were cut off. tune8b, qlora8b and the grids need NeMo AutoModel and the tokenizer that `python -m tests.gpu.carry .carry/tokenizer.zip` makes; SIZE=tiny
# runs the same code on a tiny model, without a GPU too.
# Needs python3 with torch; what else that machine lacks is unpacked from ./.carry (wheels and zips), if there is one.
# WORK (default /tmp/slipway-gpu) takes models and output, 50 GB of them; results go to $OUT as well, where it is set.
# COMMIT names the tree measured, where it is a copy without its history; .carry/commit may hold it.
set -uo pipefail
cd "$(dirname "$0")/../.."
WORK=${WORK:-/tmp/slipway-gpu} SITE=${SITE:-/tmp/site} PYTHON=${PYTHON:-python3} SIZE=${SIZE:-8b}
export PYTHONPATH=$SITE:src:. HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=$WORK/inductor TRITON_CACHE_DIR=$WORK/triton
[ -f .carry/commit ] && export COMMIT=${COMMIT:-$(cat .carry/commit)}
mkdir -p "$WORK" "$SITE"
say() { echo "$(date +%T) $*"; }

say "unpacking .carry"
for package in .carry/*.whl .carry/*.zip; do
  [ -e "$package" ] && "$PYTHON" -m zipfile -e "$package" "$SITE"
done
say "$(nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader 2>&1); $(nproc) cores; $(df -h --output=avail "$WORK" | tail -1) free in $WORK; $(df -h --output=avail /dev/shm | tail -1) in /dev/shm"

# `OPTION /dev/shm/...` where memory has room for 16 GB of files, else nothing.
in_memory() { [ "$(df -BG --output=avail /dev/shm | tail -1 | tr -dc 0-9)" -ge 16 ] && mkdir -p /dev/shm/slipway-gpu && echo "$1" /dev/shm/slipway-gpu; }
room() { "$PYTHON" -m pytest -q --durations=5 -p no:cacheprovider --timeout=500 "$@"; }

# NeMo's entry point as a command, and a Python that has NeMo; where there is no GPU, with CUDA's bookkeeping stubbed.
nemo_commands() {
  mkdir -p "$WORK/bin"
  local stubs='' # the repository's root is not on its path: the folder mlflow there looks like an installed one to NeMo
  nvidia-smi > /dev/null 2>&1 || stubs="$PWD/tests/lab/nemo/always:$PWD/tests/lab/nemo:"
  printf '#!/bin/sh\nNEMO_SITE="'"$SITE"'" PYTHONPATH="%s" exec %s "$@"\n' "$stubs$SITE:$PWD/src" "$PYTHON" > "$WORK/bin/nemo-python"
  printf '#!/bin/sh\nexec "%s" -P -m nemo_automodel.cli.app "$@"\n' "$WORK/bin/nemo-python" > "$WORK/bin/automodel"
  chmod +x "$WORK/bin/nemo-python" "$WORK/bin/automodel"
  export PATH="$WORK/bin:$PATH" PYTHONPATH="$SITE:$PWD/src:$PWD"
}
# Models of fine-tuning lie in memory where there is room.
tuned_work() { if [ "$SIZE" = 8b ] && [ "$(df -BG --output=avail /dev/shm | tail -1 | tr -dc 0-9)" -ge 30 ]; then mkdir -p /dev/shm/slipway-tune; echo /dev/shm/slipway-tune; else mkdir -p "$WORK/tune"; echo "$WORK/tune"; fi; }

step() {
  case ${1:-} in
    check)
      "$PYTHON" -m tests.gpu.check &&
        "$PYTHON" -m benchmarks.gpu_stream --work "$WORK" --shape tiny --repeats 1 $(in_memory --memory-work) &&
        "$PYTHON" -m benchmarks.seventy_b --work "$WORK/tiny70" --shape tiny --stored-layers 1 --format nvfp4
      ;;
    parity) room tests/gpu/test_products.py tests/gpu/test_same_bytes.py tests/gpu/test_resume.py tests/gpu/test_finite.py tests/gpu/test_streamed_reference.py ;;
    modelopt) room tests/gpu/test_modelopt.py ;;
    bench8b) "$PYTHON" -m benchmarks.gpu_stream --work "$WORK" $(in_memory --memory-work) --workers 2 8 16 ;;
    bench8b-w4a4) "$PYTHON" -m benchmarks.gpu_stream --work "$WORK" --format nvfp4 --repeats 2 --workers 16 ;;
    bench70b) "$PYTHON" -m benchmarks.seventy_b --work "$WORK" $(in_memory --pool) ;;
    bench70b-w4a4) "$PYTHON" -m benchmarks.seventy_b --work "$WORK" $(in_memory --pool) --format nvfp4 ;;
    reference8b) "$PYTHON" -m benchmarks.streamed_reference --work "$WORK" --shape "$SIZE" --device cuda --rows 256 --tokens 512 ;;
    startup) "$PYTHON" -m benchmarks.startup --work "$WORK" --shape "$SIZE" --device "$(nvidia-smi > /dev/null 2>&1 && echo cuda || echo cpu)" --repeats 2 --workers 2 4 8 16 $(in_memory --memory-work) ;;
    tune8b) nemo_commands && "$PYTHON" -m benchmarks.tune --work "$(tuned_work)" --tokenizer "$SITE/tokenizer" --size "$SIZE" --python "$WORK/bin/nemo-python" --budget-s "${BUDGET_S:-300}" ;;
    qlora8b) nemo_commands && "$PYTHON" -m tests.gpu.finetune --work "$(tuned_work)" --tokenizer "$SITE/tokenizer" --size "$SIZE" ;;
    grid1 | grid2 | limits1 | limits2)
      nemo_commands && grid="$(tuned_work)" && cp -n .carry/*.jsonl "$grid" 2> /dev/null
      while sleep 5; do cp "$grid"/*.jsonl "${OUT:-$WORK}"; done > /dev/null 2>&1 & # a command that is cut off keeps its points
      local copying=$! ended=0 what=measure
      [ "${1%?}" = limits ] && what=limits
      "$PYTHON" -m benchmarks.planner_grid "$what" --work "$grid" --tokenizer "$SITE/tokenizer" --half "${1: -1}" --python "$WORK/bin/nemo-python" --seconds "${BUDGET_S:-530}" || ended=$?
      kill "$copying"; cp "$grid"/*.jsonl "${OUT:-$WORK}"; return "$ended"
      ;;
    *) echo "no step '${1:-}': check, parity, modelopt, bench8b, bench8b-w4a4, bench70b, bench70b-w4a4, reference8b, startup, tune8b, qlora8b, grid1, grid2, limits1 or limits2" >&2; return 2 ;;
  esac
}

result=0
for name in "${@:-none}"; do
  say "step $name"
  if [ -n "${OUT:-}" ]; then
    step "$name" 2>&1 | tee "$OUT/$name.log"
    status=${PIPESTATUS[0]}
  else
    step "$name"
    status=$?
  fi
  say "step $name ended with $status"
  [ "$status" -eq 0 ] || result=$status
done
[ -n "${OUT:-}" ] && [ -f "$WORK/log" ] && tail -c 500000 "$WORK/log" > "$OUT/processes.log"
exit "$result"
