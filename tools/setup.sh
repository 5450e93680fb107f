#!/usr/bin/env bash
# Make or refresh .venv: the exact environment of requirements/, and ebm3d itself (editable).
# Does nothing, within a second, when the last complete set-up was of the same pins.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.ebm3d-setup
readonly LOG=$VENV/mmcv-build.log
readonly APT="apt-get install -y make g++ git python3.11 python3.11-venv python3.11-dev libegl1 libgl1"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "expected Python 3.11 as python3.11, python3 or \$PYTHON, but found none; try: $APT"
}

# The path is part of the key: neither a virtual environment nor an editable install can be moved.
fingerprint() { (pwd && cat requirements/*.txt pyproject.toml tools/setup.sh) | sha256sum | cut -d' ' -f1; }

pip_install() { "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$@"; }

install_mmcv() {
  local started=$SECONDS cores memory_gb jobs pid step
  if pip_install --dry-run --no-deps --no-index -r requirements/mmcv.txt 2>/dev/null; then
    return
  fi
  cores=$(nproc)
  memory_gb=$(awk '/MemTotal/ {print int($2 / 1048576)}' /proc/meminfo)
  jobs=$((memory_gb / 2 < cores ? (memory_gb / 2 > 0 ? memory_gb / 2 : 1) : cores))
  say "mmcv: taking its wheel from pip's cache, or compiling its C++ operators: 11 to 14 minutes on 2 cores, $jobs jobs."
  echo "    Once only: the cache keeps the wheel, for other environments too. Full log: $LOG"
  # The operators are built for the CPU, on a machine with a GPU too: no CUDA compiler is needed.
  CUDA_VISIBLE_DEVICES='' FORCE_CUDA=0 MMCV_WITH_OPS=1 MAX_JOBS=$jobs "$VENV/bin/python" -m pip install -v \
    --disable-pip-version-check --no-build-isolation --no-deps -r requirements/mmcv.txt >"$LOG" 2>&1 &
  pid=$!
  trap 'kill "$pid" 2>/dev/null || true' EXIT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if (((SECONDS - started) % 20 == 19)); then
      step=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$LOG" | tail -n 1 | tr -d ' []' | sed 's|/| of |' || true)
      printf '    %3d s  %s\n' $((SECONDS - started)) "${step:+file }${step:-preparing}"
    fi
  done
  trap - EXIT
  wait "$pid" || { tail -n 30 "$LOG" >&2; fail "mmcv did not build (see $LOG); a missing compiler or header? $APT"; }
  say "mmcv: done in $((SECONDS - started)) s."
}

check() {
  "$VENV/bin/python" -W ignore - <<'EOF' || fail "the environment does not import; if mmcv is the cause, its cached wheel may belong to another torch: run '$VENV/bin/python -m pip cache remove mmcv' and 'rm -rf $VENV', then repeat. Missing system libraries: $APT"
import ebm3d, mmcv.ops, mmdet3d, numpy, open3d, spconv.pytorch, torch
print(f"    Python, torch {torch.__version__}, numpy {numpy.__version__}, mmcv {mmcv.__version__}, "
      f"mmdet3d {mmdet3d.__version__}, open3d {open3d.__version__}, ebm3d {ebm3d.__version__}")
EOF
}

main() {
  local key python
  key=$(fingerprint)
  if [[ -f $STAMP && $(<"$STAMP") == "$key" ]]; then
    return
  fi
  python=$(find_python)
  if [[ ! -x $VENV/bin/python ]]; then
    say "Making $VENV with $("$python" --version)."
    "$python" -m venv "$VENV" || fail "no virtual environment could be made; try: $APT"
  fi
  rm -f "$STAMP"
  say "Installing torch and the build tools."
  # With dependencies: where the index has only the CUDA build of torch, its libraries come along.
  pip_install -r requirements/build.txt
  install_mmcv
  say "Installing mmdet3d, spconv, Open3D and the tools (1 to 2 minutes)."
  pip_install --no-deps -r requirements/lock.txt
  pip_install --no-deps --no-build-isolation --editable .
  say "Checking that everything imports."
  check
  echo "$key" >"$STAMP"
  say "Set-up complete in $SECONDS s."
}

main
