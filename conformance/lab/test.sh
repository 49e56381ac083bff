#!/bin/sh
# Tests of lab.sh itself: a lab that lost a failure would make every test in it worthless.
set -eu
lab=$(realpath "$(dirname "$0")/lab.sh")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

expect() { # exit status, words on stdout or stderr, arguments of lab.sh
    status=$1 words=$2
    shift 2
    found=0
    "$lab" "$@" >"$dir/output" 2>&1 || found=$?
    if [ "$found" != "$status" ] || ! grep -qF -- "$words" "$dir/output"; then
        echo "lab: $*: exit status $found instead of $status, or not \"$words\":" >&2
        cat "$dir/output" >&2
        exit 1
    fi
}

cd "$dir"
expect 0 "a'b  c|$dir|" sh -c 'printf "%s|" "$@"; pwd | tr "\n" "|"' sh "a'b  c"
expect 7 "said on stderr" sh -c 'echo said on stderr >&2; exit 7'
expect 137 "" sh -c 'kill -9 $$'
expect 124 "did not end within 5 seconds" -t 5 sleep 100
expect 125 "gone without a verdict" sh -c 'echo o >/proc/sysrq-trigger; sleep 100'
expect 0 "here for now" sh -c "echo here for now >$dir/file; cat $dir/file"
if [ -e "$dir/file" ]; then
    echo "lab: what was written inside has reached the disk" >&2
    exit 1
fi
# One that is killed with its process group takes its guest and its folder along.
mkfifo "$dir/started"
TMPDIR=$dir setsid "$lab" sh -c 'echo started; sleep 100' >"$dir/started" 2>"$dir/output" &
killed=$!
head -n 1 "$dir/started" >"$dir/line"
kill -9 "-$killed"
seconds=0
while [ -n "$(find "$dir" -maxdepth 1 -name 'lab.*')" ]; do
    seconds=$((seconds + 1))
    if [ "$(cat "$dir/line")" != started ] || [ "$seconds" = 20 ]; then
        echo "lab: what was killed goes on:" >&2
        cat "$dir/output" >&2
        exit 1
    fi
    sleep 1
done
echo "lab: works, and keeps what is written in it to itself"
