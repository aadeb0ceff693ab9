#!/bin/bash
# Prepares one worker: a newer Python than the VM's own 3.10, and the packages. Running it again is quick.
set -euo pipefail
cd "$(dirname "$0")"
source ./settings.sh

# A command that an earlier launch left behind would hold the TPU: it may save, and ends.
for file in attempts/*/pid; do
  [[ -f $file ]] || continue
  for ((second = 0; second < 60; ++second)); do
    kill -TERM "$(cat "$file")" 2>/dev/null || break
    sleep 1
  done
  kill -KILL "$(cat "$file")" 2>/dev/null || true
done
rm -rf attempts

if [[ -n $BEFORE ]]; then bash -c "$BEFORE"; fi
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
uv venv --quiet --allow-existing --python "$PYTHON" venv
uv pip install --quiet --python venv/bin/python "${PACKAGES[@]}"
venv/bin/python -c 'import jaxreg; print("jaxreg", jaxreg.__version__, "is installed")'
