//! Clients by TCP that hold a place and are not there, on real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rtc_stun::attributes::ATTR_NONCE;
use rtc_stun::message::{CLASS_REQUEST, METHOD_ALLOCATE, Message, MessageType, TransactionId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::tests::{code, sign, transport};
use super::*;
use crate::ice::TurnSecrets;

/// Far above what anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);

const SECRET: &str = "north-south-east-west";
const IDLE: Duration = Duration::from_millis(200);

/// Starts a relay whose allocations, and whose patience, are short; it ends with what runs it.
async fn relay() -> (TurnServer, SocketAddr, JoinSet<()>) {
    let loopback = Ipv4Addr::LOCALHOST;
    let secrets = TurnSecrets::parse(SECRET).unwrap();
    let mut settings = TurnSettings::new((loopback, 0).into(), loopback.into(), secrets);
    settings.limits.lifetime = IDLE;
    settings.limits.stream_idle = IDLE;
    let server = TurnServer::bind(settings).await.unwrap();
    let mut running = JoinSet::new();
    let runs = server.clone();
    running.spawn(async move { runs.run().await });
    let address = server.local_addr().unwrap();
    (server, address, running)
}

fn allocate(transaction: u8) -> Message {
    let mut message = Message::new();
    message.typ = MessageType::new(METHOD_ALLOCATE, CLASS_REQUEST);
    message.transaction_id = TransactionId([transaction; 12]);
    message.write_header();
    let (kind, value) = transport();
    message.add(kind, &value);
    message
}

async fn ask(stream: &mut TcpStream, request: &Message) -> Message {
    stream.write_all(&request.raw).await.unwrap();
    let mut answer = vec![0; 20];
    stream.read_exact(&mut answer).await.unwrap();
    let more = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    answer.resize(20 + more, 0);
    stream.read_exact(&mut answer[20..]).await.unwrap();
    let mut message = Message::new();
    message.unmarshal_binary(&answer).unwrap();
    message
}

/// Closed, or reset as something was not read.
fn is_end(read: std::io::Result<usize>) -> bool {
    !matches!(read, Ok(1..))
}

/// A client that vanished held its place for ever: the allocation ended, and nothing ended its socket.
#[tokio::test]
async fn a_client_that_says_nothing_more_is_closed_after_its_allocation() {
    let (server, address, _running) = relay().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let challenge = ask(&mut stream, &allocate(1)).await;
    let nonce = challenge.get(ATTR_NONCE).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let username = format!("{}:somebody", now.as_secs() + 600);
    let crypto = rtc_crypto::default_provider().unwrap();
    let mut request = allocate(2);
    sign(&mut request, &nonce, SECRET, &username, &*crypto);
    assert_eq!(code(&ask(&mut stream, &request).await), 0);
    assert_eq!(server.counts().allocated, 1);
    let ended = timeout(SOON, stream.read(&mut [0])).await;
    assert!(is_end(ended.expect("it is closed")));
}

/// Each byte was a reason to wait for the next one.
#[tokio::test]
async fn who_sends_a_byte_now_and_then_is_closed() {
    let (_server, address, _running) = relay().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drips = async {
        // A message of 4,000 bytes, for as long as anybody takes it.
        let mut often = interval(IDLE / 4);
        for byte in [0, 3, 0x0f, 0xa0].into_iter().chain(std::iter::repeat(0)) {
            often.tick().await;
            if write.write_all(&[byte]).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut byte = [0];
    let ended = timeout(SOON, async {
        tokio::select! {
            ended = read.read(&mut byte) => ended,
            () = drips => Ok(1),
        }
    });
    assert!(is_end(ended.await.expect("it is closed")));
}
