#!/bin/sh
# The main job on real input: pods with annotations get further interfaces, use them, and lose them again.
# Everything is read as it stands in docs/examples: the node's configuration, the pods, and the networks they name. What the
# pods then have is compared with docs/examples/ip-addr-POD.txt, where the same pods ran on a cluster.
# Usage: docs/demo.sh FOLDER POD...
#   FOLDER  the plugins; cni-conformance, which plays the API server, lies there too or on the PATH
#   POD     samplepod: multus attaches calico and a macvlan network
#           samplepod-danm: multus calls danm alone, which attaches calico and the ClusterNetwork oampub, an ipvlan network
#           samplepod3: after samplepod-danm, on the same node: the same, and an ipvlan network from multus
# DEMO_PLUGINS: a folder whose plugins are used instead, where it has them; multus and danm are always FOLDER's.
# DEMO_RUNTIME=conflist: multus is the only plugin of a list, for a runtime that knows nothing else; this needs jq.
# It makes a world of its own (namespaces for network and mounts, or another kernel where this one lacks such links);
# nothing of this machine is touched.
set -eu
cd "$(dirname "$0")/.."
plugins=$(realpath "$1")
shift
suite=$plugins/cni-conformance
[ -x "$suite" ] || suite=cni-conformance

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
wrong() {
    echo "demo: $*, see above" >&2
    exit 1
}

case $* in
    samplepod) kind=macvlan example=00-multus.conf gateways=10.168.1.1/24 ;;
    samplepod-danm | 'samplepod-danm samplepod3')
        kind=ipvlan example=00-multus-danm.conf gateways='10.1.2.1/24 10.2.157.30/27'
        ;;
    *)
        echo "demo: no walk for '$*'; there are samplepod, samplepod-danm, and samplepod-danm with samplepod3" >&2
        exit 1
        ;;
esac

if [ "${DEMO_WORLD:-}" != own ]; then
    export DEMO_WORLD=own
    if conformance/lab/has-link.sh "$kind"; then
        exec unshare --map-root-user --net --mount --propagation private sh "$0" "$plugins" "$@"
    fi
    step "This machine's kernel has no $kind links: what follows runs on User-Mode Linux, over the same files"
    exec conformance/lab/lab.sh sh "$0" "$plugins" "$@"
fi

step "A node: enp0s3 is its network card, on the wire behind it are the gateways $gateways"
for folder in /run /var/lib /etc /opt; do mount -t tmpfs demo "$folder"; done
mkdir -p /run/netns /etc/cni/net.d/multus.d /etc/kubernetes/kubeconfig /opt/cni/bin
ip netns add wire
ip link set lo up
ip link add enp0s3 address 08:00:27:b0:4c:0e type veth peer name port netns wire
ip link set enp0s3 up
for gateway in $gateways; do ip -n wire address add "$gateway" dev port; done
ip -n wire link set port up
run ip -brief link show enp0s3
for pod; do
    ip netns add "$pod"
    # Runtimes start pods without IPv6.
    for where in all default; do
        ip netns exec "$pod" sh -c "echo 1 >/proc/sys/net/ipv6/conf/$where/disable_ipv6"
    done
    ip -n "$pod" link set lo up
done

step "Its plugins, and $example; calico is here docs/stand-in/calico"
cp docs/stand-in/calico "$plugins/multus" "$plugins/danm-shim" /opt/cni/bin
ln -s danm-shim /opt/cni/bin/danm
for plugin in macvlan ipvlan host-local portmap; do
    cp "$plugins/$plugin" /opt/cni/bin
    if [ -x "${DEMO_PLUGINS:-/nowhere}/$plugin" ]; then cp "$DEMO_PLUGINS/$plugin" /opt/cni/bin; fi
done
if [ "${DEMO_RUNTIME:-}" = conflist ]; then
    conf=00-multus.conflist
    jq '{ cniVersion: "1.0.0", name, plugins: [del(.cniVersion, .name)] }' "docs/examples/$example" >"/etc/cni/net.d/$conf"
else
    conf=00-multus.conf
    cp "docs/examples/$example" "/etc/cni/net.d/$conf"
fi
objects=docs/examples/$kind.yaml
if [ "$kind" = ipvlan ]; then
    cp docs/examples/default.conf /etc/cni/net.d
    objects="$objects docs/examples/clusternetwork-default.yaml docs/examples/clusternetwork-oampub.yaml"
    run cat "/etc/cni/net.d/$conf"
fi
run ls /opt/cni/bin /etc/cni/net.d

step "The API server, with the networks and the pods"
kubeconfig=/etc/cni/net.d/multus.d/multus.kubeconfig
mkfifo /run/until-the-end /run/ready
for pod; do objects="$objects docs/examples/$pod.yaml"; done
# shellcheck disable=SC2046,SC2086
"$suite" api-server $(printf -- '--objects %s ' $objects) --kubeconfig "$kubeconfig" \
    </run/until-the-end >/run/ready &
server=$!
# Should this script be ended early, the server ends with its pipe.
exec 3>/run/until-the-end
head -n 1 /run/ready
# shellcheck disable=SC2086
run cat $objects
cp "$kubeconfig" /etc/kubernetes/kubeconfig/danm-cni.yaml

