//! Network namespaces: an internet with two networks behind routers, all in this machine's kernel.
//!
//! ```text
//!   left host -- left router --+-- internet --+-- right router -- right host
//!   10.1.0.2     198.51.100.11   198.51.100.1    198.51.100.12     10.2.0.2
//! ```
//!
//! A thread moves into a namespace and what it starts is there. Needs root, `ip`, `nft` and `ethtool`; what was
//! made is gone when [`Internet`] is dropped.
//!
//! The line from a router to the internet is a wire, or as long, thin and lossy as a [`Quality`] says: then
//! its frames go as UDP packets (VXLAN, RFC 7348) by two [`Crossing`]s in a namespace of their own, one for
//! each direction, as kernels without `netem` have nothing for it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::far::{Crossing, Quality};

/// The address of the internet's one server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Where the internet sends the frames of long lines from, and to: no address of the same namespace, as the
/// kernel would take them across without a packet.
const LINES: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 9, 1), Ipv4Addr::new(169, 254, 9, 2)];

/// How a router treats what passes it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Nat {
    /// It translates nothing and lets everything pass.
    Open,
    /// One public port for each of the host's, open to everybody (RFC 4787: endpoint-independent
    /// mapping and filtering).
    FullCone,
    /// One public port for each of the host's, open to addresses and ports that were sent to
    /// (endpoint-independent mapping, address- and port-dependent filtering).
    Restricted,
    /// Another public port for each destination (address- and port-dependent mapping).
    Symmetric,
    /// As `Restricted`, and no UDP passes.
    UdpBlocked,
}

impl Nat {
    /// All, from the most to the least passable.
    pub const ALL: [Nat; 5] = [
        Nat::Open,
        Nat::FullCone,
        Nat::Restricted,
        Nat::Symmetric,
        Nat::UdpBlocked,
    ];

    /// Returns its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Nat::Open => "open",
            Nat::FullCone => "full cone",
            Nat::Restricted => "restricted",
            Nat::Symmetric => "symmetric",
            Nat::UdpBlocked => "UDP blocked",
        }
    }
}

/// Which of the two networks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// 10.1.0.0/24.
    Left,
    /// 10.2.0.0/24.
    Right,
}

impl Side {
    fn number(self) -> u8 {
        match self {
            Side::Left => 1,
            Side::Right => 2,
        }
    }
}

/// A network of networks.
#[derive(Debug)]
pub struct Internet {
    prefix: String,
    /// What carries the frames of lines that are not wires.
    lines: Vec<Crossing>,
}

impl Internet {
    /// Makes it, with open routers.
    ///
    /// # Errors
    /// Says why it cannot be made: not root, no `ip` or `nft`, or a kernel without namespaces.
    ///
    /// # Panics
    /// When the kernel has namespaces and not the rest.
    pub fn new() -> Result<Internet, String> {
        Internet::with(None)
    }

    /// Makes it, with open routers whose lines to the internet are each as `line` says, in both directions;
    /// the seed decides what they lose.
    ///
    /// # Errors
    /// As [`Internet::new`].
    ///
    /// # Panics
    /// As [`Internet::new`], and when the kernel has no VXLAN.
    pub fn far(line: Quality, seed: u64) -> Result<Internet, String> {
        Internet::with(Some((line, seed)))
    }

