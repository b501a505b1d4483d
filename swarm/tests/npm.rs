//! A node beside JavaScript Hypercore 11 and 10, where it takes more than one wish to see it.
//!
//! Needs Node and `npm ci` in `far-ends/npm`; `cargo xtask test` sees to both.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::net::Ipv4Addr;

use crate::support::{PATIENCE, TestNode, blocks, own_feed};
use kinlog_feeds::replicate::{Interest, Pushes, Want};
use kinlog_feeds::{FeedKey, text};
use serde_json::json;
use testkit::npm::Driver;
use tokio::net::TcpListener;

/// npm closes the channel once we want nothing more, and we open it again when we do.
async fn we_return(hypercore: &str) {
    let mut npm = Driver::start(hypercore);
    let key = npm.make("a", 34, 50);
    npm.set_active("a", false);
    let address = npm.listen(&["a"]).parse().unwrap();
    let mut reader = TestNode::start(1, &[]);
    let key = FeedKey(text::decode_key(&key).unwrap());
    let want = |blocks| Interest {
        want: Want::Range(blocks),
        live: false,
    };
    reader.node.set_interest(key, want(0..10));
    reader
        .node
        .pull_plain_tcp(address, vec![key])
        .await
        .unwrap();
    for end in [10, 20, 50] {
        reader.node.set_interest(key, want(0..end));
        reader.holds(key, end).await;
        npm.wait_peers("a", 0);
    }
    assert_eq!(
        reader.status().await.sessions.len(),
        1,
        "all in one session"
    );
}

/// npm reads, leaves so that the channel closes, and comes back in the same connection.
async fn npm_returns(hypercore: &str) {
    let author = TestNode::start(1, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    author.node.serve_plain_tcp(listener, vec![feed.key()]);
    let mut npm = Driver::start(hypercore);
    npm.open("a", &text::encode_hex(&feed.key().0));
    npm.connect(&["a"], &address);
    for length in [20, 40, 60] {
        feed.append_batch(&signer, &blocks(3, 20, 200)).unwrap();
        author.node.appended(feed.key());
        npm.set_active("a", true);
        npm.wait_peers("a", 1);
        npm.ask(&json!({"do": "wait", "name": "a", "length": length}));
        let got = npm.ask(&json!({"do": "download", "name": "a", "ranges": [[0, length]]}));
        assert_eq!(got["count"], length);
        npm.set_active("a", false);
        npm.wait_peers("a", 0);
    }
    assert_eq!(
        author.status().await.sessions.len(),
        1,
        "all in one session"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_11_leaves_a_channel_and_returns() {
    npm_returns("11").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_10_leaves_a_channel_and_returns() {
    npm_returns("10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_11_closes_a_channel_and_we_return() {
    we_return("11").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_10_closes_a_channel_and_we_return() {
    we_return("10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_11_pushes_and_we_take_it() {
    let mut npm = Driver::start("11");
    let key = npm.make("a", 35, 5);
    let address = npm.listen(&["a"]).parse().unwrap();
    let mut reader = TestNode::start(1, &[]);
    let key = FeedKey(text::decode_key(&key).unwrap());
    let all = Interest {
        want: Want::All,
        live: true,
    };
    reader.node.set_pushes(key, Pushes::Only);
    reader.node.set_interest(key, all);
    let session = reader.node.pull_plain_tcp(address, vec![key]);
    session.await.unwrap();
    npm.wait_peers("a", 1);
    npm.ask(&json!({"do": "push", "name": "a", "ranges": [[0, 5]]}));
    reader.holds(key, 5).await;
    npm.append("a", 35, 3);
    npm.ask(&json!({"do": "push", "name": "a", "ranges": [[5, 8]]}));
    reader.holds(key, 8).await;
    assert_eq!(reader.status().await.feeds[0].blocks_pushed, 8);
    // What is not pushed is fetched once that may be.
    npm.append("a", 35, 2);
    reader.node.set_pushes(key, Pushes::Taken);
    reader.holds(key, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_hypercore_11_takes_what_we_push() {
    let author = TestNode::start(1, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    author.node.serve_plain_tcp(listener, vec![feed.key()]);
    let mut npm = Driver::start("11");
    let key = text::encode_hex(&feed.key().0);
    npm.ask(&json!({"do": "pushed", "name": "a", "key": key}));
    npm.connect(&["a"], &address);
    let takes = async {
        while author
            .status()
            .await
            .feeds
            .first()
            .map_or(0, |one| one.peers_taking_pushes)
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, takes).await.unwrap();
    let mut length = 0;
    for count in [1, 1, 5, 16] {
        feed.append_batch(&signer, &blocks(3, count, 200)).unwrap();
        author.node.appended(feed.key());
        length += count;
        npm.ask(&json!({"do": "wait", "name": "a", "length": length}));
        for index in length - count..length {
            let got = npm.ask(&json!({"do": "get", "name": "a", "index": index, "ms": 20_000}));
            assert_eq!(got["held"], true, "block {index}");
        }
    }
}