api() { # path
    value() { sed -n "s/.*$1: *\"\{0,1\}\([^\"]*\).*/\1/p" "$kubeconfig"; }
    value certificate-authority-data | base64 -d >/run/authority
    curl --silent --show-error --fail --cacert /run/authority --header "Authorization: Bearer $(value ' token')" \
        "$(value server)$1"
}
bitmap() { # what it must be
    alloc=$(api /apis/danm.k8s.io/v1/clusternetworks/oampub | sed -n 's/.*"alloc": *"\([^"]*\)".*/\1/p')
    echo "the bitmap of oampub: $alloc"
    [ "$alloc" = "$1" ] || wrong "it must be $1"
}
request() { # verb, pod
    case $conf in
        *.conflist) jq --arg verb "$1" --slurpfile result "/run/result-$2" '. as $list | .plugins[0] + ($list | { cniVersion, name })
            + if $verb == "ADD" then {} else { prevResult: $result[0] } end' "/etc/cni/net.d/$conf" ;;
        *) cat "/etc/cni/net.d/$conf" ;;
    esac
}
cni() { # verb, pod
    request "$1" "$2" >/run/request
    printf '$ CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_IFNAME=eth0 CNI_ARGS=... multus <%s\n' "$1" "$2" "$conf"
    CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
        CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=$2;K8S_POD_INFRA_CONTAINER_ID=$2" \
        /opt/cni/bin/multus </run/request >/run/answer || { cat /run/answer; wrong "$1 failed"; }
    cat /run/answer
}
# Of the output of `ip address`, iproute's or BusyBox's: names, MTUs, addresses with prefix length and broadcast address, and MAC
# addresses where they are enp0s3's. Of link-local addresses, which are made of numbers that are other ones each time, the kind.
essence() {
    sed -nE '/^[0-9]+: /{ s/^[0-9]+: ([^@:]+).* mtu ([0-9]+).*/\1 mtu \2/p; s/ .*//; h }
        /^ +inet /{ s/^ +(inet [^ ]+( brd [^ ]+)?) .*/\1/; G; s/(.*)\n(.*)/\2 \1/p }
        /^ +inet6 /{ s/^ +(inet6 [^ ]+) .*/\1/; s,fe80::.*/,fe80::/,; G; s/(.*)\n(.*)/\2 \1/p }
        /08:00:27:b0:4c:0e/{ g; s/$/ with the MAC address of enp0s3/p }' | sort
}
[ "$kind" = macvlan ] || bitmap gBCAAQ==

for pod; do
    step "ADD of $pod, as a runtime calls it"
    : >"/run/result-$pod"
    cni ADD "$pod"
    echo
    cp /run/answer "/run/result-$pod"
    step "What $pod has"
    run ip -n "$pod" address
    run ip -n "$pod" route
    step "The same pod on a real cluster (docs/examples/ip-addr-$pod.txt)"
    cat "docs/examples/ip-addr-$pod.txt"
    ip -n "$pod" address | essence >/run/here
    essence <"docs/examples/ip-addr-$pod.txt" >/run/there
    step "Both have, and nothing else:"
    diff -u /run/there /run/here || wrong "$pod has not what it has on a real cluster"
    cat /run/here
    case $pod in
        samplepod-danm) bitmap wBCAAQ== ;;
        samplepod3) bitmap 4BCAAQ== ;;
    esac
done

for pod; do
    step "Gateways answer $pod"
    for interface in $(ip -n "$pod" -brief link | sed -n 's/^\(net1\|oampub1\).*/\1/p'); do
        case $interface in
            oampub1) gateway=10.2.157.30 ;;
            *) gateway=${gateways%%/*} ;;
        esac
        run ip netns exec "$pod" ping -c 2 -i 0.2 -W 2 -I "$interface" "$gateway"
    done
done

if [ "$conf" = 00-multus.conflist ]; then
    for pod; do
        step "CHECK of $pod"
        [ "$(jq -r .cniVersion "/run/result-$pod")" = 1.0.0 ] || wrong "the result has not the version of the list"
        cni CHECK "$pod"
    done
fi

state="/var/lib/cni/networks /var/lib/cni/multus"
if [ "$kind" = ipvlan ]; then
    state="$state /var/lib/cni/danm-shim"
    step "DanmEps"
    api /apis/danm.k8s.io/v1/danmeps | grep -o '"interface[^}]*}\|"Interface[^}]*}'
fi
step "What the plugins keep of this"
# shellcheck disable=SC2086
run find $state -type f

for pod; do
    step "DEL of $pod"
    cni DEL "$pod"
done

step "Nothing is left: no interface, no reservation, no object, no record"
for pod; do run ip -n "$pod" -brief address; done
run ip -brief link
left=$(for pod; do ip -n "$pod" -brief link | grep -v '^lo '; done; ip -brief link | grep cali
    # What stays is of the networks: locks, host-local's last address, and danm-shim's account of what it holds, which is nothing.
    # shellcheck disable=SC2086
    find $state -type f ! -name lock ! -name 'ClusterNetwork*.lock' ! -name 'last_reserved_ip.*' ! -exec grep -q '"held":{}' {} \; -print
    [ "$kind" = macvlan ] || api /apis/danm.k8s.io/v1/danmeps | grep -o '"EndpointID[^,]*') || true
[ -z "$left" ] || wrong "something is left: $left"
[ "$kind" = macvlan ] || bitmap gBCAAQ==

kill "$server"
wait "$server" || true
step "Demo of $* done: attached as on a real cluster, reached the gateways, detached, nothing left"
