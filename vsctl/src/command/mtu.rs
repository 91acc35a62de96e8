//! `mtu`: how large a packet may be at each port, what decides that, and what does not fit together.
//!
//! All of it is in rows already: the daemon works it out and says in `Interface:status` why.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{AtomType, Datum, Uuid};

use super::{Command, Context, needs_topology, table_of};
use crate::error::Result;
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::report::MTU_WARNING;
use crate::topology::{Bridge, Topology};

pub(super) const COMMAND: Command = Command {
    name: "mtu",
    args: "[BRIDGE]",
    count: (0, 1),
    options: &[],
    summary: "print how large packets may be, and what does not fit",
    help: "\
Of every port: its MTU, of a tunnel what it carries without fragmentation; the one that was asked
for; the device that a tunnel's packets leave by, and its MTU; why it is so. A port whose packets
may be too large for another one of the bridge does not fit; below the table stands what becomes of
those, and the commands that mend it.

'vsctl mtu br0 -f json' prints it for programs, with the text of each warning.",
    examples: &["vsctl mtu", "vsctl mtu br0 -f json"],
    related: &["doctor", "drops"],
    needs,
    run: |cx, args| {
        let mut rows = Vec::new();
        for bridge in Topology::of(cx.model).real_bridges(args.arg(0))? {
            rows.extend(members(cx, &bridge)?);
        }
        use AtomType::{Integer, String};
        let columns = [
            ("bridge", String),
            ("port", String),
            ("type", String),
            ("mtu", Integer),
            ("request", Integer),
            ("underlay", String),
            ("underlay_mtu", Integer),
            ("fits", String),
            ("reason", String),
            ("warning", String),
        ];
        cx.table = Some(crate::output::Table { details: 1, ..table_of(columns, rows) });
        Ok(())
    },
};

fn needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    ["type", "mtu", "mtu_request", "status"].iter().for_each(|column| needs.column("Interface", column));
    needs_topology(args, schema, needs)
}

/// The rows of a bridge; what is wrong goes below the table.
fn members(cx: &mut Context<'_, '_>, bridge: &Bridge) -> Result<Vec<Vec<Datum>>> {
    let mut rows = Vec::new();
    let mut least: Option<(i64, bool, String)> = None;
    for (name, row) in Topology::of(cx.model).members(bridge)? {
        let get = |column| cx.model.get("Interface", &row, column);
        let (mtu, status) = (get("mtu")?.clone(), get("status")?);
        let told = |key: &str| status.get_str(key).map_or_else(Datum::empty_set, Datum::string);
        let warning = told(MTU_WARNING);
        let fits = match (mtu.is_empty(), warning.is_empty()) {
            (true, true) => Datum::empty_set(),
            (_, fits) => Datum::string(if fits { "yes" } else { "no" }),
        };
        let (underlay, reason) = (told("tunnel_egress_iface"), told("mtu_reason"));
        let bridge = Datum::string(&bridge.name);
        let request = get("mtu_request")?.clone();
        let underlay_mtu = told("tunnel_egress_iface_mtu").as_str().and_then(|mtu| mtu.parse().ok());
        let underlay_mtu = underlay_mtu.map_or_else(Datum::empty_set, Datum::integer);
        // Of equals, the tunnel is the cause.
        let here = mtu.as_i64().map(|mtu| (mtu, underlay.is_empty(), name.clone()));
        least = [least, here].into_iter().flatten().min();
        let kind = Datum::string(kind(cx, &row, &name, bridge.as_str())?);
        if let Some(text) = warning.as_str() {
            let text = format!("{name}: {text}");
            cx.line(&text);
        }
        rows.push(vec![bridge, Datum::string(name), kind, mtu, request, underlay, underlay_mtu, fits, reason, warning]);
    }
    if let Some((mtu, _, port)) = least {
        let name = &bridge.name;
        cx.line(&format!("{name}: packets of up to {mtu} bytes get everywhere, no larger ones by {port}"));
    }
    Ok(rows)
}

/// What an interface is; the one that carries the bridge's name is internal whatever its row says.
fn kind(cx: &Context<'_, '_>, row: &Uuid, name: &str, bridge: Option<&str>) -> Result<String> {
    Ok(match cx.model.text("Interface", row, "type")? {
        _ if bridge == Some(name) => "internal".to_owned(),
        "" => "system".to_owned(),
        kind => kind.to_owned(),
    })
}
