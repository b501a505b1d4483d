//! Who is there and who types, as members of a room see it; and that nothing of it stays.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use crate::support::{Home, MEETING, Signal};
use serde_json::Value;
use testkit::process::Running;

fn in_a_room(host: &Home, guest: &Home) {
    host.run(["room", "create", "kitchen"]).ok();
    let invite = host.json_one(["room", "invite", "kitchen"])["link"].clone();
    guest.run(["room", "join", invite.as_str().unwrap()]).ok();
}

/// Waits until a watched room says that `name` does so.
#[track_caller]
fn sees(watching: &mut Running, name: &str, state: &str) {
    let what = format!("{name} {state}");
    watching.wait_json(&what, MEETING, |value| {
        let is_meant = value["reply"] == "presence" && value["name"] == name;
        (is_meant && value["state"] == state).then_some(())
    });
}

fn member(home: &Home, name: &str) -> Value {
    let members = home.json_one(["room", "members", "kitchen"]);
    let members = members["members"].as_array().unwrap().clone();
    let mut members = members.into_iter();
    members.find(|member| member["name"] == name).unwrap()
}

#[test]
fn members_see_who_is_there_and_types_while_it_lasts_and_nothing_of_it_is_kept() {
    let signal = Signal::start();
    let (host, guest) = (Home::init("host"), Home::init("guest"));
    let _host_up = host.up(&signal);
    let guest_up = guest.up(&signal);
    in_a_room(&host, &guest);
    guest.run(["send", "kitchen", "here I am"]).ok();
    host.hear("kitchen", "here I am");
    let lengths = || (length(&host), length(&guest));
    let before = lengths();

    let mut watching = host.start(["read", "kitchen", "--watch"]);
    sees(&mut watching, "guest", "online");
    guest
        .run(["typing", "kitchen"])
        .ok()
        .says("told 1 connected device");
    sees(&mut watching, "guest", "typing");
    assert_eq!(member(&host, "guest")["presence"], "typing");
    let shown = host.run(["room", "members", "kitchen"]).ok();
    assert!(
        shown.text().contains("1 device, typing"),
        "{}",
        shown.text()
    );
    // It ends by itself: nobody says so.
    sees(&mut watching, "guest", "online");

    assert_eq!(guest.run(["presence", "away"]).ok().text(), "away\n");
    sees(&mut watching, "guest", "away");
    guest.run(["typing", "kitchen"]).ok();
    sees(&mut watching, "guest", "typing");
    assert_eq!(lengths(), before, "nothing of it was written");
    // What was written ends it at once.
    guest.run(["send", "kitchen", "soup at eight"]).ok();
    sees(&mut watching, "guest", "away");

    guest.run(["presence", "off"]).ok();
    sees(&mut watching, "guest", "silent");
    guest
        .run(["typing", "kitchen"])
        .ok()
        .says("nobody in kitchen can hear it");
    assert_eq!(member(&host, "guest")["presence"], Value::Null);
    assert_eq!(member(&host, "guest")["devices"][0]["connected"], true);
    guest_up.stop().ok();

    // Who was off is off after the next start, too: the room hears of its return by a message alone.
    let guest_up = guest.up(&signal);
    assert_eq!(guest.json_one(["presence"])["stance"], "off");
    guest.run(["send", "kitchen", "back"]).ok();
    host.hear("kitchen", "back");
    assert_eq!(member(&host, "guest")["presence"], Value::Null);
    guest.run(["presence", "online"]).ok();
    sees(&mut watching, "guest", "online");

    // Who is no member any more is not there, though its agent runs on.
    host.run(["room", "remove", "kitchen", "guest"]).ok();
    sees(&mut watching, "guest", "silent");
    guest_up.stop().ok();
    watching.stop().ok();
    guest.run(["typing", "kitchen"]).exits(8).says("kinlog up");
    host.run(["typing", "garden"]).exits(3);
}

/// Returns how many blocks a member wrote into the room.
fn length(home: &Home) -> u64 {
    let entries = member(home, &home.name)["devices"][0]["entries"].clone();
    let info = home.json_one(["feed", "info", entries.as_str().unwrap()]);
    info["length"].as_u64().unwrap()
}
