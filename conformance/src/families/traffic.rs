//! Family T: packets. The specification says little about them, and users mean little else by "it works".

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::add::addresses;
use crate::pod::{Pod, inside};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::result::parse_cidr;
use crate::spec::{Kind, Must, V0_3_0, V1_1_0};
use crate::stage::{LAN, NETNS_DIR, UPLINK};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "T1",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Two pods of one network reach each other.",
        section: "Network",
        cases: &[case("pod to pod", pod_to_pod)],
    },
    Requirement {
        id: "T2",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: &[Kind::Chained],
        sentence: "A mapped port is reached from elsewhere, from the host, from 127.0.0.1 and from the pod itself, by TCP and UDP.",
        section: "Conventions, portMappings",
        cases: &[case("TCP", mapped_tcp), case("UDP", mapped_udp)],
    },
];

/// How long a packet may be on its way.
const LIMIT: Duration = Duration::from_secs(3);
const GREETING: &[u8] = b"the pod's own words";
/// The host's address on the uplink, and the one of somebody behind it.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const ELSEWHERE: &str = "10.99.0.2/24";

/// Greets whoever connects, until nobody does any more or `count` have come.
fn greet_tcp(listener: &TcpListener, count: usize) -> io::Result<()> {
    for _ in 0..count {
        wait(listener)?;
        listener.accept()?.0.write_all(GREETING)?;
    }
    Ok(())
}

fn greet_udp(socket: &UdpSocket, count: usize) -> io::Result<()> {
    for _ in 0..count {
        wait(socket)?;
        let (_, from) = socket.recv_from(&mut [0; 64])?;
        socket.send_to(GREETING, from)?;
    }
    Ok(())
}

fn wait(socket: &impl AsFd) -> io::Result<()> {
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LIMIT).unwrap_or(PollTimeout::MAX);
    match poll(&mut sockets, timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn hear_tcp(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    Ok(heard)
}

fn hear_udp(address: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(address)?;
    socket.send(b"?")?;
    let mut heard = [0; 64];
    let length = socket.recv(&mut heard)?;
    Ok(heard.into_iter().take(length).collect())
}

fn pod_to_pod(trial: &Trial<'_>) -> Verdict {
    let mut one = trial.attachment()?;
    let mut two = one.sibling()?;
    let result = one.add()?;
    two.add()?;
    let first = addresses(&result);
    let Some((ip, _)) = first.first().and_then(|text| parse_cidr(text)) else {
        return Err(fail(format!("no address: {result}")));
    };
    let listener = one
        .pod
        .inside(|| TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), 80)))?;
    let heard = thread::scope(|scope| {
        scope.spawn(|| greet_tcp(&listener, 1));
        two.pod.inside(|| hear_tcp((ip, 80).into()))
    });
    expect("from one pod to the other", heard)?;
    two.del()?;
    one.del().map(drop)
}

fn expect(way: &str, heard: io::Result<Vec<u8>>) -> Verdict {
    match heard {
        Ok(heard) if heard == GREETING => Ok(()),
        Ok(heard) => Err(fail(format!(
            "{way}: heard {:?}",
            String::from_utf8_lossy(&heard)
        ))),
        Err(error) => Err(fail(format!("{way}: {error}"))),
    }
}

/// Addresses on the uplink and behind it, and forwarding; taken back when dropped.
struct Uplink<'t>(&'t Trial<'t>);

impl<'t> Uplink<'t> {
    fn new(trial: &'t Trial<'t>) -> Result<Self, Stop> {
        let uplink = Self(trial);
        let host = format!("{HOST}/24");
        trial
            .stage
            .ip(&["address", "replace", &host, "dev", UPLINK])?;
        trial
            .stage
            .ip(&["-n", LAN, "address", "replace", ELSEWHERE, "dev", "port"])?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        trial.stage.ip(&["link", "set", "lo", "up"])?;
        Ok(uplink)
    }
}

impl Drop for Uplink<'_> {
    fn drop(&mut self) {
        // Best effort: what is left is seen by the next case that compares the host.
        let _ = self.0.stage.ip(&["address", "flush", "dev", UPLINK]);
        let _ = self
            .0
            .stage
            .ip(&["-n", LAN, "address", "flush", "dev", "port"]);
        let _ = std::fs::write("/proc/sys/net/ipv4/ip_forward", "0");
    }
}

/// Asks the mapped port in the four ways that people use it.
fn four_ways(pod: &Pod<'_>, port: u16, hear: fn(SocketAddr) -> io::Result<Vec<u8>>) -> Verdict {
    let mapped = SocketAddr::from((HOST, port));
    let lan = std::path::Path::new(NETNS_DIR).join(LAN);
    expect("from elsewhere", inside(&lan, || hear(mapped)))?;
    expect("from the host", hear(mapped))?;
    expect("from 127.0.0.1", hear((Ipv4Addr::LOCALHOST, port).into()))?;
    expect("from the pod itself", pod.inside(|| hear(mapped)))
}

fn mapped_tcp(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let _uplink = Uplink::new(trial)?;
    attachment.add()?;
    let port = host_port(&attachment.config, "tcp")?;
    let listener = attachment
        .pod
        .inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))?;
    thread::scope(|scope| {
        scope.spawn(|| greet_tcp(&listener, 4));
        four_ways(&attachment.pod, port, hear_tcp)
    })?;
    attachment.del()?;
    match hear_tcp((HOST, port).into()) {
        Err(_) => Ok(()),
        Ok(_) => Err(fail("the port is still mapped after DEL")),
    }
}

fn mapped_udp(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let _uplink = Uplink::new(trial)?;
    attachment.add()?;
    let port = host_port(&attachment.config, "udp")?;
    let socket = attachment
        .pod
        .inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)))?;
    thread::scope(|scope| {
        scope.spawn(|| greet_udp(&socket, 4));
        four_ways(&attachment.pod, port, hear_udp)
    })?;
    attachment.del().map(drop)
}

/// The host port that the configuration maps for a protocol.
fn host_port(config: &serde_json::Value, protocol: &str) -> Result<u16, Stop> {
    let mappings = config["runtimeConfig"]["portMappings"].as_array();
    let mut mappings = mappings.into_iter().flatten();
    let mapping = mappings.find(|mapping| mapping["protocol"] == protocol);
    let port = mapping.and_then(|mapping| mapping["hostPort"].as_u64());
    port.and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| crate::requirement::skip(format!("the profile maps no {protocol} port")))
}