    fn with(line: Option<(Quality, u64)>) -> Result<Internet, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("namespaces need root".to_owned());
        }
        run(Command::new("nft").arg("--version"))?;
        let mut internet = Internet {
            prefix: format!("kl{}", std::process::id()),
            lines: Vec::new(),
        };
        internet.ip(&format!("netns add {}", internet.name("i")))?;
        // From here on the kernel has what is needed.
        let built = internet.build(line);
        built.unwrap_or_else(|reason| panic!("{reason}"));
        Ok(internet)
    }

    fn build(&mut self, line: Option<(Quality, u64)>) -> Result<(), String> {
        let internet = self.name("i");
        self.inside(&internet, "ip link set lo up")?;
        self.inside(
            &internet,
            "ip link add name br0 type bridge forward_delay 0",
        )?;
        self.inside(&internet, "ip addr add 198.51.100.1/24 dev br0")?;
        self.inside(&internet, "ip link set br0 up")?;
        self.inside(&internet, "sysctl -qw net.ipv4.ip_forward=1")?;
        if line.is_some() {
            self.add_way_to_lines()?;
        }
        for side in [Side::Left, Side::Right] {
            let n = side.number();
            let (router, host) = (self.router(side), self.host(side));
            for namespace in [&router, &host] {
                self.ip(&format!("netns add {namespace}"))?;
                self.inside(namespace, "ip link set lo up")?;
            }
            match line {
                Some((quality, seed)) => self.add_far_line(side, quality, seed)?,
                None => {
                    let wan = format!("ip link add wan type veth peer name w{n} netns {internet}");
                    self.inside(&router, &wan)?;
                }
            }
            self.inside(&internet, &format!("ip link set w{n} master br0 up"))?;
            // What is sent to private addresses vanishes at the router, unless that is open.
            let way = format!("ip route add 10.{n}.0.0/24 via 198.51.100.{}", 10 + n);
            self.inside(&internet, &way)?;
            let lan = format!("ip link add lan type veth peer name eth netns {host}");
            self.inside(&router, &lan)?;
            for command in [
                format!("ip addr add 198.51.100.{}/24 dev wan", 10 + n),
                format!("ip addr add 10.{n}.0.1/24 dev lan"),
                "ip link set wan up".to_owned(),
                "ip link set lan up".to_owned(),
                "ip route add default via 198.51.100.1".to_owned(),
                "sysctl -qw net.ipv4.ip_forward=1".to_owned(),
            ] {
                self.inside(&router, &command)?;
            }
            for command in [
                format!("ip addr add 10.{n}.0.2/24 dev eth"),
                "ip link set eth up".to_owned(),
                format!("ip route add default via 10.{n}.0.1"),
            ] {
                self.inside(&host, &command)?;
            }
        }
        Ok(())
    }

    /// Makes the namespace through which frames of long lines go.
    fn add_way_to_lines(&self) -> Result<(), String> {
        let (internet, lines) = (self.name("i"), self.name("l"));
        self.ip(&format!("netns add {lines}"))?;
        let pair = format!("ip link add out type veth peer name in netns {lines}");
        self.inside(&internet, &pair)?;
        for (namespace, device, address) in [(&internet, "out", LINES[0]), (&lines, "in", LINES[1])]
        {
            self.inside(namespace, &format!("ip addr add {address}/30 dev {device}"))?;
            self.inside(namespace, &format!("ip link set {device} up"))?;
        }
        // Frames leave the kernel here, which otherwise leaves checksums to a card that is none.
        self.inside(&internet, "ethtool -K out tx off")
    }

    /// Makes `wan` of a router and `w1` or `w2` of the internet the two ends of a line. Both send their frames
    /// from the internet's namespace, also the one that moves to the router.
    fn add_far_line(&mut self, side: Side, quality: Quality, seed: u64) -> Result<(), String> {
        let (n, internet, router) = (side.number(), self.name("i"), self.router(side));
        let ports = [4000, 5000].map(|first| first + u16::from(n));
        let names = [format!("w{n}"), format!("v{n}")];
        for (name, port) in names.iter().zip(ports) {
            let device = format!("nolearning local {} srcport 6000 6001", LINES[0]);
            let add = format!("ip link add {name} type vxlan id {n} {device} dstport {port}");
            self.inside(&internet, &add)?;
        }
        let moved = format!("ip link set v{n} netns {router} name wan");
        self.inside(&internet, &moved)?;
        let begun = within(self.name("l"), move || {
            [(ports[1], 0), (ports[0], 1)].map(|(port, direction)| {
                let seed = seed.wrapping_mul(4) + 2 * u64::from(n - 1) + direction;
                let crossing = Crossing::start(quality, seed.wrapping_mul(0x9e37_79b9));
                let there = crossing.stands_for(SocketAddr::from((LINES[0], port)));
                (crossing, there)
            })
        });
        let begun = begun.join().map_err(|_| "no line was begun".to_owned())?;
        let ends = [(&internet, names[0].as_str()), (&router, "wan")];
        for ((crossing, there), (namespace, name)) in begun.into_iter().zip(ends) {
            let port = there.map_err(|error| format!("{name}: {error}"))?.port();
            let all = "00:00:00:00:00:00";
            let to = format!("dst {} port {port}", LINES[1]);
            let to = format!("bridge fdb append {all} dev {name} {to}");
            self.inside(namespace, &to)?;
            self.lines.push(crossing);
        }
        Ok(())
    }

    /// Makes the router of one side treat what passes as `nat` does, and forget what passed.
    ///
    /// # Panics
    /// When the kernel does not do so.
    #[track_caller]
    pub fn set_nat(&self, side: Side, nat: Nat) {
        let done = self.load(&self.router(side), &rules(side.number(), nat));
        done.unwrap_or_else(|reason| panic!("{nat:?}: {reason}"));
    }

    /// Gives the host of one side another address in place of the one it has.
    ///
    /// # Panics
    /// When the kernel does not do so.
    #[track_caller]
    pub fn change_address(&self, side: Side, last: u8) {
        let (n, host) = (side.number(), self.host(side));
        let done = self
            .inside(&host, "ip addr flush dev eth")
            .and_then(|()| self.inside(&host, &format!("ip addr add 10.{n}.0.{last}/24 dev eth")))
            .and_then(|()| self.inside(&host, &format!("ip route add default via 10.{n}.0.1")));
        done.unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Runs `work` on a thread that is on the internet itself, at [`SERVER`].
    pub fn on_server<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        within(self.name("i"), work)
    }

    /// Runs `work` on a thread of the host of one side; threads and processes that it starts are there.
    pub fn on_host<T: Send + 'static>(
        &self,
        side: Side,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        within(self.host(side), work)
    }

    fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    fn router(&self, side: Side) -> String {
        self.name(&format!("r{}", side.number()))
    }

    fn host(&self, side: Side) -> String {
        self.name(&format!("h{}", side.number()))
    }

    fn ip(&self, arguments: &str) -> Result<(), String> {
        run(Command::new("ip").args(arguments.split(' ')))
    }

    fn inside(&self, namespace: &str, command: &str) -> Result<(), String> {
        self.ip(&format!("netns exec {namespace} {command}"))
    }

    fn load(&self, namespace: &str, rules: &str) -> Result<(), String> {
        let flushed = format!("flush ruleset\n{rules}");
        run(Command::new("ip").args(["netns", "exec", namespace, "nft", &flushed]))
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let sides = [Side::Left, Side::Right];
        let sides = sides
            .iter()
            .flat_map(|side| [self.router(*side), self.host(*side)]);
        for namespace in sides.chain([self.name("i"), self.name("l")]) {
            // One that was never made is none the less gone.
            let _ = self.ip(&format!("netns del {namespace}"));
        }
    }
}

