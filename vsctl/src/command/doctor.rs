//! `doctor`: looks for what is wrong, and says what to do about it.
//!
//! What the switch has noticed by itself is in its rows. The rest it finds out when it is asked at the control socket: it
//! probes the tunnels, looks at neighbours, and knows whose packets no port takes.

use std::time::{Duration, Instant};

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{AtomType, Datum, Uuid};
use serde_json::Value;

use super::{Command, Context, Then, needs_topology, table_of};
use crate::control::Control;
use crate::error::Result;
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::topology::{Bridge, Topology};

/// How long the answers to probes are waited for, the first time and the second: what was lost to anything else than its
/// size is not lost twice.
const PATIENCE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];
/// Between two looks.
const PACE: Duration = Duration::from_millis(20);

pub(super) const COMMAND: Command = Command {
    name: "doctor",
    args: "[BRIDGE]",
    count: (0, 1),
    options: &[],
    summary: "look for what is wrong, and say what to do about it",
    help: "\
It looks at ports and mirrors in error; at what the switch warns of, such as addresses on attached
devices and MTUs that do not fit; at the way to each tunnel's remote end: route, device, next hop;
and at tunnel packets that arrive and belong to no port.

Each tunnel is probed in both directions with packets as large as it is said to carry. A vswitch
at the other end answers; what else may be there does not, which is told as a note.

One line a finding, with its remedy; commands to copy stand below. Notes begin with 'note:'. The
exit status is 0 if nothing was found, else 1. 'vsctl doctor -f json' prints it for programs.",
    examples: &["vsctl doctor", "vsctl doctor br0 -f json"],
    related: &["mtu", "drops", "fdb moves"],
    needs,
    run,
};

fn needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    for (table, columns) in [("Bridge", &["status"][..]), ("Port", &["status"]), ("Interface", &["status", "error"])] {
        columns.iter().for_each(|column| needs.column(table, column));
    }
    needs_topology(args, schema, needs)
}

/// A line of the report.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Whether it is in order, and only told.
    fine: bool,
    at: String,
    what: String,
    remedy: String,
}

impl Finding {
    /// What a text says of `at`: its first line, and below it how to mend it.
    fn of(at: &str, text: &str) -> Finding {
        let (what, remedy) = text.split_once('\n').unwrap_or((text, ""));
        Finding { fine: false, at: at.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() }
    }

    fn read(value: &Value) -> Finding {
        let [at, what, remedy] = ["at", "what", "remedy"].map(|key| value[key].as_str().unwrap_or_default().to_owned());
        Finding { fine: value["fine"].as_bool().unwrap_or_default(), at, what, remedy }
    }

    /// For people. A remedy of several lines are commands to copy.
    fn text(&self) -> String {
        let Finding { fine, at, what, remedy } = self;
        let note = if *fine { "note: " } else { "" };
        match remedy.as_str() {
            "" => format!("{note}{at}: {what}"),
            remedy if remedy.contains('\n') || what.ends_with(':') => format!("{note}{at}: {what}\n{remedy}"),
            remedy => format!("{note}{at}: {what}; {remedy}"),
        }
    }

    fn row(self) -> Vec<Datum> {
        let kind = if self.fine { "note" } else { "finding" };
        [kind, &self.at, &self.what, &self.remedy].map(Datum::string).into()
    }
}

fn run(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let mut findings = Vec::new();
    let topology = Topology::of(cx.model);
    let bridges = topology.real_bridges(args.arg(0))?;
    for bridge in &bridges {
        findings.extend(of_bridge(cx, bridge)?);
        for (name, row) in topology.members(bridge)? {
            findings.extend(of_interface(cx, &name, &row)?);
        }
    }
    let asked = (!args.arg(0).is_empty()).then(|| bridges.first().map(|bridge| bridge.name.as_str())).flatten();
    findings.extend(examine(cx.control, asked)?);
    findings.sort_by_key(|finding| finding.fine);
    let wrong = findings.iter().filter(|finding| !finding.fine).count();
    findings.iter().for_each(|finding| cx.line(&finding.text()));
    match wrong {
        0 => cx.line("nothing found"),
        1 => cx.line("1 finding"),
        n => cx.line(&format!("{n} findings")),
    }
    cx.then = (wrong > 0).then_some(Then::Fail);
    use AtomType::String;
    let columns = [("kind", String), ("at", String), ("what", String), ("remedy", String)];
    let table = table_of(columns, findings.into_iter().map(Finding::row).collect());
    cx.table = Some(crate::output::Table { details: columns.len(), ..table });
    Ok(())
}

