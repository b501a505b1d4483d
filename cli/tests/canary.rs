//! Registered secrets and texts: in no file of a locked home, in no log at TRACE, in no argument, and in
//! no answer that did not ask for them, whichever command runs.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::story::{EVERYTHING, FRAMES, Story, all_commands};
use crate::support::{Home, MEETING, Signal};
use kinlog_agent::linking::LinkCode;
use kinlog_agent::sign_in::{Capsule, SignInCode, SignInRecord};
use kinlog_agent::vault::Passphrase;
use testkit::needles::Needles;
use testkit::process::{Running, WAIT_MAX, run};

const PASSPHRASE: &str = "correct horse battery staple";
const BACKUP_PASSPHRASE: &str = "a cupboard full of umbrellas";
const PASSWORD: &str = "seven herrings in a teapot";
const ROOM: &str = "behind the green door";
const PRIVATE_PATH: &str = "/diary-of-the-locksmith";
const PRIVATE_LINE: &str = "the cellar has a second window";
const DOCUMENT: &str = "the bread rises on the north wall";
const MESSAGE: &str = "the key is under the third flowerpot";
const EDITED: &str = "the key is behind the rain barrel";
const ANSWER: &str = "the cat sleeps in the piano";
const DIRECT: &str = "only you know where the ladder is";
const PETNAME: &str = "that odd man from the ferry";
const NOTE: &str = "never lend him the wheelbarrow";
const PREFERENCE: &str = "marmalade before midnight";
const REASON: &str = "he sang during the fire drill";

fn image(home: &Home, needles: &Needles) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in home.files().into_iter().filter(|file| file.is_file()) {
        found.extend(needles.found_in(&std::fs::read(&file).unwrap()));
    }
    found
}

#[test]
fn a_locked_home_its_logs_and_its_arguments_show_no_secret() {
    let home = Home::empty("ann");
    let words = home.beside("words");
    let init = [
        "init",
        "--name",
        "ann",
        "--phrase-file",
        words.to_str().unwrap(),
    ];
    home.run(init).ok();
    let passphrase = home.secret_file("passphrase", PASSPHRASE);
    let passphrase = passphrase.to_str().unwrap();
    home.run(["room", "create", ROOM]).ok();
    home.run(["room", "invite", ROOM]).ok();
    home.run(["feed", "create", PRIVATE_PATH, "--private"]).ok();

    let words = std::fs::read_to_string(&words).unwrap();
    let mut needles = Needles::new();
    needles.add("device secret", home.device_secret().expose());
    needles.add("home key", home.home_key().expose());
    needles.add("phrase", words.trim().as_bytes());
    needles.add("passphrase", PASSPHRASE.as_bytes());
    for secret in home.sealed("epochs", "secret", "id") {
        needles.add("epoch secret", &secret);
    }
    for seed in home.sealed("invites", "seed", "public_key") {
        needles.add("invite seed", &seed);
    }
    let mut texts = Needles::new();
    texts.add("message", MESSAGE.as_bytes());
    texts.add("room", ROOM.as_bytes());
    texts.add("private path", PRIVATE_PATH.as_bytes());

    // What each command logs when it tells all it can.
    let mut log = Vec::new();
    let backup = home.beside("ann.backup");
    let backup = backup.to_str().unwrap();
    let set = ["passphrase", "set", "--new-passphrase-file", passphrase];
    let create = [
        "backup",
        "create",
        backup,
        "--new-passphrase-file",
        passphrase,
    ];
    let verify = ["backup", "verify", backup, "--passphrase-file", passphrase];
    let unlock = ["unlock", "--passphrase-file", passphrase];
    let send = ["send", ROOM, MESSAGE];
    let commands: [&[&str]; 9] = [
        &["id"],
        &["status"],
        &send,
        &set,
        &create,
        &verify,
        &["lock"],
        &unlock,
        &["device", "list"],
    ];
    for command in commands {
        let finished = run(
            home.command(command).arg("-vv").env("KINLOG_LOG", "trace"),
            b"",
        )
        .ok();
        log.extend_from_slice(finished.stderr.as_bytes());
    }
    // A running agent: its arguments, and what it says when it is killed.
    let mut up = home.command(["up", "--json"]);
    let mut up = Running::start(up.env("KINLOG_LOG", "trace"));
    up.wait_json("word that it is ready", WAIT_MAX, |value| {
        (value["event"] == "ready").then_some(())
    });
    let arguments = std::fs::read(format!("/proc/{}/cmdline", up.pid())).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", up.pid())).unwrap();
    for shown in [arguments, environment] {
        assert_eq!(needles.found_in(&shown), BTreeSet::new());
    }
    let found = needles.found_in_memory(up.pid());
    assert!(
        found.iter().any(|one| one.starts_with("epoch secret")),
        "the search is blind: {found:?}"
    );
    up.kill_now();
    log.extend_from_slice(up.all_stderr().as_bytes());
    assert!(!log.is_empty(), "nothing is logged at TRACE");
    assert_eq!(needles.found_in(&log), BTreeSet::new(), "in the log");

    // What is on the disk once it is locked: whoever was killed left no trace either.
    assert!(
        !image(&home, &texts).is_empty(),
        "the index holds texts while it is unlocked"
    );
    home.run(["lock"]).ok();
    assert_eq!(
        image(&home, &needles),
        BTreeSet::new(),
        "in the locked home"
    );
    assert_eq!(
        image(&home, &texts),
        BTreeSet::new(),
        "texts in the locked home"
    );
    let keys = std::fs::read_dir(home.state().join("keys")).unwrap();
    assert_eq!(keys.count(), 0, "a key is left");
}

