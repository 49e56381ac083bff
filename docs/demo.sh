#!/bin/sh
# The main job on real input: a pod that is on its default network gets a second interface from
# docs/examples/macvlan.yaml or docs/examples/ipvlan.yaml, uses it, and loses it again.
# Usage: docs/demo.sh <folder with the plugins> macvlan|ipvlan
# It makes a world of its own (namespaces for network and mounts, or another kernel where this one lacks such links);
# nothing of this machine is touched.
set -eu
cd "$(dirname "$0")/.."
plugins=$(realpath "$1")
kind=$2

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
wrong() {
    echo "demo: $*, see above" >&2
    exit 1
}

if [ "${DEMO_WORLD:-}" != own ]; then
    export DEMO_WORLD=own
    if conformance/lab/has-link.sh "$kind"; then
        exec unshare --map-root-user --net --mount --propagation private sh "$0" "$plugins" "$kind"
    fi
    step "This machine's kernel has no $kind links: what follows runs on User-Mode Linux, over the same files"
    exec conformance/lab/lab.sh sh "$0" "$plugins" "$kind"
fi

attachment=docs/examples/$kind.yaml
case $kind in
    macvlan) address=10.168.1.200/24 broadcast=10.168.1.255 gateway=10.168.1.1 transcript=ip-addr-samplepod.txt ;;
    ipvlan) address=10.1.2.2/24 broadcast=10.1.2.255 gateway=10.1.2.1 transcript=ip-addr-samplepod3.txt ;;
    *) wrong "no attachment of type $kind in docs/examples" ;;
esac

step "A node: enp0s3 is its network card, $gateway the gateway on the wire behind it"
mount -t tmpfs demo /run
mount -t tmpfs demo /var/lib
mkdir -p /run/netns /run/cni
ip netns add wire
ip netns add pod
ip link set lo up
ip link add enp0s3 type veth peer name port netns wire
ip link set enp0s3 up
ip -n wire address add "$gateway/24" dev port
ip -n wire link set port up
run ip -brief link show enp0s3

step "A pod that is on its default network already"
ip link add cali0 type veth peer name eth0 netns pod
ip link set cali0 up mtu 1410
ip -n pod link set lo up
ip -n pod link set eth0 up mtu 1410
ip -n pod address add 192.168.102.134/32 dev eth0
ip -n pod route add default via 169.254.1.1 dev eth0 onlink
run ip -n pod -brief address

step "The attachment, as Multus hands it to the plugin: spec.config of the manifest, with its name where it has none"
name=$(sed -n 's/^  name: //p' "$attachment")
sed -n "/^  config: '/,/}'\$/p" "$attachment" | sed "1s/^  config: '//; s/}'\$/}/" >/run/cni/net.conf
if grep -q '^ *"name":' /run/cni/net.conf; then
    name=$(sed -n 's/^ *"name": "\(.*\)",/\1/p' /run/cni/net.conf)
else
    sed -i "1s/{/{ \"name\": \"$name\",/" /run/cni/net.conf
fi
run cat /run/cni/net.conf

cni() { # verb
    printf '$ CNI_COMMAND=%s CNI_CONTAINERID=samplepod CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 %s <net.conf\n' "$1" "$kind"
    CNI_COMMAND=$1 CNI_CONTAINERID=samplepod CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 CNI_PATH=$plugins \
        "$plugins/$kind" </run/cni/net.conf
}

step "ADD"
cni ADD
echo

step "The pod has eth0 and net1 (docs/examples/$transcript is the same pod on a real cluster)"
run ip -n pod address
run ip -n pod route
ip -n pod address show net1 | grep -q "inet $address brd $broadcast scope global net1" || wrong "net1 has not $address"
run ls "/var/lib/cni/networks/$name"
if [ "$kind" = ipvlan ]; then
    mac() { ip "$@" | sed -n 's,.*link/ether \([^ ]*\).*,\1,p'; }
    [ "$(mac link show enp0s3)" = "$(mac -n pod link show net1)" ] || wrong "net1 has not the MAC address of enp0s3"
fi

step "The gateway answers over net1"
run ip netns exec pod ping -c 2 -i 0.2 -W 2 -I net1 "$gateway"

step "DEL"
cni DEL

step "Nothing is left: no net1, the route of eth0 alone, no reservation"
run ip -n pod -brief address
run ip -n pod route
if ip -n pod link show net1 2>/dev/null || ls "/var/lib/cni/networks/$name/${gateway%.*}".* 2>/dev/null; then
    wrong "something is left"
fi

step "Demo of $kind done: attached, reached the gateway, detached, nothing left"
