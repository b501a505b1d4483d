//! Unpinning: the promise ends, and the space that nothing else keeps is given back.

use crate::api::{Error, Reply};
use crate::core::Core;
use crate::requests::follow::{link_of, pin_info, target};

pub(super) fn unpin(core: &Core, link: &str) -> Result<Reply, Error> {
    let target = target(core, &link.parse()?)?;
    let before = core.plan();
    let pins = core.knowledge(|knowledge| knowledge.pins.clone());
    let pins = pins.iter().filter(|pin| pin.target == target);
    let pins = pins.map(|pin| pin_info(core, pin)).collect();
    if core.drop_pins(&target)?.is_empty() {
        return Err(
            Error::not_found(format!("nothing is pinned by {}", link_of(&target)))
                .hint("`kinlog pins` shows what is"),
        );
    }
    core.relearn()?;
    core.replan()?;
    let given = core.give_back(&before)?;
    Ok(Reply::Unpinned {
        pins,
        blocks: given.blocks,
        bytes: given.bytes,
    })
}