/// Run by one agent alone; `conflicts show`, `conflicts resolve`, `feed take`, `pair answer`, `pair finish`,
/// `passphrase keyring`, `ping` and `typing` are refused there.
const ALONE: &[&str] = &[
    "attest agent",
    "attest list",
    "attest witness",
    "backup create",
    "backup restore",
    "backup verify",
    "conflicts",
    "conflicts list",
    "conflicts resolve",
    "conflicts show",
    "contact",
    "contact add",
    "contact list",
    "contact name",
    "contact remove",
    "delete",
    "device",
    "device list",
    "device rename",
    "device renew",
    "doctor",
    "edit",
    "feed append",
    "feed clear",
    "feed conflicts",
    "feed create",
    "feed drop",
    "feed export",
    "feed import",
    "feed info",
    "feed list",
    "feed read",
    "feed rename",
    "feed retire",
    "feed take",
    "feed truncate",
    "feed verify",
    "id",
    "index check",
    "index dump-hash",
    "index rebuild",
    "init",
    "lock",
    "pair answer",
    "pair finish",
    "passphrase",
    "passphrase change",
    "passphrase keyring",
    "passphrase remove",
    "passphrase set",
    "passphrase show",
    "peers",
    "pin",
    "ping",
    "pins",
    "preference",
    "preference get",
    "preference list",
    "preference set",
    "presence",
    "profile",
    "profile set",
    "profile show",
    "publish",
    "query",
    "react",
    "read",
    "recover",
    "room create",
    "room export",
    "room grant",
    "room grant-revoke",
    "room grants",
    "room invite",
    "room invite revoke",
    "room invites",
    "room leave",
    "room list",
    "room members",
    "search",
    "seed list",
    "send",
    "sign-in",
    "sign-in create",
    "sign-in revoke",
    "sign-in status",
    "status",
    "store check",
    "store compact",
    "store repair",
    "store stat",
    "typing",
    "unlock",
    "unpin",
    "vouch against",
    "vouch for",
    "vouch list",
    "why",
];

