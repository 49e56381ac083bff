#!/bin/sh
# Runs a command as root on a Linux kernel of its own: for tests of link types that this machine's kernel lacks.
# The kernel is User-Mode Linux, an ordinary program: no image, no KVM, no root. It sees this machine's files as they
# are; what the command writes is kept in memory and gone when it ends.
# Usage: lab.sh [-t SECONDS] [-m MEGABYTES] COMMAND [ARGUMENT...]       (600 seconds and 512 MB unless told otherwise)
# The command gets this environment and folder, no stdin; its stdout, stderr and exit status are handed out.
# Exit status 124: time ran out; 125: the lab itself failed. Both say so on stderr.
set -eu

fail() {
    echo "lab: $*" >&2
    exit 125
}

seconds=600 memory=512
while getopts t:m: option; do
    case $option in
        t) seconds=$OPTARG ;;
        m) memory=$OPTARG ;;
        *) fail "usage: lab.sh [-t SECONDS] [-m MEGABYTES] COMMAND [ARGUMENT...]" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || fail "no command given"
kernel=$(command -v linux.uml) || fail "linux.uml is not installed (Debian package user-mode-linux)"
command -v setpriv >/dev/null || fail "setpriv is not installed (Debian package util-linux)"
command -v modprobe >/dev/null || fail "modprobe is not installed (Debian package kmod)"

# A guest that crashes aborts its process: its memory is of no use in a core file.
# shellcheck disable=SC3045
ulimit -c 0 2>/dev/null || true
# The one folder that the guest may write to.
lab=$(mktemp -d "${TMPDIR:-/tmp}/lab.XXXXXX")
guest=
# $1 is the signal that ended us, if one did.
end() {
    trap - EXIT INT TERM HUP
    if [ -n "$guest" ]; then
        kill "$guest" 2>/dev/null || true
        wait "$guest" || true
    fi
    rm -rf "$lab"
    [ -z "${1:-}" ] || kill -s "$1" $$
}
trap end EXIT
for signal in INT TERM HUP; do
    # shellcheck disable=SC2064
    trap "end $signal" $signal
done

quoted() {
    for word; do
        printf "'%s' " "$(printf '%s\n' "$word" | sed "s/'/'\\\\''/g")"
    done
}

# What the guest does after its kernel has started. Everything it is told comes in this file.
{
    echo "#!/bin/sh"
    echo "lab=$(quoted "$lab")"
    cat "$(dirname "$0")/init.sh"
} >"$lab/init"
{
    export -p
    echo "export TERM=dumb"
    echo "cd $(quoted "$PWD") || exit"
    echo "exec $(quoted "$@")"
} >"$lab/command"
chmod +x "$lab/init"

# The guest's memory is a file. Containers often have a small /dev/shm, where it would end with a bus error.
room=$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
[ "${room:-0}" -ge "$memory" ] && memory_dir=/dev/shm || memory_dir=$lab

# Console 0 is for the kernel, 1 and 2 are the command's stdout and stderr.
# Should this script be killed, or its whole process group, the guest ends with it.
# shellcheck disable=SC2016
TMPDIR=$memory_dir setpriv --pdeathsig TERM setsid sh -c '
    lab=$1
    shift
    trap "kill \$guest; wait \$guest; rm -rf \"\$lab\"; exit 143" TERM
    "$@" &
    guest=$!
    wait $guest' guest "$lab" timeout -k 5 "$seconds" "$kernel" mem="${memory}M" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro init="$lab/init" \
    uml_dir="$lab" umid=guest quiet panic=-1 con=null con0=null,fd:5 con1=null,fd:3 con2=null,fd:4 \
    3>&1 4>&2 5>"$lab/boot" </dev/null >&5 2>&1 &
guest=$!
status=0
wait $guest || status=$?
guest=

if [ -s "$lab/verdict" ]; then
    exit "$(cat "$lab/verdict")"
fi
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    echo "lab: $1 did not end within $seconds seconds" >&2
    exit 124
fi
cat "$lab/boot" >&2
fail "$1 did not come to an end: the guest is gone without a verdict, its kernel's last words are above"
