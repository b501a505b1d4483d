//! Debian's coturn as a TURN server.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Folder, Running};

/// How long it may take to listen.
const START_WAIT_MAX: Duration = Duration::from_secs(20);

/// A TURN server that shares a secret; killed when it is dropped.
#[derive(Debug)]
pub struct Coturn {
    address: SocketAddr,
    _running: Running,
    _folder: Folder,
}

impl Coturn {
    /// Starts it on this address, for UDP and TCP. It relays to every address, loopback included.
    ///
    /// # Panics
    /// When it does not start, such as where coturn is not installed.
    #[track_caller]
    pub fn start(address: SocketAddr, secret: &str) -> Coturn {
        let folder = Folder::new("coturn");
        let configuration = folder.join("turnserver.conf");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&configuration)
            .expect("a configuration can be written");
        let IpAddr::V4(ip) = address.ip() else {
            panic!("coturn is started on an IPv4 address");
        };
        let port = address.port();
        let place = folder.path().display();
        write!(
            file,
            "listening-ip={ip}\nrelay-ip={ip}\nlistening-port={port}\nrealm=kinlog.test\n\
             use-auth-secret\nstatic-auth-secret={secret}\nfingerprint\nallow-loopback-peers\n\
             no-cli\nno-tls\nno-dtls\npidfile={place}/pid\nlog-file=stdout\nuserdb={place}/db\n"
        )
        .expect("a configuration can be written");
        let mut command = Command::new("turnserver");
        command.arg("-c").arg(&configuration);
        let running = Running::start(&mut command);
        let started = Instant::now();
        // It listens for TCP and UDP alike; whether it does the one says whether it does the other.
        while TcpStream::connect(address).is_err() {
            assert!(
                started.elapsed() < START_WAIT_MAX,
                "coturn does not listen on {address}: {running:?}"
            );
            std::thread::yield_now();
        }
        Coturn {
            address,
            _running: running,
            _folder: folder,
        }
    }

    /// Starts it on a free port of loopback.
    #[track_caller]
    pub fn on_loopback(secret: &str) -> Coturn {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        Coturn::start(free.expect("loopback has a free port"), secret)
    }

    /// Returns its URL for `udp` or `tcp`.
    pub fn url(&self, transport: &str) -> String {
        format!("turn:{}?transport={transport}", self.address)
    }
}
