//! Pins on all devices: what people pin stands in `/settings`, one register a pin, and `state.db` of each
//! device follows.
//!
//! A register is written before `state.db`, so that a crash between the two is made up for at the next look.
//! While an agent has one device nobody reads `/settings`: pins are written there when a second one comes.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use kinlog_indexer::entry::{Body, PinSetting, Setting};
use kinlog_indexer::register::ValueName;

use crate::api::{Error, Selection};
use crate::core::Core;
use crate::failure::chain;
use crate::links::Link;
use crate::state::{Pin, PinTarget};

/// How the names of these settings begin.
const PREFIX: &str = "pin ";

/// What became of the pins of this device.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    is_changed: bool,
    is_fewer: bool,
}

impl Core {
    /// Keeps a pin of this device, and tells the others unless it is for this one alone.
    pub(crate) fn keep_pin(&self, pin: &Pin) -> Result<(), Error> {
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if !pin.is_local {
            self.tell_pin(pin, true)?;
        }
        Ok(self.state.put_pin(pin)?)
    }

    /// Keeps the pin `new` in place of `old`, here and on the other devices.
    pub(crate) fn replace_pin(&self, old: &Pin, new: &Pin) -> Result<(), Error> {
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if !old.is_local && name_of(old) != name_of(new) {
            self.tell_pin(old, false)?;
        }
        if !new.is_local {
            self.tell_pin(new, true)?;
        }
        Ok(self.state.replace_pin(old, new)?)
    }

    /// Forgets every pin of a target on all devices, and returns those that were here.
    pub(crate) fn drop_pins(&self, target: &PinTarget) -> Result<Vec<Pin>, Error> {
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let pins = self.state.pins()?.into_iter();
        for pin in pins.filter(|pin| pin.target == *target && !pin.is_local) {
            self.tell_pin(&pin, false)?;
        }
        Ok(self.state.remove_pins(target)?)
    }

    /// Makes the pins of this device those of the agent, when something of either changed.
    pub(crate) fn share_settings(&self) -> Result<(), Error> {
        if !self.unshared.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let before = self.plan();
        let shared = self.share_pins().and_then(|shared| {
            if shared.is_changed {
                self.relearn()?;
                self.replan()?;
            }
            if shared.is_fewer {
                self.give_back(&before)?;
            }
            Ok(())
        });
        if shared.is_err() {
            self.unshared.store(true, Ordering::Release);
        }
        shared
    }

    /// Brings pins and `/settings` together: takes up what other devices pinned, gives up what they gave
    /// up, and tells them of what they have not heard of.
    fn share_pins(&self) -> Result<Shared, Error> {
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = self.index(|index| index.settings(&self.agent))?;
        let mut told: BTreeMap<String, Option<Pin>> = BTreeMap::new();
        for row in settings {
            let ValueName::Setting(name) = &row.register.value else {
                continue;
            };
            let Some(Body::Setting(setting)) = row.heads.last().map(|head| &head.body) else {
                continue;
            };
            if let Some(pin) = read(name, setting.value()) {
                told.insert(name.clone(), pin);
            }
        }
        let mut held: BTreeMap<String, Pin> = BTreeMap::new();
        for pin in self.state.pins()? {
            held.insert(name_of(&pin), pin);
        }
        let mut shared = Shared::default();
        for (name, pin) in &told {
            match (held.get(name), pin) {
                (Some(here), Some(_)) if here.is_local => {}
                (Some(here), Some(pin)) if here == pin => {}
                (_, Some(pin)) => {
                    self.state.put_pin(pin)?;
                    shared.is_changed = true;
                }
                (Some(here), None) if !here.is_local => {
                    self.state.remove_pin(here)?;
                    (shared.is_changed, shared.is_fewer) = (true, true);
                }
                (_, None) => {}
            }
        }
        let unheard = held.into_iter();
        let unheard = unheard.filter(|(name, pin)| !pin.is_local && !told.contains_key(name));
        for (_, pin) in unheard {
            self.tell_pin(&pin, true)?;
        }
        Ok(shared)
    }