/// Run by agents that meet.
const TOGETHER: &[&str] = &[
    "device confirm",
    "device link",
    "device revoke",
    "dm",
    "feed pull",
    "feed serve",
    "follow",
    "room join",
    "room remove",
    "room role",
    "seed",
    "seed accept",
    "seed drop",
    "sign-in hold",
    "sign-in release",
    "sign-in use",
    "unfollow",
    "up",
];

/// Not run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "signal serve",
        "it has no secret and hears none: signal_privacy.rs records all that it hears",
    ),
    ("demo", "its agents are its own and end with it"),
    (
        "pair offer",
        "what it shows is for whoever it is carried to; connecting.rs takes it there",
    ),
];

#[test]
fn every_command_has_its_place_in_this_test() {
    let all = all_commands();
    assert!(all.len() > 80, "{all:?}");
    let mut placed: Vec<&str> = NOT_RUN.iter().map(|(name, _)| *name).collect();
    placed.extend(ALONE.iter().chain(TOGETHER));
    let unknown: Vec<_> = placed.iter().filter(|name| !all.contains(**name)).collect();
    assert!(unknown.is_empty(), "these are no commands: {unknown:?}");
    let forgotten: Vec<_> = all
        .iter()
        .filter(|name| !placed.contains(&name.as_str()))
        .collect();
    assert!(
        forgotten.is_empty(),
        "run these here, or say why not: {forgotten:?}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a person calls things; an answer may name them.
fn names() -> Needles {
    let mut names = Needles::new();
    names.add("room", ROOM.as_bytes());
    names.add("private path", PRIVATE_PATH.as_bytes());
    names.add("petname", PETNAME.as_bytes());
    names
}

/// What a person wrote; only a command that reads shows it.
fn texts() -> Needles {
    let mut texts = Needles::new();
    for (name, text) in [
        ("private line", PRIVATE_LINE),
        ("document", DOCUMENT),
        ("message", MESSAGE),
        ("edited", EDITED),
        ("answer", ANSWER),
        ("direct", DIRECT),
        ("note", NOTE),
        ("preference", PREFERENCE),
        ("reason", REASON),
    ] {
        texts.add(name, text.as_bytes());
    }
    texts
}

/// Adds what a home without passphrase is sealed with and what it seals.
fn add_secrets(needles: &mut Needles, home: &Home) {
    needles.add("device secret", home.device_secret().expose());
    needles.add("home key", home.home_key().expose());
    for secret in home.sealed("epochs", "secret", "id") {
        needles.add("epoch secret", &secret);
    }
    for seed in home.sealed("invites", "seed", "public_key") {
        needles.add("invite seed", &seed);
    }
}

/// Adds what a password and a code open, and both of them.
fn add_sign_in(needles: &mut Needles, home: &Home, code: &Path) {
    let code = SignInCode::parse(&std::fs::read_to_string(code).unwrap()).unwrap();
    let row = "SELECT record FROM sign_ins";
    let record: Vec<u8> = home
        .state_db()
        .query_row(row, [], |row| row.get(0))
        .unwrap();
    let record = SignInRecord::decode(&record).unwrap();
    let typed = Passphrase::typed(PASSWORD).unwrap();
    let capsule = Capsule::open(&record.sealed, &record.agent, &typed, &code).unwrap();
    needles.add("password", PASSWORD.as_bytes());
    needles.add("code", code.expose());
    needles.add("code", code.text().as_bytes());
    needles.add("code", code.text().replace('-', "").as_bytes());
    needles.add("sign-in seed", capsule.secret().expose());
}

/// Adds what a link holds behind its `#`, and the link's text is never in a log.
fn add_link(needles: &mut Needles, name: &str, link: &str) {
    let (_, secret) = link.split_once('#').unwrap();
    needles.add(name, secret.as_bytes());
}

/// Asserts that nothing that was registered stands where nobody asked for it.
fn assert_told_only_what_was_asked(story: &Story, secrets: &Needles, asked: &[&str]) {
    let (names, texts) = (&names(), &texts());
    assert!(story.bytes_logged().0 > 0, "nothing is logged at TRACE");
    assert_eq!(story.found_in_logs(names), BTreeSet::new(), "names in logs");
    assert_eq!(story.found_in_logs(texts), BTreeSet::new(), "texts in logs");
    assert_eq!(story.found_in_logs(secrets), BTreeSet::new(), "in logs");
    assert_eq!(story.found_in_frames(secrets), BTreeSet::new(), "in frames");
    // A link is given to whoever may do what it is for.
    let mut given = story.found_in_arguments(secrets);
    let meant = [
        "room join: invite seed",
        "init: link code",
        "sign-in hold: hold link",
        "seed accept: grant link",
    ];
    given.retain(|found| !meant.iter().any(|meant| found.starts_with(meant)));
    assert_eq!(given, BTreeSet::new(), "in arguments");
    let mut shown = story.found_in_answers(secrets);
    shown.extend(story.found_in_answers(texts));
    let shown: BTreeSet<&str> = shown
        .iter()
        .map(|found| found.split(" (").next().unwrap())
        .collect();
    assert_eq!(shown, asked.iter().copied().collect(), "in answers");
}

#[test]
fn one_agent_alone_shows_its_secrets_to_nobody() {
    let mut story = Story::new();
    let (ann, bob) = (Home::empty("ann"), Home::init("bob"));
    let words = ann.beside("words");
    let passphrase = ann.secret_file("passphrase", PASSPHRASE);
    let backup_passphrase = ann.secret_file("backup passphrase", BACKUP_PASSPHRASE);
    let password = ann.secret_file("password", PASSWORD);
    let (code, backup) = (ann.beside("code"), ann.beside("ann.backup"));
    let document = ann.write("document.md", DOCUMENT.as_bytes());
    let file = ann.write("file", PRIVATE_LINE.as_bytes());
    let bob_link = bob.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let bob_link = bob_link.as_str();
    let (elsewhere, songs) = (ann.beside("exported"), bob.beside("songs"));
    bob.append("/songs", "the ballad of the two buckets\n");
    bob.run(["feed", "export", "/songs", "--bundle", text(&songs)])
        .ok();
    let of_bob = bob.json_one(["feed", "info", "/songs"])["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_bob = of_bob.as_str();

    let init = ["init", "--name", "ann", "--phrase-file", text(&words)];
    story.tell(&ann, &init, "");
    let phrase = std::fs::read_to_string(&words).unwrap();
    for words in [
        &["id"][..],
        &["status"],
        &["doctor"],
        &["doctor", "--egress"],
        &["device"],
        &["device", "list"],
        &["device", "rename", "ann", "desk"],
        &["profile"],
        &["profile", "set", "--about", "grows tomatoes"],
        &["profile", "show"],
        &["contact", "add", bob_link, PETNAME, "--note", NOTE],
        &["contact", "name", bob_link, PETNAME],
        &["contact"],
        &["contact", "list"],
        &["peers"],
        &["presence", "away"],
        &["preference", "set", "read.last", PREFERENCE],
        &["preference", "get", "read.last"],
        &["preference"],
        &["preference", "list"],
        &["vouch", "for", bob_link],
        &["vouch", "against", bob_link],
        &["vouch", "list"],
        &["attest", "agent", bob_link, "owns a ladder"],
        &["attest", "list"],
        &["conflicts"],
        &["conflicts", "list"],
        &["contact", "remove", bob_link],
        // Feeds.
        &["feed", "create", "/diary", "--private"],
        &["feed", "rename", "/diary", PRIVATE_PATH],
        &["feed", "list"],
        &["feed", "info", PRIVATE_PATH],
    ] {
        story.tell(&ann, words, "");
    }
    let line = format!("{PRIVATE_LINE}\n");
    story.tell(&ann, &["feed", "append", PRIVATE_PATH], &line);
    let bundle = ann.beside("bundle");
    for words in [
        &["feed", "read", PRIVATE_PATH][..],
        &["feed", "import", "/file", text(&file)],
        &["feed", "export", "/file", text(&ann.beside("copy"))],
        &["feed", "export", "/file", "--bundle", text(&bundle)],
        &["feed", "verify", PRIVATE_PATH],
        &["feed", "verify", text(&bundle)],
        &["feed", "conflicts"],
        &["publish", "/pages", "--private", text(&document)],
        &["search", "bread"],
        &["search", "window"],
        &["feed", "retire", "/pages"],
        &["pin", bob_link],
        &["pins"],
        &["unpin", bob_link],
        &["store", "stat"],
        &["store", "compact"],
        &["store", "check"],
        // Rooms.
        &["room", "create", ROOM],
        &["room", "list"],
        &["room", "members", ROOM],
        &["room", "invites", ROOM],
        &["room", "grant", ROOM, "--to", bob_link],
        &["room", "export", ROOM, text(&elsewhere)],
        &["send", ROOM, MESSAGE],
        &["seed", "list"],
    ] {
        story.tell(&ann, words, "");
    }
    let plain = story.ask(&ann, &["feed", "create", "--plain"]);
    let plain = plain["key"].as_str().unwrap();
    story.tell(&ann, &["feed", "append", plain], "one\ntwo\n");
    let message = story.ask(&ann, &["read", ROOM]);
    let message = message["id"].as_str().unwrap();
    story.tell(&ann, &["room", "invite", ROOM], "");
    let invites = story.ask(&ann, &["room", "invites", ROOM]);
    let grants = story.ask(&ann, &["room", "grants", ROOM]);
    let mut secrets = Needles::new();
    secrets.add("phrase", phrase.trim().as_bytes());
    secrets.add("passphrase", PASSPHRASE.as_bytes());
    secrets.add("backup passphrase", BACKUP_PASSPHRASE.as_bytes());
    add_secrets(&mut secrets, &ann);
    let key = invites["invites"][0]["key"].as_str().unwrap();
    let grant = grants["grants"][0]["grant"].as_str().unwrap();
    let select = "SELECT * FROM messages";
    for words in [
        &["feed", "truncate", plain, "--length", "1"][..],
        &["feed", "clear", plain, "0..1", "--own"],
        &["feed", "import", "--bundle", text(&songs)],
        &["feed", "drop", of_bob],
        &["store", "repair"],
        &["read", ROOM],
        &["react", ROOM, message, "+1"],
        &["edit", ROOM, message, EDITED],
        &["attest", "witness", message, "seen", "--room", ROOM],
        &["why", message, "--room", ROOM],
        &["query", select],
        &["search", "barrel"],
        &["delete", ROOM, message, "--reason", REASON],
        &["index", "check"],
        &["index", "dump-hash"],
        &["index", "rebuild"],
        &["room", "invite", "revoke", ROOM, key],
        &["room", "grant-revoke", ROOM, grant],
        &["sign-in"],
        &[
            "sign-in",
            "create",
            "--password-file",
            text(&password),
            "--write-code",
            text(&code),
        ],
        &["sign-in", "status"],
    ] {
        story.tell(&ann, words, "");
    }
    add_sign_in(&mut secrets, &ann, &code);
    let new = "--new-passphrase-file";
    let old = "--passphrase-file";
    for words in [
        &["sign-in", "revoke"][..],
        &[
            "backup",
            "create",
            text(&backup),
            new,
            text(&backup_passphrase),
        ],
        &[
            "backup",
            "verify",
            text(&backup),
            old,
            text(&backup_passphrase),
        ],
        &["passphrase"],
        &["passphrase", "set", new, text(&passphrase)],
        &["passphrase", "show"],
        &["lock"],
        &["unlock", old, text(&passphrase)],
        &[
            "passphrase",
            "change",
            old,
            text(&passphrase),
            new,
            text(&backup_passphrase),
        ],
        &["passphrase", "remove", old, text(&backup_passphrase)],
        &["room", "leave", ROOM, "--purge"],
    ] {
        story.tell(&ann, words, "");
    }
    // What cannot be done here says no more than that.
    for (words, code) in [
        (&["conflicts", "show", "yyyy"][..], 3),
        (&["conflicts", "resolve", "yyyy"], 3),
        (&["feed", "take", PRIVATE_PATH], 2),
        (&["passphrase", "keyring"], 6),
        (&["pair", "answer", "kinlog://pair/#yyyy"], 2),
        (&["pair", "finish", "kinlog://pair/#yyyy"], 2),
        (&["ping", bob_link, "--wait", "1"], 4),
        (&["typing", ROOM], 3),
    ] {
        story.end(&ann, words, "", code);
    }
    add_secrets(&mut secrets, &ann);
    // The device is gone: it comes back from the backup and from the words.
    let (again, spare) = (Home::empty("again"), Home::empty("spare"));
    let restore = [
        "backup",
        "restore",
        text(&backup),
        old,
        text(&backup_passphrase),
    ];
    story.tell(&again, &restore, &phrase);
    story.tell(&spare, &["recover", "--name", "spare"], &phrase);
    story.tell(&spare, &["device", "renew"], &phrase);
    for home in [&again, &spare] {
        add_secrets(&mut secrets, home);
    }
    // A home that is damaged is refused without telling what is left of it.
    for (file, code) in [("device.secret", 5), ("home.key", 5), ("state.db", 1)] {
        let file = spare.path().join(file);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        story.end(&spare, &["id"], "", code);
        std::fs::write(&file, &whole).unwrap();
    }
    let told = story.told();
    assert_told_only_what_was_asked(
        &story,
        &secrets,
        &[
            "contact add: note",
            "contact list: note",
            "contact name: note",
            "contact: note",
            "feed read: private line",
            "preference get: preference",
            "preference list: preference",
            "preference set: preference",
            "preference: preference",
            "query: edited",
            "read: message",
            "room invite: invite seed",
            "search: document",
            "search: edited",
        ],
    );
    assert_eq!(told, ALONE.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn agents_that_meet_show_their_secrets_to_nobody() {
    let mut story = Story::new();
    let signal = Signal::start();
    let (ann, bob) = (Home::init("ann"), Home::init("bob"));
    let (sue, phone, tablet) = (
        Home::init("sue"),
        Home::empty("phone"),
        Home::empty("tablet"),
    );
    let link = |home: &Home| home.json_one(["id"])["link"].as_str().unwrap().to_owned();
    let (ann_link, bob_link, sue_link) = (link(&ann), link(&bob), link(&sue));
    let password = ann.secret_file("password", PASSWORD);
    let code = ann.beside("code");
    let password = ["--password-file", text(&password)];
    let write = ["--write-code", text(&code)];
    let create = [&["sign-in", "create"][..], &password, &write].concat();
    let hold = story.ask(&ann, &create);
    let hold = hold["hold_link"].as_str().unwrap();
    let mut secrets = Needles::new();
    add_sign_in(&mut secrets, &ann, &code);
    add_link(&mut secrets, "hold link", hold);
    let songs = ann.append("/songs", "the ballad of the two buckets\n");
    let mut serving = story.start(&ann, &["feed", "serve", "/songs", "--tcp", "127.0.0.1:0"]);
    let (key, address) = serving.wait_json("the address", WAIT_MAX, |value| {
        let (key, address) = (value["key"].as_str()?, value["address"].as_str()?);
        Some((key.to_owned(), address.to_owned()))
    });
    story.tell(&bob, &["feed", "pull", &key, "--tcp", &address], "");
    story.stop(serving, &["feed", "serve"]);

    let (ann_up, bob_up) = (
        story.up(&ann, &signal, EVERYTHING),
        story.up(&bob, &signal, EVERYTHING),
    );
    let sue_up = story.up(&sue, &signal, "trace");
    story.tell(&ann, &["room", "create", ROOM], "");
    let invite = story.ask(&ann, &["room", "invite", ROOM]);
    let invite = invite["link"].as_str().unwrap();
    story.tell(&bob, &["room", "join", invite], "");
    story.tell(&ann, &["send", ROOM, MESSAGE], "");
    bob.hear(ROOM, MESSAGE);
    story.tell(&bob, &["send", ROOM, ANSWER], "");
    ann.hear(ROOM, ANSWER);
    story.tell(&ann, &["dm", &bob_link, DIRECT], "");
    story.tell(&bob, &["follow", &songs, "--once"], "");
    story.tell(&bob, &["unfollow", &songs], "");
    let mut seeding = story.start(&sue, &["seed", &songs]);
    seeding.wait_json("a whole copy", MEETING, |value| {
        (value["complete"] == true).then_some(())
    });
    story.stop(seeding, &["seed"]);
    let granted = story.ask(&ann, &["room", "grant", ROOM, "--to", &sue_link]);
    let grant = granted["link"].as_str().unwrap();
    add_link(&mut secrets, "grant link", grant);
    story.tell(&sue, &["seed", "accept", grant], "");
    story.tell(
        &sue,
        &["seed", "drop", granted["grant"].as_str().unwrap()],
        "",
    );
    story.tell(&ann, &["status"], "");
    story.tell(&bob, &["sign-in", "hold", hold], "");
    story.tell(&bob, &["sign-in", "release", &ann_link], "");
    // A removal ends the invites, and their seeds go.
    add_secrets(&mut secrets, &ann);
    story.tell(&ann, &["room", "role", ROOM, &bob_link, "guest"], "");
    story.tell(
        &ann,
        &["room", "remove", ROOM, &bob_link, "--reason", REASON],
        "",
    );

    // One more device by a code and words, one more by a password and a code.
    let showing = ["device", "link"];
    let mut shown = story.start(&ann, &showing);
    let link_code = shown.wait_json("a code", WAIT_MAX, |value| {
        value["code"].as_str().map(str::to_owned)
    });
    add_link(&mut secrets, "link code", &link_code);
    let parsed: LinkCode = link_code.parse().unwrap();
    secrets.add("link code", parsed.secret.expose());
    let mut joining = story.start(&phone, &["init", "--name", "phone", "--link", &link_code]);
    let words = joining.wait_json("words", WAIT_MAX, |value| {
        value["words"].as_str().map(str::to_owned)
    });
    shown.wait_json("a device that asks", MEETING, |value| {
        value["words"].as_str().map(str::to_owned)
    });
    joining.write(format!("{words}\n").as_bytes());
    story.tell(&ann, &["device", "confirm", &words], "");
    story.finish(joining, &["init"]);
    story.finish(shown, &showing);
    let mut signing_in = vec![
        "sign-in",
        "use",
        "--agent",
        &ann_link,
        "--signal",
        &signal.url,
    ];
    signing_in.extend(["--name", "tablet", "--code-file", text(&code)]);
    signing_in.extend(password);
    story.tell(&tablet, &signing_in, "");
    story.tell(&ann, &["device", "revoke", "phone", "--yes"], "");

    let ups = [&ann_up, &bob_up, &sue_up].map(Running::pid);
    for home in [&ann, &bob, &sue, &phone, &tablet] {
        add_secrets(&mut secrets, home);
    }
    for pid in ups {
        for shown in ["cmdline", "environ"] {
            let shown = std::fs::read(format!("/proc/{pid}/{shown}")).unwrap();
            assert_eq!(secrets.found_in(&shown), BTreeSet::new());
        }
    }
    for up in [ann_up, bob_up] {
        story.stop(up, &["up"]);
    }
    // What peers say in confidence is in no log of who asked for the rest.
    let of_sue = story.stop(sue_up, &["up"]).stderr;
    assert!(of_sue.contains("TRACE") && !of_sue.contains(FRAMES));
    let found = story.found_in_frames(&texts());
    assert!(
        found.contains("up: reason (hex)"),
        "the search is blind: {found:?}"
    );
    let (log, frames) = story.bytes_logged();
    assert!(log > 100_000 && frames > 10_000, "{log} {frames}");
    let asked = [
        "device link: link code",
        "dm: invite seed",
        "room grant: grant link",
        "room invite: invite seed",
        "sign-in create: hold link",
    ];
    assert_told_only_what_was_asked(&story, &secrets, &asked);
    let mut told = story.told();
    told.retain(|name| !ALONE.contains(&name.as_str()));
    assert_eq!(
        told,
        TOGETHER.iter().map(|name| (*name).to_owned()).collect()
    );
}

/// Where memory ends, threads are not made and buffers not given: the program stops in the middle of what
/// it does, by a panic or an abort, with all that it was told in memory.
#[test]
fn a_program_that_runs_out_of_memory_dies_without_telling_a_secret() {
    let home = Home::empty("ann");
    let words = home.beside("words");
    home.run(["init", "--name", "ann", "--phrase-file", text(&words)])
        .ok();
    let phrase = std::fs::read_to_string(&words).unwrap();
    let passphrase = home.secret_file("passphrase", PASSPHRASE);
    home.run(["room", "create", ROOM]).ok();
    home.run(["feed", "create", PRIVATE_PATH, "--private"]).ok();
    let mut secrets = Needles::new();
    add_secrets(&mut secrets, &home);
    secrets.add("phrase", phrase.trim().as_bytes());
    secrets.add("passphrase", PASSPHRASE.as_bytes());
    let set = ["passphrase", "set", "--new-passphrase-file"];
    home.run(set.into_iter().chain([text(&passphrase)])).ok();
    home.run(["lock"]).ok();

    let commands = [
        &["send", ROOM, MESSAGE][..],
        &["feed", "append", PRIVATE_PATH],
    ];
    let (mut panicked, mut died, mut lived) = (0, 0, 0);
    // Whether the command comes to its end with so much memory.
    let mut attempt = |mib: u64, words: &[&str]| {
        let kinlog = home.command(words);
        let mut limited = std::process::Command::new("sh");
        // One whose threads died may wait for them for ever.
        let limit = format!("ulimit -v {}; exec \"$@\"", mib * 1024);
        limited.args(["-c", &limit, "sh", "timeout", "-s", "KILL", "4"]);
        limited.arg(kinlog.get_program()).args(kinlog.get_args());
        for (name, value) in kinlog.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited.env("KINLOG_PASSPHRASE_FILE", &passphrase);
        limited
            .env("KINLOG_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        let finished = run(&mut limited, format!("{PRIVATE_LINE}\n").as_bytes());
        match finished.code {
            0 => lived += 1,
            _ => died += 1,
        }
        panicked += usize::from(finished.stderr.contains("panicked at"));
        for said in [&finished.stdout, finished.stderr.as_bytes()] {
            for needles in [&secrets, &texts()] {
                let found = needles.found_in(said);
                assert_eq!(found, BTreeSet::new(), "{mib} MiB: {words:?}");
            }
        }
        (finished.code == 0, panicked)
    };
    let step = 32;
    for words in commands {
        let limits = (step..=512).step_by(step as usize);
        let ends: Vec<(u64, bool)> = limits.map(|mib| (mib, attempt(mib, words).0)).collect();
        // Threads that cannot be begun, and panic, have little room between too little memory and enough.
        for pair in ends.windows(2).filter(|pair| pair[0].1 != pair[1].1) {
            let mut between = (pair[0].0 + 2..pair[1].0).step_by(2);
            between.any(|mib| attempt(mib, words).1 > 0);
        }
    }
    assert!(
        panicked > 0 && died > panicked && lived > 0,
        "{panicked} panics, {died} deaths, {lived} that lived: other limits are wanted"
    );
}