/// What the rows of a bridge and its ports tell: `…_warning`, `…_error`, and `mirror_NAME` for a mirror that is not in
/// force.
fn of_bridge(cx: &Context<'_, '_>, bridge: &Bridge) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let is_bad = |key: &str| key.ends_with("_warning") || key.ends_with("_error") || key.starts_with("mirror_");
    let status = cx.model.get("Bridge", &bridge.row, "status")?;
    let bad = status.string_pairs().filter(|(key, _)| is_bad(key));
    findings.extend(bad.map(|(key, text)| match key.strip_prefix("mirror_").filter(|_| !key.ends_with("_warning")) {
        Some(mirror) => Finding::of(&bridge.name, &format!("mirror {mirror} is not in force: {text}")),
        None => Finding::of(&bridge.name, text),
    }));
    for port in cx.model.get("Bridge", &bridge.row, "ports")?.uuids().filter(|row| cx.model.has_row("Port", row)) {
        let (name, status) = (cx.model.text("Port", &port, "name")?, cx.model.get("Port", &port, "status")?);
        let bad = status.string_pairs().filter(|(key, _)| is_bad(key));
        findings.extend(bad.map(|(_, text)| Finding::of(name, text)));
    }
    Ok(findings)
}

/// What the row of an interface tells: an error, `…_warning`, and a tunnel's device that is down.
fn of_interface(cx: &Context<'_, '_>, name: &str, row: &Uuid) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    findings.extend(cx.model.get("Interface", row, "error")?.as_str().map(|why| Finding::of(name, why)));
    let status = cx.model.get("Interface", row, "status")?;
    let warnings = status.string_pairs().filter(|(key, _)| key.ends_with("_warning"));
    findings.extend(warnings.map(|(_, text)| Finding::of(name, text)));
    if status.get_str("tunnel_egress_iface_carrier") == Some("down") {
        let device = status.get_str("tunnel_egress_iface").unwrap_or("?");
        let remedy = format!("'ip link set {device} up', or look at its cable");
        let what = format!("its packets leave by {device}, which is down");
        findings.push(Finding { remedy, ..Finding::of(name, &what) });
    }
    Ok(findings)
}

/// Has the switch look for itself.
fn examine(control: &Control, bridge: Option<&str>) -> Result<Vec<Finding>> {
    for patience in PATIENCE {
        control.ask("doctor/start", bridge.as_slice())?;
        if are_answered(control, patience)? {
            break;
        }
    }
    Ok(control.rows("doctor/list", bridge.as_slice())?.iter().map(Finding::read).collect())
}

/// Whether all probes are answered so soon.
fn are_answered(control: &Control, patience: Duration) -> Result<bool> {
    let end = Instant::now() + patience;
    loop {
        if control.json("doctor/waiting", &[])? == 0 {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(PACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_line_a_finding() {
        let told = Finding::of("p1", "192.0.2.1/24 on p1 cannot be reached; move it:\nip addr del 192.0.2.1/24 dev p1");
        assert_eq!(told.text(), "p1: 192.0.2.1/24 on p1 cannot be reached; move it:\nip addr del 192.0.2.1/24 dev p1");
        assert_eq!(Finding::of("p1", "no such device").text(), "p1: no such device");
        let report = json!([
            {"fine": true, "at": "vx0", "what": "192.0.2.2 answers, MTU 1450 passes both ways", "remedy": ""},
            {"fine": false, "at": "vx1", "what": "192.0.2.3 does not answer ARP", "remedy": "see that it is up"},
        ]);
        let lines: Vec<_> = report.as_array().into_iter().flatten().map(|value| Finding::read(value).text()).collect();
        assert_eq!(
            lines,
            [
                "note: vx0: 192.0.2.2 answers, MTU 1450 passes both ways",
                "vx1: 192.0.2.3 does not answer ARP; see that it is up"
            ]
        );
    }
}
