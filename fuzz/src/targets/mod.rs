//! The targets, in the order of the layers.

mod agent;
mod bundles;
mod crypto;
mod entries;
mod golden;
mod identity;
mod rooms;
mod sequence;
mod session;
mod signal;
mod store;
mod vault;
mod wire;

use crate::Target;

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "record_header",
        run: kinlog_feeds::store::probe::record_header,
        seeds: store::record_header_seeds,
        cases: 100_000,
    },
    Target {
        name: "record_body",
        run: kinlog_feeds::store::probe::record_body,
        seeds: store::record_body_seeds,
        cases: 200_000,
    },
    Target {
        name: "segment_header",
        run: kinlog_feeds::store::probe::segment_header,
        seeds: store::segment_header_seeds,
        cases: 200_000,
    },
    Target {
        name: "store_log",
        run: store::log,
        seeds: store::log_seeds,
        cases: 4_000,
    },
    Target {
        name: "store_index",
        run: store::index,
        seeds: store::index_seeds,
        cases: 4_000,
    },
    Target {
        name: "store_repair",
        run: store::repair,
        seeds: store::log_seeds,
        cases: 1_500,
    },
    Target {
        name: "bitfield",
        run: wire::bitfield,
        seeds: wire::bitfield_seeds,
        cases: 100_000,
    },
    Target {
        name: "bundle",
        run: bundles::read,
        seeds: golden::bundles,
        cases: 10_000,
    },
    Target {
        name: "bundle_import",
        run: bundles::import,
        seeds: golden::bundles,
        cases: 4_000,
    },
    Target {
        name: "manifest",
        run: crypto::manifest,
        seeds: crypto::manifest_seeds,
        cases: 60_000,
    },
    Target {
        name: "multisig",
        run: crypto::multisig,
        seeds: crypto::multisig_seeds,
        cases: 40_000,
    },
    Target {
        name: "proof",
        run: wire::proof,
        seeds: wire::proof_seeds,
        cases: 15_000,
    },
    Target {
        name: "conflict_proof",
        run: crypto::conflict_proof,
        seeds: crypto::conflict_proof_seeds,
        cases: 10_000,
    },
    Target {
        name: "kinlog_message",
        run: wire::kinlog_message,
        seeds: wire::kinlog_message_seeds,
        cases: 100_000,
    },
    Target {
        name: "set_proof",
        run: wire::set_proof,
        seeds: wire::set_proof_seeds,
        cases: 20_000,
    },
    Target {
        name: "peer_message",
        run: session::peer_message,
        seeds: session::peer_message_seeds,
        cases: 200_000,
    },
    Target {
        name: "wire_message",
        run: wire::message,
        seeds: wire::message_seeds,
        cases: 200_000,
    },
    Target {
        name: "wire_connection",
        run: wire::connection,
        seeds: wire::connection_seeds,
        cases: 2_000,
    },
    Target {
        name: "frame_sequence",
        run: sequence::run,
        seeds: sequence::seeds,
        cases: 4_000,
    },
    Target {
        name: "key_text",
        run: crypto::key_text,
        seeds: crypto::key_text_seeds,
        cases: 200_000,
    },
    Target {
        name: "link",
        run: agent::link,
        seeds: agent::link_seeds,
        cases: 60_000,
    },
    Target {
        name: "invite",
        run: agent::invite,
        seeds: agent::invite_seeds,
        cases: 30_000,
    },
    Target {
        name: "pair_text",
        run: agent::pair_text,
        seeds: agent::pair_text_seeds,
        cases: 30_000,
    },
    Target {
        name: "short_description",
        run: agent::short_description,
        seeds: agent::short_description_seeds,
        cases: 100_000,
    },
    Target {
        name: "seed_grant",
        run: agent::seed_grant,
        seeds: agent::seed_grant_seeds,
        cases: 20_000,
    },
    Target {
        name: "grant_link",
        run: agent::grant_link,
        seeds: agent::grant_link_seeds,
        cases: 20_000,
    },
    Target {
        name: "sign_in_code",
        run: agent::sign_in_code,
        seeds: agent::sign_in_code_seeds,
        cases: 100_000,
    },
    Target {
        name: "sign_in_record",
        run: agent::sign_in_record,
        seeds: agent::sign_in_record_seeds,
        cases: 100_000,
    },
    Target {
        name: "join_request",
        run: rooms::join_request,
        seeds: rooms::join_request_seeds,
        cases: 15_000,
    },
    Target {
        name: "join_answer",
        run: rooms::join_answer,
        seeds: rooms::join_answer_seeds,
        cases: 40_000,
    },
    Target {
        name: "room_message",
        run: rooms::room_message,
        seeds: rooms::room_message_seeds,
        cases: 60_000,
    },
    Target {
        name: "link_code",
        run: rooms::link_code,
        seeds: rooms::link_code_seeds,
        cases: 60_000,
    },
    Target {
        name: "link_request",
        run: rooms::link_request,
        seeds: rooms::link_request_seeds,
        cases: 20_000,
    },
    Target {
        name: "link_answer",
        run: rooms::link_answer,
        seeds: rooms::link_answer_seeds,
        cases: 20_000,
    },
    Target {
        name: "selection",
        run: agent::selection,
        seeds: agent::selection_seeds,
        cases: 200_000,
    },
    Target {
        name: "entry",
        run: entries::entry,
        seeds: entries::entry_seeds,
        cases: 100_000,
    },
    Target {
        name: "identity_set",
        run: identity::set,
        seeds: identity::set_seeds,
        cases: 10_000,
    },
    Target {
        name: "client_message",
        run: signal::client_message,
        seeds: signal::client_message_seeds,
        cases: 100_000,
    },
    Target {
        name: "server_message",
        run: signal::server_message,
        seeds: signal::server_message_seeds,
        cases: 100_000,
    },
    Target {
        name: "stun_request",
        run: signal::stun_request,
        seeds: signal::stun_request_seeds,
        cases: 200_000,
    },
    Target {
        name: "envelope",
        run: vault::envelope,
        seeds: vault::envelope_seeds,
        cases: 100_000,
    },
    Target {
        name: "sealed_secret",
        run: vault::sealed_secret,
        seeds: vault::sealed_secret_seeds,
        cases: 40_000,
    },
    Target {
        name: "backup_file",
        run: vault::backup_file,
        seeds: vault::backup_file_seeds,
        cases: 2_000,
    },
    Target {
        name: "backup_parts",
        run: vault::backup_parts,
        seeds: vault::backup_parts_seeds,
        cases: 20_000,
    },
];
