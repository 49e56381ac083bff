#!/bin/sh
# Says by its exit status whether this machine's kernel can make links of a type, on a parent and in namespaces.
# Usage: has-link.sh ipvlan
exec unshare --map-root-user --net sh -c '
    ip link add parent type veth peer name port && ip link add link parent name probe type "$1"
' probe "$1" >/dev/null 2>&1
