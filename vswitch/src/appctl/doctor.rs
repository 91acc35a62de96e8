//! `doctor/…`: an examination of the tunnels of bridges, in two steps: `doctor/start` has their ends probed, and
//! `doctor/list` tells what is known then, and how many probes still wait for an answer.

use super::{Context, bridges};
use crate::doctor::tunnels;
use uuid::Uuid;

fn rows(cx: &Context<'_>, args: &[&str]) -> Result<Vec<Uuid>, String> {
    Ok(bridges(&cx.view, args)?.iter().map(|bridge| bridge.uuid).collect())
}

pub(super) fn start(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let rows = rows(cx, args)?;
    let ports = tunnels(cx.view.config, &rows).map(|(interface, _)| interface.name.as_str());
    // Numbers that nobody can guess who does not see the probes.
    let (first_id, _) = Uuid::new_v4().as_u64_pair();
    match cx.view.datapath.probe(ports, first_id) {
        true => Ok(String::new()),
        false => Err("the datapath does not answer; see the daemon's log".to_owned()),
    }
}

pub(super) fn list(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    cx.examine = Some(rows(cx, args)?);
    Ok(String::new())
}
