#!/bin/sh
# The main job on real input: a pod that is on its default network gets a second interface from
# docs/examples/macvlan.yaml, uses it, and loses it again.
# Usage: docs/demo.sh <folder with the plugins>
# It makes a world of its own (namespaces for network and mounts); nothing of this machine is touched.
set -eu
cd "$(dirname "$0")/.."
plugins=$(realpath "$1")

if [ "${DEMO_WORLD:-}" != own ]; then
    DEMO_WORLD=own exec unshare --map-root-user --net --mount --propagation private sh "$0" "$plugins"
fi

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "A node: enp0s3 is its network card, 10.168.1.1 the gateway on the wire behind it"
mount -t tmpfs demo /run
mount -t tmpfs demo /var/lib
mkdir -p /run/netns /run/cni
ip netns add wire
ip netns add pod
ip link set lo up
ip link add enp0s3 type veth peer name port netns wire
ip link set enp0s3 up
ip -n wire address add 10.168.1.1/24 dev port
ip -n wire link set port up

step "A pod that is on its default network already"
ip link add cali0 type veth peer name eth0 netns pod
ip link set cali0 up mtu 1410
ip -n pod link set lo up
ip -n pod link set eth0 up mtu 1410
ip -n pod address add 192.168.102.134/32 dev eth0
ip -n pod route add default via 169.254.1.1 dev eth0 onlink
run ip -n pod -brief address

step "The attachment, as Multus hands it to the plugin: spec.config of the manifest, and its name"
attachment=docs/examples/macvlan.yaml
name=$(sed -n 's/^  name: //p' $attachment)
sed -n "/^  config: '/,/}'\$/p" $attachment |
    sed "1s/^  config: '{/{ \"name\": \"$name\",/; s/}'\$/}/" >/run/cni/net.conf
run cat /run/cni/net.conf

cni() { # verb
    printf '$ CNI_COMMAND=%s CNI_CONTAINERID=samplepod CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 macvlan <net.conf\n' "$1"
    CNI_COMMAND=$1 CNI_CONTAINERID=samplepod CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 CNI_PATH=$plugins \
        "$plugins/macvlan" </run/cni/net.conf
}

step "ADD"
cni ADD
echo

step "The pod has eth0 and net1 (docs/examples/ip-addr-samplepod.txt is the same pod on a real cluster)"
run ip -n pod address
run ip -n pod route
ip -n pod address show net1 | grep -q 'inet 10.168.1.200/24 brd 10.168.1.255 scope global net1'
run ls /var/lib/cni/networks/"$name"

step "The gateway answers over net1"
run ip netns exec pod ping -c 2 -i 0.2 -W 2 -I net1 10.168.1.1

step "DEL"
cni DEL

step "Nothing is left: no net1, the route of eth0 alone, no reservation"
run ip -n pod -brief address
run ip -n pod route
if ip -n pod link show net1 2>/dev/null || ls /var/lib/cni/networks/"$name"/10.168.1.* 2>/dev/null; then
    echo "demo: something is left, see above" >&2
    exit 1
fi

step "Demo done: attached, reached the gateway, detached, nothing left"
