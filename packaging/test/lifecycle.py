#!/usr/bin/python3
"""Installs, upgrades, downgrades and removes our package and one like kubernetes-cni in every order, in a root of its own.

Usage: lifecycle.py deb|rpm FOLDER       (run by packaging/test/root)

FOLDER holds the packages: ours-1, ours-2, kubernetes-cni-1, kubernetes-cni-2 with the ending .deb or .rpm, for deb the
distribution's own containernetworking-plugins, for rpm system-1. After each step every name in /opt/cni/bin holds what it
should, byte by byte. While a step runs, a plugin is started over and over, and another one, started before it, waits for its
request: the first always finds a whole file, the second comes to its end.
"""
import collections
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

FAMILY, FOLDER, ROOT = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(os.environ["ROOT"])
OURS, THEIRS, DISTRIBUTION = "cni-plugins-rs", "kubernetes-cni", "containernetworking-plugins"
BIN = ROOT / "opt/cni/bin"
STATE = ROOT / "var/lib" / OURS
PORT = {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}
KEPT = ("var/lib/cni/networks/net/10.1.2.3", "var/lib/cni/results/net-pod-eth0", "var/lib/cni/multus/pod")


def call(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Deb:
    def install(self, name):
        call("dpkg", "--root", ROOT, "--force-downgrade", "-i", FOLDER / f"{name}.deb")

    def remove(self, package):
        call("dpkg", "--root", ROOT, "--remove", package)

    def purge(self, package):
        call("dpkg", "--root", ROOT, "--purge", package)

    def check(self, ours, theirs):
        diverted = call("dpkg-divert", "--root", ROOT, "--list", "/opt/cni/bin/*")
        assert bool(ours) == bool(diverted), f"diversions: {diverted!r}"
        if theirs:
            verified = call("dpkg", "--root", ROOT, "--verify", THEIRS)
            assert not verified, f"dpkg finds the files of {THEIRS} changed: {verified}"


class Rpm:
    def install(self, name):
        call("rpm", "--root", ROOT, "--upgrade", "--oldpackage", "--replacepkgs", FOLDER / f"{name}.rpm")

    def remove(self, package):
        call("rpm", "--root", ROOT, "--erase", package)

    purge = remove

    def check(self, ours, theirs):
        if theirs and not ours:
            call("rpm", "--root", ROOT, "--verify", THEIRS)


def unpacked(name, folder):
    """What a package brings, by name: checksum of each plugin."""
    into = ROOT / "unpacked" / name
    into.mkdir(parents=True)
    if FAMILY == "deb":
        call("dpkg-deb", "-x", FOLDER / f"{name}.deb", into)
    else:
        call("sh", "-c", f"rpm2cpio '{FOLDER}/{name}.rpm' | cpio -id --quiet -D '{into}'")
    return {path.name: checksum(path) for path in (into / folder).iterdir()}


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Caller(threading.Thread):
    """Starts a plugin over and over, as runtimes would, until it is told to stop; remembers what went wrong."""

    def __init__(self, path):
        super().__init__()
        self.path, self.stop, self.troubles, self.calls = path, threading.Event(), [], 0

    def run(self):
        while not self.stop.wait(0.003):
            self.calls += 1
            try:
                ask(self.path, "VERSION")
            except (OSError, AssertionError, ValueError) as trouble:
                self.troubles.append(repr(trouble))


def ask(path, verb):
    env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}
    done = subprocess.run([path], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


class Node:
    """The root, and what it should hold: `below` is what others last put under each name."""

    def __init__(self, manager):
        self.manager = manager
        self.ours = self.theirs = 0
        self.below = {}
        self.brings = {name: unpacked(name, f"usr/libexec/{OURS}/bin") for name in ("ours-1", "ours-2")}
        self.brings |= {name: unpacked(name, "opt/cni/bin") for name in (f"{THEIRS}-1", f"{THEIRS}-2")}
        self.calls = 0

    def step(self, package, version):
        before = f"ours {self.ours}, theirs {self.theirs}"
        name = "host-local"
        busy = (BIN / name).exists()
        vanishes = not (version or (self.ours if package == "theirs" else self.theirs))
        # rpm takes the files of a package away before it calls ours back; only dpkg can be told to leave them alone.
        vanishes |= FAMILY == "rpm" and package == "theirs" and not version
        caller = Caller(BIN / name)
        if busy:
            env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}
            waiting = subprocess.Popen([BIN / name], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            caller.start()
        if version:
            self.manager.install(f"{'ours' if package == 'ours' else THEIRS}-{version}")
        else:
            self.manager.remove(OURS if package == "ours" else THEIRS)
        if busy:
            caller.stop.set()
            caller.join()
            self.calls += caller.calls
            answer, _ = waiting.communicate(b"", timeout=20)
            assert waiting.returncode == 1 and json.loads(answer)["code"], f"the running call: {waiting.returncode} {answer}"
            assert vanishes or not caller.troubles, f"{before} -> {package} {version}: {caller.troubles[:3]}"
        if package == "ours":
            self.ours = version
        else:
            self.theirs = version
            self.below = dict(self.brings[f"{THEIRS}-{version}"]) if version else {}
        self.check(f"{before} -> {package} {version}")

    def check(self, what):
        expected = dict(self.below)
        if self.ours:
            expected |= self.brings[f"ours-{self.ours}"]
        found = {path.name: checksum(path) for path in BIN.iterdir()} if BIN.exists() else {}
        for name in sorted(expected.keys() | found.keys()):
            assert found.get(name) == expected.get(name), f"{what}: {name} in /opt/cni/bin is not what it should be"
        assert bool(self.ours) == STATE.exists(), f"{what}: {STATE} is {'there' if STATE.exists() else 'missing'}"
        assert expected or not (ROOT / "opt/cni").exists(), f"{what}: /opt/cni is left"
        for name in expected.keys() & self.brings["ours-1"].keys():
            ask(BIN / name, "VERSION")
        self.manager.check(self.ours, self.theirs)

    def everywhere(self):
        """Walks until every change has been made from every state: the shortest way to one not made yet, again and again."""
        steps = [(package, version) for package in ("ours", "theirs") for version in (0, 1, 2)]
        after = lambda state, step: (step[1], state[1]) if step[0] == "ours" else (state[0], step[1])
        # A removal of what is not there is no change; an installation of what is there is a repair.
        possible = lambda state, step: step[1] or state[step[0] == "theirs"]
        todo = {
            (state, step)
            for state in itertools.product((0, 1, 2), repeat=2)
            for step in steps
            if possible(state, step)
        }
        made = 0
        while todo:
            queue = collections.deque([((self.ours, self.theirs), [])])
            seen = set()
            while queue:
                state, way = queue.popleft()
                if way and (way[-1][0], way[-1][1]) in todo:
                    break
                for step in steps:
                    if possible(state, step) and (state, step) not in seen:
                        seen.add((state, step))
                        queue.append((after(state, step), [*way, (state, step)]))
            for state, step in way:
                todo.discard((state, step))
                self.step(*step)
                made += 1
        return made

    def copied_over(self):
        """A container writes its plugin into the folder while ours is there: it works, is kept, and stays."""
        for renamed in (False, True):
            self.to(1, 0)
            copy = b"#!/bin/sh\necho '{}'\n" + (b"# by name\n" if renamed else b"")
            target = BIN / "macvlan"
            before = checksum(ROOT / f"usr/libexec/{OURS}/bin/macvlan")
            new = BIN / "macvlan.tmp"
            (new if renamed else target).write_bytes(copy)
            if renamed:
                new.chmod(0o755)
                new.replace(target)
            assert checksum(ROOT / f"usr/libexec/{OURS}/bin/macvlan") == before, "the copy went through to the package's file"
            self.manager.install("ours-2")
            assert checksum(target) == self.brings["ours-2"]["macvlan"], "an upgrade does not take the name back"
            self.manager.remove(OURS)
            assert target.read_bytes() == copy, "the container's plugin did not come back"
            # Without a change of packages in between: the copy stays, also over what was there before.
            target.unlink()
            self.ours = 0
            self.to(0, 0)
            self.to(0, 1)
            self.to(1, 1)
            target.unlink()
            target.write_bytes(copy)
            target.chmod(0o755)
            self.manager.remove(OURS)
            assert target.read_bytes() == copy, "our removal took the container's plugin away"
            self.ours = 0
            self.manager.remove(THEIRS)
            self.theirs, self.below = 0, {}
            shutil.rmtree(ROOT / "opt/cni", ignore_errors=True)

    def behind_a_link(self):
        """/opt/cni/bin may be a link to where a distribution keeps its plugins."""
        real = ROOT / "usr/lib/cni"
        real.mkdir(parents=True)
        (real / "portmap").write_bytes(b"the distribution's")
        BIN.parent.mkdir(parents=True)
        BIN.symlink_to("/usr/lib/cni")
        self.manager.install("ours-1")
        assert checksum(real / "portmap") == self.brings["ours-1"]["portmap"]
        # The link moves: the old place is given back, the new one is taken.
        BIN.unlink()
        BIN.mkdir()
        self.manager.install("ours-2")
        assert (real / "portmap").read_bytes() == b"the distribution's" and not (real / "macvlan").exists()
        assert checksum(BIN / "portmap") == self.brings["ours-2"]["portmap"]
        self.manager.purge(OURS)
        assert [*real.iterdir()] == [real / "portmap"]
        shutil.rmtree(real)
        shutil.rmtree(ROOT / "opt/cni", ignore_errors=True)

    def beside_the_distribution(self):
        """/opt/cni/bin leads to the folder of the distribution's own package; both come and go in every order."""
        real = ROOT / "usr/lib/cni"
        theirs = unpacked(DISTRIBUTION, "usr/lib/cni")
        BIN.parent.mkdir(parents=True)
        BIN.symlink_to("/usr/lib/cni")
        for first, last in itertools.product((OURS, DISTRIBUTION), repeat=2):
            second, gone_first = ({OURS, DISTRIBUTION} - {name} for name in (first, last))
            there = set()
            for package, comes in ((first, True), (*second, True), (*gone_first, False), (last, False)):
                self.manager.install("ours-1" if package == OURS else package) if comes else self.manager.remove(package)
                there = there | {package} if comes else there - {package}
                expected = (theirs if DISTRIBUTION in there else {}) | (self.brings["ours-1"] if OURS in there else {})
                found = {path.name: checksum(path) for path in real.iterdir()} if real.exists() else {}
                assert found == expected, f"{first} first, {last} last, with {there or 'none'}: {found.keys() ^ expected.keys()}"
                if DISTRIBUTION in there:
                    changed = call("dpkg", "--root", ROOT, "--verify", DISTRIBUTION)
                    assert not changed, f"dpkg finds the files of {DISTRIBUTION} changed: {changed}"
        self.manager.purge(OURS)
        shutil.rmtree(BIN.parent)

    def running_pod(self):
        """What a pod has, given by one implementation, is the same after each change, and the other one takes it away."""
        pod = ROOT / "run/pod"
        pod.touch()
        call("unshare", f"--net={pod}", "true")
        call(*"ip link add parent0 type veth peer name wire0".split())
        call(*"ip link set parent0 up".split())
        ipam = {"type": "host-local", "subnet": "10.9.8.0/24"}
        plugins = [
            {"type": "macvlan", "master": "parent0", "ipam": ipam},
            {"type": "portmap", "backend": "iptables", "runtimeConfig": {"portMappings": [PORT]}},
        ]

        def chain(verb, plugins):
            result = None
            for plugin in plugins:
                request = {"cniVersion": "1.0.0", "name": "lifecycle", **plugin} | ({"prevResult": result} if result else {})
                env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/pod", "CNI_IFNAME": "eth0"}
                env |= {"CNI_PATH": "/opt/cni/bin", "PATH": os.environ["PATH"]}
                done = subprocess.run(
                    ("chroot", ROOT, f"/opt/cni/bin/{plugin['type']}"),
                    **{"input": json.dumps(request).encode(), "env": env, "capture_output": True, "timeout": 30},
                )
                assert done.returncode == 0, f"{verb} {plugin['type']}: {done}"
                result = json.loads(done.stdout) if done.stdout else None
            return result

        def has():
            leases = {path: path.read_bytes() for path in (ROOT / "var/lib/cni/networks/lifecycle").glob("10.*")}
            rules = [line for line in call("chroot", ROOT, "iptables-save").splitlines() if "10.9.8." in line]
            links = call("nsenter", f"--net={pod}", "ip", "-brief", "address")
            return leases, rules, [line for line in links.splitlines() if line.startswith("eth0")]

        # Made by theirs, taken away by ours; and the other way round.
        for made_by in ("theirs", "ours"):
            self.to(0, 1)
            if made_by == "ours":
                self.to(1, 1)
            chain("ADD", plugins)
            given = has()
            assert all(given), f"the pod lacks something: {given}"
            changes = ((1, 1), (2, 1), (1, 1)) if made_by == "theirs" else ((2, 1), (2, 0), (2, 1), (0, 1))
            for change in changes:
                self.to(*change)
                assert has() == given, f"a running pod's has changed with {change}: {given} is {has()}"
            chain("DEL", plugins[::-1])
            assert not any(has()), f"DEL left {has()}"
        self.to(0, 0)

    def broken_off(self):
        """A takeover that is killed anywhere is made good by the next one."""
        self.to(1, 0)
        self.to(1, 1)
        placed, original = STATE / "placed", STATE / "originals/macvlan"
        (BIN / f".macvlan.{OURS}").write_bytes(b"half a file")
        placed.write_text("".join(line for line in placed.read_text().splitlines(True) if "macvlan" in line) + "0123")
        self.manager.install("ours-1")
        assert original.exists() and not (BIN / f".macvlan.{OURS}").exists()
        # Ours, whose record was lost, counts as others'; what was below the name is replaced by it. The name itself stays.
        assert checksum(BIN / "host-local") == self.brings["ours-1"]["host-local"]
        self.manager.purge(OURS)
        assert not STATE.exists()
        self.ours = 0
        self.manager.remove(THEIRS)
        self.theirs, self.below = 0, {}
        shutil.rmtree(ROOT / "opt/cni", ignore_errors=True)

    def to(self, ours, theirs):
        if self.theirs != theirs:
            self.step("theirs", theirs)
        if self.ours != ours:
            self.step("ours", ours)


node = Node(Deb() if FAMILY == "deb" else Rpm())
for name in KEPT:
    (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / name).write_text("kept")
if FAMILY == "rpm":
    node.manager.install("system-1")
made = node.everywhere()
node.to(0, 0)
node.copied_over()
node.behind_a_link()
node.broken_off()
if FAMILY == "deb":
    node.beside_the_distribution()
if subprocess.run([pathlib.Path(__file__).parents[2] / "conformance/lab/has-link.sh", "macvlan"]).returncode == 0:
    node.running_pod()
else:
    print(f"{FAMILY}: not asked for: what a running pod has; this kernel has no macvlan")
for name in KEPT:
    assert (ROOT / name).read_text() == "kept", f"{name} was touched"
print(f"{FAMILY}: {made} changes of packages in every order, plugins called {node.calls} times meanwhile: as it should be")
