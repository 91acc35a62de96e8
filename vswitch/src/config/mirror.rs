//! A Mirror's row → what it asks for. Whether that can be done depends on the ports that there are: see
//! `reconcile::mirrors`. Pure.

use super::Columns;
use datapath::types::VlanId;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A mirror of a bridge, its ports by their rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// Its row.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// `select_all`.
    pub all: bool,
    /// `select_src_port`.
    pub arriving: BTreeSet<Uuid>,
    /// `select_dst_port`.
    pub leaving: BTreeSet<Uuid>,
    /// `select_vlan`.
    pub vlans: BTreeSet<VlanId>,
    /// `output_port`.
    pub output_port: Option<Uuid>,
    /// `output_vlan`.
    pub output_vlan: Option<VlanId>,
    /// `snaplen`.
    pub snaplen: Option<u16>,
    /// What is not done as asked, though the mirror works.
    pub told: Option<String>,
}

pub(super) fn read(uuid: Uuid, row: &Columns<'_>) -> Mirror {
    let vlan = |n: i64| u16::try_from(n).ok().and_then(VlanId::new);
    let (output_port, output_vlan) = (row.uuids("output_port").next(), row.integer("output_vlan").and_then(vlan));
    let told = output_port.and(output_vlan).map(|vlan| format!("output_vlan={vlan} has no effect beside output_port"));
    Mirror {
        uuid,
        name: row.text("name").unwrap_or_default().to_owned(),
        all: row.flag("select_all"),
        arriving: row.uuids("select_src_port").collect(),
        leaving: row.uuids("select_dst_port").collect(),
        vlans: row.integers("select_vlan").filter_map(vlan).collect(),
        output_port,
        output_vlan,
        snaplen: row.integer("snaplen").and_then(|n| u16::try_from(n).ok()),
        told,
    }
}