/// Returns the router's rules for nftables.
fn rules(n: u8, nat: Nat) -> String {
    if nat == Nat::Open {
        return String::new();
    }
    let masquerade = match nat {
        Nat::Symmetric => "masquerade random,fully-random",
        _ => "masquerade persistent",
    };
    let forwarded = match nat {
        Nat::FullCone => format!("iifname wan udp dport 1024-65535 dnat to 10.{n}.0.2"),
        _ => String::new(),
    };
    let blocked = match nat {
        Nat::UdpBlocked => "meta l4proto udp drop",
        _ => "",
    };
    // What arrives unasked, for the router or for a private address, is dropped before it is tracked: an
    // entry for it would take the port away from the host's own packets to the same place.
    format!(
        "table ip nat {{
            chain prerouting {{ type nat hook prerouting priority dstnat; {forwarded}; }}
            chain postrouting {{ type nat hook postrouting priority srcnat; oifname wan {masquerade}; }}
        }}
        table ip filter {{
            chain input {{ type filter hook input priority filter; iifname wan ct state new drop; }}
            chain forward {{
                type filter hook forward priority filter; {blocked};
                iifname wan ct state new ct status & dnat == 0 drop;
            }}
        }}"
    )
    .replace("; ;", ";")
}

fn within<T: Send + 'static>(
    namespace: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let path = format!("/run/netns/{namespace}");
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        work()
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{shown}: {}", said.trim()))
    }
}
