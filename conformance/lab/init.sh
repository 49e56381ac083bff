# The guest's first process (lab.sh puts it together): makes a root file system that may be written, runs the command,
# leaves the verdict in $lab and switches the guest off.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

off() {
    echo o >/proc/sysrq-trigger
    sleep 10
}
must() {
    "$@" && return
    echo "lab: failed: $*"
    off
}

# Modules lie in the package's own folder, not in /lib/modules.
must mount -t proc proc /proc
must mount -t tmpfs lab /mnt
mkdir -p /mnt/lib /mnt/written /mnt/work /mnt/root
ln -s /usr/lib/uml/modules /mnt/lib/modules
must modprobe -d /mnt -a overlay ipv6 ipvlan macvlan dummy veth bridge br_netfilter 8021q vrf \
    iptable_filter iptable_nat ip6table_filter ip6table_nat \
    xt_MASQUERADE xt_comment xt_conntrack xt_mark xt_multiport xt_addrtype xt_nat xt_statistic

# Root: this machine's files below, memory above. No chroot: the kernel refuses user namespaces inside one.
must mount -t overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work root /mnt/root
must mount -t tmpfs run /mnt/root/run
mkdir -p "/mnt/root$lab"
must mount -t hostfs -o "$lab" verdict "/mnt/root$lab"
cd /mnt/root && must pivot_root . mnt
must umount -l /mnt
must mount -t proc proc /proc
must mount -t sysfs sys /sys
must mount -t devtmpfs dev /dev
mkdir -p /var/lib/cni
must mount -t tmpfs cni /var/lib/cni

# Lines leave as they are written: no carriage returns.
stty -opost </dev/tty1
stty -opost </dev/tty2
sh "$lab/command" </dev/null >/dev/tty1 2>/dev/tty2
echo $? >"$lab/verdict"
off
