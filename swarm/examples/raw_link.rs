//! Measures one data channel on loopback: `raw_link [MiB]`.
use std::time::{Duration, Instant};
use kinlog_swarm::link::{Link, webrtc::{Negotiation, WebrtcSettings}};
use bytes::BytesMut;
fn main() {
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let mib: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(256);
        let settings = WebrtcSettings::default();
        let t0 = Instant::now();
        let (mut a, offer) = Negotiation::offer(&settings, 1).await.unwrap();
        println!("offer {:?} {} bytes", t0.elapsed(), offer.len());
        println!("{}", String::from_utf8_lossy(&offer));
        let (mut b, answer) = Negotiation::answer(&settings, &offer).await.unwrap();
        println!("answer {:?} {} bytes", t0.elapsed(), answer.len());
        a.accept(&answer).await.unwrap();
        println!("accepted {:?}", t0.elapsed());
        let (x, y) = tokio::join!(a.opened(Duration::from_secs(10)), b.opened(Duration::from_secs(10)));
        x.unwrap(); y.unwrap();
        println!("open {:?}", t0.elapsed());
        let (a, b) = (a.into_link().await.unwrap(), b.into_link().await.unwrap());
        println!("{:?}\n{:?}", a.path().await, b.path().await);
        assert_eq!(a.fingerprints().unwrap().local, b.fingerprints().unwrap().remote);
        let t1 = Instant::now();
        let total = mib << 20;
        let send = tokio::spawn(async move {
            let block = vec![7u8; 65536];
            for _ in 0..total / 65536 { a.send(BytesMut::from(&block[..])).await.unwrap(); }
            a
        });
        let mut got = 0;
        while got < total { got += b.recv().await.unwrap().unwrap().len(); }
        let s = t1.elapsed().as_secs_f64();
        println!("{mib} MiB in {s:.3} s = {:.1} MB/s", total as f64 / s / 1e6);
        let a = send.await.unwrap();
        let t = Instant::now();
        a.close().await;
        println!("close {:?}", t.elapsed());
        println!("recv after close {:?} {:?}", b.recv().await.map(|m| m.map(|m| m.len())), t.elapsed());
    });
}
