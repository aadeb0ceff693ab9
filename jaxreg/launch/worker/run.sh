#!/bin/bash
# Runs the command once for each attempt and shows its output. The command does not hang on the connection: whoever comes
# back, as gcloud does by itself after a lost connection, sees the output from its beginning and gets the exit code.
cd "$(dirname "$0")" || exit 1
attempt="$PWD/attempts/$1"
mkdir -p attempts
echo "jaxreg-launch: begin"
if mkdir "$attempt" 2>/dev/null; then
  : >"$attempt/log"
  # A trap, not "ignore", which the command would inherit: the exit code is written though the machine shuts down.
  setsid bash -c 'trap : TERM; bash command.sh "$1/pid" >"$1/log" 2>&1; echo $? >"$1/exit.new"; mv "$1/exit.new" "$1/exit"' \
    supervisor "$attempt" </dev/null >/dev/null 2>&1 &
  echo $! >"$attempt/supervisor"
fi
until [[ -s $attempt/supervisor ]]; do sleep 0.1; done
tail -s 0.2 -n +1 -f --pid="$(cat "$attempt/supervisor")" "$attempt/log"
code=$(cat "$attempt/exit" 2>/dev/null || echo 137)
printf '\njaxreg-launch: exit %s\n' "$code"
exit "$code"
