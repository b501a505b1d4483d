//! One agent on several devices: linking by file and over the network, revoking, recovering by phrase.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::path::PathBuf;

use crate::support::{Home, MEETING, Signal};
use serde_json::Value;
use testkit::process::WAIT_MAX;

/// A home whose 24 words are kept in a file.
fn with_phrase(name: &str) -> (Home, PathBuf) {
    let home = Home::empty(name);
    let words = home.beside("words");
    let file = words.to_str().unwrap().to_owned();
    home.run(["init", "--name", name, "--phrase-file", &file])
        .ok();
    (home, words)
}

/// The devices of a home's agent, by name: state and role.
fn devices(home: &Home) -> Vec<(String, String, String)> {
    let listed = home.json_one(["device", "list"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let devices = listed["devices"].as_array().unwrap().iter();
    let mut devices: Vec<_> = devices
        .map(|one| (text(&one["name"]), text(&one["state"]), text(&one["role"])))
        .collect();
    devices.sort();
    devices
}

fn row(name: &str, state: &str, role: &str) -> (String, String, String) {
    (name.to_owned(), state.to_owned(), role.to_owned())
}

/// Links `new` to `old` by two files; returns the answer's file.
fn link_by_file(old: &Home, new: &Home) {
    let code = old
        .run(["device", "link", "--offline"])
        .ok()
        .text()
        .trim()
        .to_owned();
    assert!(code.starts_with("kinlog://link/#"), "{code}");
    let (request, answer) = (new.beside("request"), old.beside("answer"));
    let (request, answer) = (request.to_str().unwrap(), answer.to_str().unwrap());
    let asked = new.json_one([
        "init",
        "--name",
        &new.name,
        "--link",
        &code,
        "--request",
        request,
    ]);
    let words = asked["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 5, "{words}");
    let take = [
        "device",
        "link",
        "--request",
        request,
        "--answer",
        answer,
        "--yes-words",
        words,
    ];
    let answered = old.json(take);
    assert_eq!(answered[0]["words"], words, "{answered:?}");
    assert_eq!(answered[1]["name"], new.name.as_str(), "{answered:?}");
    new.run(["init", "--answer", answer, "--yes-words", words])
        .ok();
}

#[test]
fn a_device_is_linked_by_two_files_and_can_link_another() {
    let (laptop, phone, tablet) = (
        Home::init("laptop"),
        Home::empty("phone"),
        Home::empty("tablet"),
    );
    link_by_file(&laptop, &phone);
    let (one, two) = (laptop.json_one(["id"]), phone.json_one(["id"]));
    assert_eq!(one["agent"], two["agent"]);
    assert_ne!(one["device"], two["device"]);
    assert_eq!(two["name"], "laptop", "what the agent calls itself");
    assert_eq!(
        devices(&laptop),
        [
            row("laptop", "device", "this"),
            row("phone", "device", "other")
        ]
    );
    link_by_file(&phone, &tablet);
    assert_eq!(
        devices(&tablet),
        [
            row("laptop", "device", "other"),
            row("phone", "device", "other"),
            row("tablet", "device", "this"),
        ]
    );
    // Each writes its own feeds.
    phone.append("/notes", "from the phone\n");
    laptop.append("/notes", "from the laptop\n");
    laptop.run(["device", "rename", "phone", "telephone"]).ok();
    assert_eq!(devices(&laptop)[1], row("telephone", "device", "other"));
}

#[test]
fn other_words_spend_the_code_and_add_nobody() {
    let (laptop, phone) = (Home::init("laptop"), Home::empty("phone"));
    let code = laptop
        .run(["device", "link", "--offline"])
        .ok()
        .text()
        .trim()
        .to_owned();
    let (request, answer) = (phone.beside("request"), laptop.beside("answer"));
    let (request, answer) = (request.to_str().unwrap(), answer.to_str().unwrap());
    phone
        .run(["init", "--link", &code, "--request", request])
        .ok();
    let take = |words| {
        laptop.run([
            "device",
            "link",
            "--request",
            request,
            "--answer",
            answer,
            "--yes-words",
            words,
        ])
    };
    take("abandon ability able about above")
        .exits(5)
        .says("not the same on both devices");
    // Even the right words come too late.
    let right = phone.run(["init", "--answer", "/dev/null"]);
    assert!(!right.text().is_empty(), "it shows its words");
    take("whatever").exits(3).says("no code is open");
    assert_eq!(devices(&laptop), [row("laptop", "device", "this")]);
    assert!(!phone.path().exists(), "no home was made");
}

#[test]
fn a_request_for_another_code_is_refused_and_spends_the_code() {
    let (laptop, phone) = (Home::init("laptop"), Home::empty("phone"));
    let first = laptop
        .run(["device", "link", "--offline"])
        .ok()
        .text()
        .trim()
        .to_owned();
    laptop.run(["device", "link", "--offline"]).ok();
    let (request, answer) = (phone.beside("request"), laptop.beside("answer"));
    let (request, answer) = (request.to_str().unwrap(), answer.to_str().unwrap());
    let asked = phone.json_one(["init", "--link", &first, "--request", request]);
    let words = asked["words"].as_str().unwrap();
    let take = [
        "device",
        "link",
        "--request",
        request,
        "--answer",
        answer,
        "--yes-words",
        words,
    ];
    laptop.run(take).exits(5).says("made for another code");
    laptop.run(take).exits(3);
    assert_eq!(devices(&laptop).len(), 1);
}

#[test]
fn a_device_is_linked_over_the_network_and_a_revoked_one_learns_of_it() {
    let signal = Signal::start();
    let (laptop, phone) = (Home::init("laptop"), Home::empty("phone"));
    let mut up = laptop.up(&signal);
    let mut showing = laptop.start(["device", "link"]);
    let code = showing.wait_json("a code", WAIT_MAX, |value| {
        value["code"].as_str().map(str::to_owned)
    });
    let mut joining = phone.start(["init", "--name", "phone", "--link", &code]);
    let words = joining.wait_json("words", WAIT_MAX, |value| {
        value["words"].as_str().map(str::to_owned)
    });
    let asked = showing.wait_json("a device that asks", MEETING, |value| {
        value["words"].as_str().map(str::to_owned)
    });
    assert_eq!(asked, words);
    showing.write(format!("{asked}\n").as_bytes());
    showing.wait_json("the device", MEETING, |value| {
        (value["reply"] == "linked").then_some(())
    });
    joining.write(format!("{words}\n").as_bytes());
    joining.finish(MEETING).ok();
    showing.finish(WAIT_MAX).ok();
    let agent = laptop.json_one(["id"])["agent"].clone();
    assert_eq!(phone.json_one(["id"])["agent"], agent);
    up.wait_json("word of the new device", WAIT_MAX, |value| {
        (value["what"] == "device_added" && value["device_name"] == "phone").then_some(())
    });

    // The phone is online with the server that the code named; the laptop revokes it.
    let mut phone_up = phone.start(["up"]);
    phone_up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    phone.append("/notes", "still mine\n");
    let preview = laptop.json_one(["device", "revoke", "phone"]);
    assert_eq!(preview["done"], false);
    assert_eq!(devices(&laptop)[1], row("phone", "device", "other"));
    laptop.run(["device", "revoke", "phone", "--yes"]).ok();
    phone_up.wait_json("word of the revocation", MEETING, |value| {
        (value["what"] == "device_revoked" && value["by"] == "laptop").then_some(())
    });
    let refused = phone
        .run_with(["feed", "append", "/notes"], b"more\n")
        .exits(6);
    refused.says("revoked by laptop");
    assert_eq!(devices(&phone)[1], row("phone", "revoked", "this"));
    phone_up.stop().ok();
    up.stop().ok();
    // It still knows when it is opened again.
    phone
        .run_with(["feed", "append", "/notes"], b"more\n")
        .exits(6);
}

#[test]
fn the_phrase_makes_a_device_alone_and_both_sides_come_to_know_all() {
    let signal = Signal::start();
    let (laptop, words) = with_phrase("laptop");
    let words = std::fs::read(words).unwrap();
    let spare = Home::empty("spare");
    spare.run_with(["recover", "--name", "spare"], &words).ok();
    assert_eq!(devices(&spare), [row("spare", "device", "this")]);
    assert_eq!(
        laptop.json_one(["id"])["agent"],
        spare.json_one(["id"])["agent"]
    );
    let (mut one, mut two) = (laptop.up(&signal), spare.up(&signal));
    one.wait_json("the spare", MEETING, |value| {
        (value["device_name"] == "spare").then_some(())
    });
    two.wait_json("the laptop", MEETING, |value| {
        (value["device_name"] == "laptop").then_some(())
    });
    two.stop().ok();
    let wrong = spare.beside("other");
    let home = Home::empty("wrong");
    home.run_with(["recover"], b"abandon abandon")
        .exits(2)
        .says("24 words");
    drop((one, wrong));
}

#[test]
fn recovering_online_revokes_the_others_and_replaces_the_phrase() {
    let signal = Signal::start();
    let (laptop, words) = with_phrase("laptop");
    let words = std::fs::read(words).unwrap();
    laptop.append("/notes", "one\n");
    let up = laptop.up(&signal);
    let spare = Home::empty("spare");
    let next = spare.beside("next words");
    let next = next.to_str().unwrap();
    let arguments = [
        "recover",
        "--name",
        "spare",
        "--signal",
        &signal.url,
        "--revoke-others",
        "--replace-root",
        "--phrase-file",
        next,
        "--json",
    ];
    let made = spare.run_with(arguments, &words).ok().json().pop().unwrap();
    assert_eq!(made["found_others"], true, "{made:#}");
    assert_eq!(made["revoked"], serde_json::json!(["laptop"]), "{made:#}");
    assert_eq!(
        made["name"], "laptop",
        "what the agent calls itself: {made:#}"
    );
    let listed = spare.json_one(["device", "list"]);
    let laptop_row = &listed["devices"][1];
    assert_eq!(
        laptop_row["revoked_by"],
        serde_json::json!(["the phrase"]),
        "{listed:#}"
    );
    up.stop().ok();

    // The old words speak no more, the new ones do.
    let spare_up = spare.up(&signal);
    let link = spare.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let third = Home::empty("third");
    let arguments = [
        "recover",
        "--name",
        "third",
        "--signal",
        &signal.url,
        "--agent",
        &link,
    ];
    third
        .run_with(arguments, &words)
        .exits(6)
        .says("were replaced");
    let next = std::fs::read(next).unwrap();
    third.run_with(arguments, &next).ok();
    assert_eq!(
        devices(&third),
        [
            row("laptop", "revoked", "other"),
            row("spare", "device", "other"),
            row("third", "device", "this"),
        ]
    );
    spare_up.stop().ok();
}

#[test]
fn both_sides_see_one_safety_number_and_the_devices_of_the_other() {
    let signal = Signal::start();
    let (ada, bob) = (Home::init("ada"), Home::init("bob"));
    let link = |home: &Home| home.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let (of_ada, of_bob) = (link(&ada), link(&bob));
    bob.run(["id", "--safety", &of_ada])
        .exits(3)
        .says("no identity set");
    let (up_ada, up_bob) = (ada.up(&signal), bob.up(&signal));
    let (mut following_ada, mut following_bob) = (
        bob.start(["follow", &of_ada]),
        ada.start(["follow", &of_bob]),
    );
    let known = |value: &Value| (value["have"].is_u64()).then_some(());
    following_ada.wait_json("progress", MEETING, known);
    following_bob.wait_json("progress", MEETING, known);
    let number = |home: &Home, other: &str| {
        for _ in 0..600 {
            let answer = home.run(["id", "--safety", other, "--json"]);
            if let Some(number) = answer.json()[0]["number"].as_str() {
                return number.to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{}: nobody told the identity", home.name);
    };
    let (one, two) = (number(&ada, &of_bob), number(&bob, &of_ada));
    assert_eq!(one, two);
    assert_eq!(one.split(' ').count(), 12);
    let listed = bob.json_one(["device", "list", "--of", &of_ada]);
    assert_eq!(listed["devices"][0]["name"], "ada", "{listed:#}");
    drop((up_ada, up_bob));
}

/// Two devices that are apart set the same things; when they meet again, both sides stand until somebody
/// chooses.
#[test]
fn what_two_devices_set_apart_is_shown_with_both_sides_and_settled_by_a_choice() {
    let signal = Signal::start();
    let (laptop, phone) = (Home::init("laptop"), Home::empty("phone"));
    link_by_file(&laptop, &phone);
    let friend = Home::init("friend");
    let friend = friend.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let until = |home: &Home, what: &str, is_so: &dyn Fn(&Home) -> bool| {
        let deadline = std::time::Instant::now() + MEETING;
        while !is_so(home) {
            assert!(
                std::time::Instant::now() < deadline,
                "{}: {what}: {}",
                home.name,
                home.json_one(["conflicts", "list"])
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    };
    let preference = |home: &Home| {
        let shown = home.json_one(["preference", "list"]);
        let all = shown["preferences"].as_array().unwrap().iter();
        let mut found = all.filter(|one| one["name"] == "read.order");
        found
            .next()
            .and_then(|one| one["value"].as_str().map(str::to_owned))
    };
    // They know each other, and both have the first value.
    laptop
        .run(["preference", "set", "read.order", "oldest"])
        .ok();
    let ups = (laptop.up(&signal), phone.up(&signal));
    until(&phone, "the first value", &|home| {
        preference(home).as_deref() == Some("oldest")
    });
    ups.0.stop().ok();
    ups.1.stop().ok();

    laptop
        .run(["preference", "set", "read.order", "newest"])
        .ok();
    phone
        .run(["preference", "set", "read.order", "unread"])
        .ok();
    laptop
        .run(["contact", "add", &friend, "Cem from work"])
        .ok();
    phone
        .run(["contact", "add", &friend, "Cem the singer"])
        .ok();
    for home in [&laptop, &phone] {
        home.run(["conflicts"])
            .ok()
            .says("no values contradict each other");
    }
    let ups = (laptop.up(&signal), phone.up(&signal));
    let conflicts = |home: &Home| {
        let listed = home.json_one(["conflicts", "list"]);
        listed["conflicts"].as_array().unwrap().clone()
    };
    for home in [&laptop, &phone] {
        until(home, "both conflicts", &|home| conflicts(home).len() == 2);
    }
    assert_eq!(conflicts(&laptop), conflicts(&phone), "both see the same");
    let id = |words: &str| {
        let all = conflicts(&laptop);
        let one = all.iter().find(|one| one.to_string().contains(words));
        one.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (order, petname) = (id("unread"), id("singer"));

    // One side is marked as the one that is shown, with the device that wrote it.
    let shown = laptop.run(["conflicts", "show", &order]).ok();
    let text = shown.text();
    for word in ["newest", "unread", "laptop", "phone"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("singer"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("  * ")).count(),
        1
    );
    let side = |home: &Home, id: &str, value: &str| {
        let all = home.json_one(["conflicts", "show", id]);
        let sides = all["conflicts"][0]["sides"].as_array().unwrap().clone();
        let one = sides
            .iter()
            .find(|side| side["value"].as_str() == Some(value));
        one.unwrap_or_else(|| panic!("{all:#}"))["number"]
            .as_u64()
            .unwrap()
    };
    let number = side(&phone, &order, "unread").to_string();
    phone
        .run(["conflicts", "resolve", &order, "--side", &number])
        .ok();
    let shown = laptop.json_one(["conflicts", "show", &petname]);
    let sides = shown["conflicts"][0]["sides"].as_array().unwrap().iter();
    let work = sides.clone().find(|one| one.to_string().contains("work"));
    let number = work.unwrap()["number"].as_u64().unwrap().to_string();
    laptop
        .run(["conflicts", "resolve", &petname, "--side", &number])
        .ok();
    let beyond = phone.run(["conflicts", "resolve", &order, "--side", "9"]);
    assert_ne!(beyond.code, 0, "{}", beyond.stderr);
    for home in [&laptop, &phone] {
        until(home, "none is left", &|home| conflicts(home).is_empty());
        until(home, "the choice", &|home| {
            preference(home).as_deref() == Some("unread")
                && home
                    .run(["contact", "list"])
                    .ok()
                    .text()
                    .contains("Cem from work")
        });
    }
    drop(ups);
}
