#!/bin/sh
# The main job on real input: a pod with an annotation gets a second interface from multus, uses it, and loses it again.
# Everything is read as it stands in docs/examples: the node's 00-multus.conf, the pod, and the attachment it names.
# Usage: docs/demo.sh FOLDER POD
#   FOLDER  the plugins; cni-conformance, which plays the API server, lies there too or on the PATH
#   POD     samplepod (a macvlan attachment) or samplepod3 (an ipvlan attachment)
# DEMO_PLUGINS: a folder whose plugins are used instead, where it has them; multus is always FOLDER's.
# It makes a world of its own (namespaces for network and mounts, or another kernel where this one lacks such links);
# nothing of this machine is touched.
set -eu
cd "$(dirname "$0")/.."
plugins=$(realpath "$1")
pod=$2
suite=$plugins/cni-conformance
[ -x "$suite" ] || suite=cni-conformance

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
wrong() {
    echo "demo: $*, see above" >&2
    exit 1
}

case $pod in
    samplepod) kind=macvlan network=macvlan-conf address=10.168.1.200/24 broadcast=10.168.1.255 gateway=10.168.1.1 ;;
    samplepod3) kind=ipvlan network=ipvlan address=10.1.2.2/24 broadcast=10.1.2.255 gateway=10.1.2.1 ;;
    *)
        echo "demo: no walk for a pod $pod; there is one for samplepod and one for samplepod3" >&2
        exit 1
        ;;
esac

if [ "${DEMO_WORLD:-}" != own ]; then
    export DEMO_WORLD=own
    if conformance/lab/has-link.sh "$kind"; then
        exec unshare --map-root-user --net --mount --propagation private sh "$0" "$plugins" "$pod"
    fi
    step "This machine's kernel has no $kind links: what follows runs on User-Mode Linux, over the same files"
    exec conformance/lab/lab.sh sh "$0" "$plugins" "$pod"
fi

step "A node: enp0s3 is its network card, $gateway the gateway on the wire behind it"
for folder in /run /var/lib /etc /opt; do mount -t tmpfs demo "$folder"; done
mkdir -p /run/netns /etc/cni/net.d/multus.d /opt/cni/bin
ip netns add wire
ip netns add pod
ip -n pod link set lo up
ip link set lo up
ip link add enp0s3 type veth peer name port netns wire
ip link set enp0s3 up
ip -n wire address add "$gateway/24" dev port
ip -n wire link set port up
run ip -brief link show enp0s3

step "Its plugins, and 00-multus.conf, in which the default network is calico (here docs/stand-in/calico) with portmap"
cp docs/stand-in/calico "$plugins/multus" /opt/cni/bin
for plugin in macvlan ipvlan host-local portmap; do
    cp "$plugins/$plugin" /opt/cni/bin
    if [ -x "${DEMO_PLUGINS:-/nowhere}/$plugin" ]; then cp "$DEMO_PLUGINS/$plugin" /opt/cni/bin; fi
done
cp docs/examples/00-multus.conf /etc/cni/net.d
run ls /opt/cni/bin /etc/cni/net.d

step "The API server, with the attachment and the pod ($(grep -o 'k8s.v1.*networks: .*' "docs/examples/$pod.yaml"))"
objects="docs/examples/$kind.yaml docs/examples/$pod.yaml"
kubeconfig=/etc/cni/net.d/multus.d/multus.kubeconfig
mkfifo /run/until-the-end /run/ready
# shellcheck disable=SC2086
"$suite" api-server $(printf -- '--objects %s ' $objects) --kubeconfig "$kubeconfig" \
    </run/until-the-end >/run/ready &
server=$!
# Should this script be ended early, the server ends with its pipe.
exec 3>/run/until-the-end
head -n 1 /run/ready
run cat "docs/examples/$kind.yaml"

cni() { # verb
    printf '$ CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_IFNAME=eth0 CNI_ARGS=... multus <00-multus.conf\n' "$1" "$pod"
    CNI_COMMAND=$1 CNI_CONTAINERID=$pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
        CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=$pod;K8S_POD_INFRA_CONTAINER_ID=$pod" \
        /opt/cni/bin/multus </etc/cni/net.d/00-multus.conf
}

step "ADD, as a runtime calls it: multus attaches the default network and the pod's annotation"
cni ADD
echo

step "The pod has eth0 and net1"
run ip -n pod address
run ip -n pod route
step "The same pod on a real cluster (docs/examples/ip-addr-$pod.txt)"
cat "docs/examples/ip-addr-$pod.txt"
expect() { # interface, what its lines in the pod must say
    ip -n pod address show "$1" | grep -q "$2" || wrong "$1 has not: $2"
}
expect eth0 "mtu 1410"
expect eth0 "inet 192.168.102.134/32 brd 192.168.102.134 scope global eth0"
expect net1 "mtu 1500"
expect net1 "inet $address brd $broadcast scope global net1"
run ls "/var/lib/cni/networks/$network" /var/lib/cni/multus
if [ "$kind" = ipvlan ]; then
    mac() { ip "$@" | sed -n 's,.*link/ether \([^ ]*\).*,\1,p'; }
    [ "$(mac link show enp0s3)" = "$(mac -n pod link show net1)" ] || wrong "net1 has not the MAC address of enp0s3"
fi

step "The gateway answers over net1"
run ip netns exec pod ping -c 2 -i 0.2 -W 2 -I net1 "$gateway"

step "DEL"
cni DEL

step "Nothing is left: no interface, no reservation, no state of multus"
run ip -n pod -brief address
run ip -brief link
left=$(ip -n pod -brief link | grep -v '^lo '; ip -brief link | grep cali;
    find "/var/lib/cni/networks/$network" /var/lib/cni/multus -type f ! -name last_reserved_ip.0 ! -name lock) || true
[ -z "$left" ] || wrong "something is left: $left"

kill "$server"
wait "$server" || true
step "Demo of $pod done: attached, reached the gateway, detached, nothing left"
