//! `doctor/…`: an examination of bridges. `doctor/start` has the ends of their tunnels probed, `doctor/waiting` tells how
//! many probes still wait for an answer, and `doctor/list` what is found then, in JSON.

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

pub(super) fn waiting(cx: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    let probed = cx.view.datapath.probed().unwrap_or_default();
    Ok(probed.iter().flat_map(|end| end.answers).filter(Option::is_none).count().to_string())
}

pub(super) fn list(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    cx.examine = Some(rows(cx, args)?);
    Ok(String::new())
}
