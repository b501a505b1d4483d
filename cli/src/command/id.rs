//! `kinlog id`.

use kinlog_agent::api::{Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::clean;
use crate::target::Context;

pub(crate) async fn run(context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(Request::Id).await? {
        let Reply::Id(id) = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        let paint = context.output.paint();
        context
            .output
            .data(&format!("name    {}", paint.strong(&clean(&id.name))))?;
        context.output.data(&format!("agent   {}", id.agent))?;
        context.output.data(&format!("device  {}", id.device))?;
        context
            .output
            .data(&format!("link    {}", paint.name(&id.link)))?;
        context
            .output
            .data(&format!("home    {}", id.home.display()))?;
    }
    Ok(())
}
