//! What a set of identity statements costs.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use kinlog_feeds::crypto::{AgentId, DeviceKey, KeyPair};
use kinlog_indexer::identity::{
    DeviceAdded, DeviceCard, DeviceRevoked, IdentitySet, Names, Powers, Said, Statement, Verdict,
};

use crate::row::{Effort, Measured, Row};

/// Statements of a full set.
const STATEMENTS: usize = 256;

/// Every how many statements one adds a device, so that all of them fit into 64 KiB.
const ADDS_EVERY: usize = 8;

/// Lines of statements that go on beside each other, as on devices that seldom meet.
const LINES: usize = 4;

pub(crate) const EVALUATION: Row = Row {
    name: "identity_256_ms",
    unit: "ms",
    definition: "evaluating a full set of 256 statements, 32 additions and 224 revocations on four \
        lines that name each other now and then: who may say what, which revocations count, what \
        is void (less is better). Alone: verifying the set's 352 signatures, acceptances and feed claims, \
        which is done once.",
    measure,
    once: None,
};

fn measure(effort: &Effort) -> Result<Measured> {
    let (agent, set) = full_set()?;
    let verified = set.clone().check(&agent)?;
    let identity = verified.identity()?;
    let count = |wanted: fn(&Verdict) -> bool| {
        let verdicts = identity.verdicts.iter();
        verdicts.filter(|(_, verdict)| wanted(verdict)).count()
    };
    let void = count(|verdict| matches!(verdict, Verdict::Voided(_)));
    let refused = count(|verdict| matches!(verdict, Verdict::NotAuthorised(_)));
    eprintln!("  {void} of {STATEMENTS} voided, {refused} not authorised");
    ensure!(set.len() == STATEMENTS && void > 0 && refused < STATEMENTS / 2);
    let measured = Measured::alternate(
        effort,
        || {
            let start = Instant::now();
            black_box(verified.identity()?);
            Ok(1_000.0 * start.elapsed().as_secs_f64())
        },
        Vec::new(),
        None,
    )?;
    let verify = || {
        let set = set.clone();
        let start = Instant::now();
        black_box(set.check(&agent)?);
        Ok(1_000.0 * start.elapsed().as_secs_f64())
    };
    measured.with_parts(effort, vec![("verification", Box::new(verify))])
}

fn full_set() -> Result<(AgentId, IdentitySet)> {
    let root = KeyPair::from_seed(&[1; 32]);
    let agent = AgentId(root.public_key().0);
    let pair = |number: usize| KeyPair::from_seed(&[number as u8 + 2; 32]);
    let mut lines: Vec<Statement> = Vec::new();
    let mut all: Vec<Statement> = Vec::new();
    for number in 0..STATEMENTS {
        let adds = number % ADDS_EVERY == 0;
        let device = number / ADDS_EVERY;
        let said = if adds {
            let directories = [100, 101].map(pair);
            Said::DeviceAdded(DeviceAdded {
                card: DeviceCard::sign(
                    &agent,
                    &pair(device),
                    [0; 32],
                    &directories[0],
                    &directories[1],
                ),
                powers: Powers::ALL,
                name: "d".try_into()?,
            })
        } else {
            // Mostly of devices that were never added: what is decided is who may decide.
            let target = match number % 16 {
                7 => device.saturating_sub(2),
                _ => 200 + number % 50,
            };
            Said::DeviceRevoked(DeviceRevoked {
                device: DeviceKey(pair(target).public_key().0),
                public: None,
                private: None,
            })
        };
        let line = device % LINES;
        let mut past: Vec<_> = lines.get(line).map(Statement::hash).into_iter().collect();
        if adds && let Some(other) = lines.get((line + 1 + device) % LINES) {
            past.push(other.hash());
        }
        let signer = if adds || device < LINES {
            root.clone()
        } else {
            pair(device - LINES)
        };
        let statement = Statement::sign(agent, &signer, Names::new(past)?, said);
        match lines.get_mut(line) {
            Some(last) => *last = statement.clone(),
            None => lines.push(statement.clone()),
        }
        all.push(statement);
    }
    Ok((agent, IdentitySet::new(all)?))
}