    /// Writes a pin, or that it is none any more, where the other devices read it.
    fn tell_pin(&self, pin: &Pin, is_kept: bool) -> Result<(), Error> {
        // A device that may not sign any more keeps its pins for itself, until it is made new.
        if self.guard.doubt().is_some() {
            return Ok(());
        }
        let name = name_of(pin);
        let register = self.own_register(ValueName::Setting(name.clone()));
        let heads = self.index(|index| index.register(&register))?;
        let is_alone = self.knowledge(|knowledge| knowledge.own_devices().len() < 2);
        if heads.is_empty() && (is_alone || !is_kept) {
            return Ok(());
        }
        let value = is_kept.then(|| value_of(pin)).transpose()?;
        if let [head] = heads.as_slice()
            && let Body::Setting(setting) = &head.body
            && setting.value() == value.as_deref()
        {
            return Ok(());
        }
        let refused =
            |error: &dyn std::error::Error| Error::usage(format!("pin: {}", chain(error)));
        let name = name.try_into().map_err(|error| refused(&error))?;
        let setting = Setting::new(name, value, Vec::new()).map_err(|error| refused(&error))?;
        self.write_value_in_turn(Body::Setting(setting))?;
        Ok(())
    }
}

/// Returns the name of a pin's setting: its range and its link.
fn name_of(pin: &Pin) -> String {
    let signal_urls = Vec::new();
    let link = match pin.target.clone() {
        PinTarget::Path(agent, path) => Link::Agent {
            agent,
            path,
            signal_urls,
        },
        PinTarget::Feed(key) => Link::Feed { key, signal_urls },
    };
    format!("{PREFIX}{} {link}", pin.selection)
}

fn value_of(pin: &Pin) -> Result<Vec<u8>, Error> {
    let long = |error: kinlog_indexer::TextError| Error::usage(format!("pin: {error}"));
    let value = PinSetting {
        live: pin.live,
        tier: pin.tier.as_str().try_into().map_err(long)?,
        reason: pin.reason.as_str().try_into().map_err(long)?,
        depth: pin.depth,
    };
    Ok(value.encode())
}

/// Reads the setting of a pin: the pin, or that it is none any more. What this build cannot read is not
/// there.
fn read(name: &str, value: Option<&[u8]>) -> Option<Option<Pin>> {
    let (selection, link) = name.strip_prefix(PREFIX)?.split_once(' ')?;
    let selection: Selection = selection.parse().ok()?;
    let target = match link.parse().ok()? {
        Link::Agent { agent, path, .. } => PinTarget::Path(agent, path),
        Link::Feed { key, .. } => PinTarget::Feed(key),
        _ => return None,
    };
    let Some(value) = value else {
        return Some(None);
    };
    let setting = PinSetting::decode(value).ok()?;
    Some(Some(Pin {
        target,
        selection,
        live: setting.live,
        tier: setting.tier.into_string(),
        reason: setting.reason.into_string(),
        depth: setting.depth,
        is_local: false,
    }))
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::FeedKey;
    use kinlog_feeds::crypto::AgentId;

    use super::*;

    #[test]
    fn a_pin_is_read_from_its_setting_as_it_was() {
        let path = "/paths/to be read".parse().expect("valid");
        for target in [
            PinTarget::Path(AgentId([1; 32]), Some(path)),
            PinTarget::Path(AgentId([1; 32]), None),
            PinTarget::Feed(FeedKey([2; 32])),
        ] {
            let pin = Pin {
                target,
                selection: Selection::Last(5),
                live: true,
                tier: "gift".to_owned(),
                reason: "the family's photos".to_owned(),
                depth: 2,
                is_local: false,
            };
            let value = value_of(&pin).expect("short");
            assert_eq!(read(&name_of(&pin), Some(&value)), Some(Some(pin.clone())));
            assert_eq!(read(&name_of(&pin), None), Some(None));
        }
        for name in [
            "pin",
            "pin all",
            "pin never x",
            "theme",
            "pin all kinlog://agent/x",
        ] {
            assert_eq!(read(name, None), None, "{name}");
        }
        assert_eq!(read("pin all x", Some(b"\xff")), None);
    }
}
