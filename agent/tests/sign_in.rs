//! Signing in on a new device with a password, over a signal server and WebRTC on loopback.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use crate::stage::{Cast, Folder, SOON, Signal, soon};
use kinlog_agent::api::{DeviceInfo, Error, ErrorKind, Reply, Request, SignInInfo, Text};
use kinlog_agent::sign_in::{SignIn, SignInCode, SignInOffer, SignedIn, sign_in};
use kinlog_agent::vault::Passphrase;
use kinlog_agent::{Agent, OpenOptions};

const PASSWORD: &str = "under the third flowerpot";

fn code(number: u8) -> SignInCode {
    SignInCode::new([number; 16])
}

async fn show(cast: &Cast, request: Request) -> SignInInfo {
    match cast.reply(request).await.unwrap() {
        Reply::SignIn(info) => info,
        other => panic!("{other:?}"),
    }
}

async fn create(cast: &Cast, password: &str, code: &SignInCode) -> SignInInfo {
    let (agent, code) = (cast.id.agent.0, code.clone());
    let password = Passphrase::choose(password).unwrap();
    let name = cast.name.try_into().unwrap();
    let make = move || SignInOffer::make(&agent, name, &password, &code).unwrap();
    let offer = Box::new(Text(tokio::task::spawn_blocking(make).await.unwrap()));
    show(cast, Request::SignInCreate { offer }).await
}

fn asked(folder: &Folder, cast: &Cast, signal: &Signal, name: &str) -> SignIn {
    SignIn {
        home: folder.path().join(name),
        state: folder.state(),
        agent: cast.id.agent.0,
        signal_urls: vec![signal.url.clone()],
        device_name: name.try_into().unwrap(),
        password: Passphrase::typed(PASSWORD).unwrap(),
        code: code(7),
        wait: SOON,
    }
}

async fn come(asked: SignIn) -> Result<SignedIn, Error> {
    soon(sign_in(asked, |_| ())).await
}

async fn devices(cast: &Cast) -> Vec<DeviceInfo> {
    match cast.reply(Request::Devices { of: None }).await.unwrap() {
        Reply::Devices { devices } => devices,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_signs_in_with_password_and_code() {
    let folder = Folder::new();
    let signal = Signal::start().await;
    let ada = Cast::online(&folder, "ada", &signal).await;
    assert_eq!(show(&ada, Request::SignIn).await.state, "none");
    let made = create(&ada, PASSWORD, &code(7)).await;
    assert_eq!((made.state.as_str(), made.number), ("ready", Some(1)));

    let phone = come(asked(&folder, &ada, &signal, "phone")).await.unwrap();
    assert_eq!(phone.name, "ada");
    assert_eq!(phone.agent, ada.id.agent);
    assert!(phone.told, "the other device has the statement");
    let seen = devices(&ada).await;
    let added = seen.iter().find(|device| device.key == phone.device);
    assert_eq!(added.unwrap().name, "phone");
    let shown = show(&ada, Request::SignIn).await;
    assert_eq!(shown.keys[0].devices, ["phone"]);
    assert_eq!(shown.keys[0].made_by, "ada");

    // It is a device like the others: it opens, knows its siblings, and holds the record.
    let home = folder.path().join("phone");
    let agent = Agent::open(&home, OpenOptions::new(folder.state()))
        .await
        .unwrap();
    let phone = Cast {
        name: "phone",
        home,
        state: folder.state(),
        id: ada.id.clone(),
        agent,
    };
    assert_eq!(devices(&phone).await.len(), seen.len());
    assert_eq!(show(&phone, Request::SignIn).await.number, Some(1));
    phone.stop().await;
    ada.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_wrong_code_sound_alike_and_leave_no_home() {
    let folder = Folder::new();
    let signal = Signal::start().await;
    let ada = Cast::online(&folder, "ada", &signal).await;
    create(&ada, PASSWORD, &code(7)).await;
    let wait = Duration::from_secs(8);
    let wrong_password = SignIn {
        password: Passphrase::typed("under the second flowerpot").unwrap(),
        ..asked(&folder, &ada, &signal, "phone")
    };
    let wrong_code = SignIn {
        code: code(8),
        wait,
        ..asked(&folder, &ada, &signal, "phone")
    };
    let (password, code) = tokio::join!(come(wrong_password), come(wrong_code));
    let (password, code) = (password.unwrap_err(), code.unwrap_err());
    assert_eq!(password, code);
    assert_eq!(password.kind, ErrorKind::Permission);
    let stranger = SignIn {
        agent: kinlog_feeds::crypto::AgentId([9; 32]),
        wait: Duration::from_secs(1),
        ..asked(&folder, &ada, &signal, "phone")
    };
    assert_eq!(come(stranger).await.unwrap_err().kind, ErrorKind::NoPeers);
    assert!(!folder.path().join("phone").exists());
    assert_eq!(
        devices(&ada)
            .await
            .iter()
            .filter(|one| one.name == "phone")
            .count(),
        0
    );
    ada.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeder_that_was_asked_holds_the_record_until_it_is_revoked() {
    let folder = Folder::new();
    let signal = Signal::start().await;
    let ada = Cast::online(&folder, "ada", &signal).await;
    let made = create(&ada, PASSWORD, &code(7)).await;
    let link = made.hold_link.unwrap();
    let seeder = Cast::online(&folder, "seeder", &signal).await;
    let hold = Request::SignInHold { link };
    let unknown = seeder.reply(hold.clone()).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound);
    let notes = ada
        .append("/notes", &[bytes::Bytes::from_static(b"hello")])
        .await;
    seeder.follow(&notes, None).await.unwrap();
    seeder.reply(hold).await.unwrap();
    wait_for_number(&seeder, Some(1)).await;

    // Nobody but the seeder is there.
    let ada = ada.reopen().await;
    let phone = come(asked(&folder, &ada, &signal, "phone")).await.unwrap();
    assert!(
        phone.told,
        "the seeder follows the agent, and has the statement"
    );

    // The same code with another password: the seeder is given the new one and drops the old.
    ada.go_online(&signal).await;
    wait_for_number(&seeder, Some(1)).await;
    let again = create(&ada, "another password", &code(7)).await;
    assert_eq!(again.number, Some(2));
    wait_for_number(&seeder, Some(2)).await;
    let old = asked(&folder, &ada, &signal, "tablet");
    assert_eq!(come(old).await.unwrap_err().kind, ErrorKind::Permission);

    let revoked = show(&ada, Request::SignInRevoke).await;
    assert_eq!(revoked.state, "none");
    assert!(revoked.keys.iter().all(|key| key.revoked));
    wait_for_number(&seeder, None).await;
    let none = ada.reply(Request::SignInRevoke).await.unwrap_err();
    assert_eq!(none.kind, ErrorKind::NotFound);
    let wait = Duration::from_secs(4);
    let late = SignIn {
        password: Passphrase::typed("another password").unwrap(),
        wait,
        ..asked(&folder, &ada, &signal, "tablet")
    };
    assert_eq!(come(late).await.unwrap_err().kind, ErrorKind::Permission);
    assert!(!folder.path().join("tablet").exists());
    seeder.stop().await;
    ada.stop().await;
}

/// Waits until the seeder holds the record with this number of its only agent.
async fn wait_for_number(seeder: &Cast, number: Option<u64>) {
    let look = async {
        loop {
            let shown = show(seeder, Request::SignIn).await;
            if shown.held[0].number == number {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(look).await;
}
