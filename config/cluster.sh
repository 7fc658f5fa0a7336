#!/usr/bin/env bash
# Runs three nodes on this machine that are one cluster, until Ctrl-C, or until one of them ends.
#
#     config/cluster.sh SKEIN DIRECTORY [further arguments of `skein serve`]
#
# Their data go to DIRECTORY/1 to 3, what they log to DIRECTORY/1.log to 3.log. All three are ended
# by their process ids, however this ends.
set -euo pipefail

skein=$1
directory=$2
shift 2
config=$(dirname "$0")
nodes=()

stop() {
  trap '' INT TERM
  kill -TERM "${nodes[@]}" 2>/dev/null || true
  wait "${nodes[@]}" 2>/dev/null || true
}

# Whether the node with this HTTP port serves.
is_ready() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
  read -r _ status _ <&3
  [ "$status" = 200 ]
) 2>/dev/null

# Ends with the number of a node that has ended, if there is one.
fail_if_one_has_ended() {
  for number in 1 2 3; do
    if ! kill -0 "${nodes[number - 1]}" 2>/dev/null; then
      echo "node $number has ended; $directory/$number.log ends with:" >&2
      tail -n 3 "$directory/$number.log" >&2
      exit 1
    fi
  done
}

trap stop EXIT
trap 'exit 0' INT TERM
for number in 1 2 3; do
  mkdir -p "$directory/$number"
  "$skein" serve --config "$config/cluster-$number.properties" \
    --set "log.dirs=$directory/$number" "$@" >>"$directory/$number.log" 2>&1 &
  nodes+=($!)
done
echo "three nodes are starting; they log to $directory/1.log to 3.log"
until is_ready 9292 && is_ready 9293 && is_ready 9294; do
  fail_if_one_has_ended
  sleep 0.1
done
echo "ready: clients connect to 127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
echo "       Ctrl-C stops all three"
wait -n || true
fail_if_one_has_ended
