#!/bin/bash
# Asks the command of an attempt to save and end.
cd "$(dirname "$0")" || exit 1
file="attempts/$1/pid"
[[ ! -f $file ]] || kill -TERM "$(cat "$file")" 2>/dev/null || true
