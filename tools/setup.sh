#!/usr/bin/env bash
# Make or refresh .venv: the exact environment of requirements/<device>.txt, and ebm3d itself (editable).
# DEVICE=cpu|cuda and PYTHON=... decide by hand. Otherwise a .venv stays what it is, and a new one is for
# CUDA where there is an NVIDIA GPU, with the first supported Python found.
# Does nothing, within a second, when the last complete set-up was of the same pins.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
# The device; after it the fingerprint of the pins, once all is installed, and the folder. "unfinished"
# until pip is there, so that a set-up that was interrupted is no foreign environment.
readonly STAMP=$VENV/.ebm3d-setup
readonly APT="apt-get install -y make git python3.11 python3.11-venv libegl1 libgl1 libgomp1"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate candidates=(python3.11 python3.12 python3.10 python3)
  for candidate in "${PYTHON:-${candidates[@]}}"; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "expected Python 3.10, 3.11 or 3.12, but found none as ${PYTHON:-${candidates[*]}}; try: $APT"
}

# A listed GPU counts, not /proc/driver/nvidia: a container sees its host's driver without any GPU, too.
choose_device() { # the device that .venv was made for, if any
  local device=${DEVICE:-$1}
  [[ -n $device ]] || { [[ $(nvidia-smi -L 2>/dev/null) =~ GPU\ [0-9]+: ]] && device=cuda || device=cpu; }
  [[ $device == cpu || $device == cuda ]] || fail "DEVICE must be cpu or cuda, but got '$device'; without it, the machine decides"
  echo "$device"
}

fingerprint() { cat "requirements/$1.txt" pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1; }

version() { "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null || true; }

make_venv() { # with this Python; pip last, for that takes seconds
  [[ -w . && (! -e $VENV || -w $VENV) ]] || fail "$PWD must be writable, as $VENV is made in it, but for $(id -un) it is not"
  "$1" -m venv --clear --without-pip "$VENV" && echo unfinished >"$STAMP" &&
    "$VENV/bin/python" -m ensurepip --default-pip >/dev/null ||
    { rm -rf "$VENV"; fail "no virtual environment could be made, see above; if Python lacks a part, try: $APT"; }
}

pip_install() {
  "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$@" ||
    fail "pip failed, see above; once the index is in reach, run this again: pip's cache keeps what came"
}

check() { # the device
  "$VENV/bin/python" -W ignore - "$1" <<'EOF' || fail "the environment does not import; missing system libraries? $APT"
import platform, sys
import ebm3d, mmcv.ops, mmdet3d, numpy, open3d, spconv.pytorch, torch
packages = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, numpy, mmcv, mmdet3d, open3d, ebm3d))
seen = torch.cuda.is_available()
print(f"    Python {platform.python_version()}, {packages}")
print(f"    Device: {torch.cuda.get_device_name() if seen else 'CPU'}")
if sys.argv[1] == "cuda" and torch.version.cuda is None:
    print("    WARNING: pip found a CPU build of torch. Remove .venv, and repeat without PyTorch's CPU wheels "
          "in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.")
elif sys.argv[1] == "cuda" and not seen:
    print(f"    WARNING: torch sees no GPU. Does nvidia-smi list one, with a driver for CUDA {torch.version.cuda}?")
elif sys.argv[1] == "cpu" and seen:
    print("    WARNING: this spconv runs on the CPU only. Hide the GPU (export CUDA_VISIBLE_DEVICES=), or: make setup DEVICE=cuda")
EOF
}

main() {
  local existing='' complete='' folder='' device key python found
  if [[ -f $STAMP ]]; then
    read -r existing complete folder <"$STAMP" || true
    [[ $existing == cpu || $existing == cuda ]] || existing=''
  elif [[ -e $VENV || -L $VENV ]]; then
    fail "$VENV must be the work of a set-up, but $STAMP is missing; move $VENV away"
  fi
  device=$(choose_device "$existing")
  key=$(fingerprint "$device")
  found=$(version "$VENV/bin/python") # none if what it was made with is gone
  # What pip wrote holds the folder: neither a virtual environment nor an editable install can be moved.
  if [[ $device == "$existing" && ${folder:-$PWD} == "$PWD" && -n $found &&
    (-z ${PYTHON:-} || $(version "$PYTHON") == "$found") ]]; then
    [[ $complete != "$key" ]] || return 0
  else
    python=$(find_python)
    say "Making $VENV for $device with $("$python" --version)${existing:+, in place of the one for $existing}."
    make_venv "$python"
  fi
  echo "$device - $PWD" >"$STAMP"
  # With its dependencies: a CUDA build brings its libraries along. Wheels only: nothing is compiled.
  say "Installing torch (half a minute with a CPU build; a CUDA build is gigabytes)."
  pip_install --only-binary :all: --constraint "requirements/$device.txt" torch
  say "Installing mmdet3d, spconv, Open3D and what tests need (1 to 2 minutes)."
  pip_install --only-binary :all: --no-deps --requirement "requirements/$device.txt"
  pip_install --no-deps --no-build-isolation --editable .
  say "Checking that everything imports."
  check "$device"
  echo "$device $key $PWD" >"$STAMP"
  say "Set-up complete in $SECONDS s."
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main
