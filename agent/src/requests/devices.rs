//! The devices of this agent.

use crate::api::{DeviceInfo, Error, Reply};
use crate::core::Core;

pub(super) fn list(core: &Core) -> Result<Reply, Error> {
    let this = core.keys.device();
    let must_renew = core.guard.doubt().map(|doubt| doubt.to_string());
    let mut devices: Vec<DeviceInfo> = core.knowledge(|knowledge| {
        let known = knowledge.agents.get(&core.agent);
        let devices = known.into_iter().flat_map(|known| {
            let devices = known.identity.devices.iter();
            let former = &knowledge.former;
            let must_renew = &must_renew;
            devices.map(move |device| {
                let lines = known.lines.iter();
                let paths = lines.filter(|line| line.device == device.key).count();
                DeviceInfo {
                    key: device.key.into(),
                    name: device.name.clone(),
                    role: if device.key == this {
                        "this"
                    } else if former.values().any(|feed| feed.device == device.key) {
                        "former"
                    } else {
                        "other"
                    }
                    .to_owned(),
                    paths: paths as u64,
                    must_renew: must_renew.clone().filter(|_| device.key == this),
                }
            })
        });
        devices.collect()
    });
    devices.sort_by_key(|device| (device.role != "this", device.role.clone()));
    Ok(Reply::Devices { devices })
}
