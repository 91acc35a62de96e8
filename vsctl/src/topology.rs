//! Bridges, ports and interfaces as `add-br`, `list-ports` and their kin see them: from the rows,
//! with ovs-vsctl's VLAN bridges. A Port with `fake_bridge` and a `tag` stands for a bridge of its
//! own, which the other ports with that tag belong to.

use ovsdb::value::Uuid;

use crate::error::{Error, Result, failed, listing};
use crate::model::{Model, Needs};

/// A bridge, or a VLAN of one that passes for a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Its name.
    pub name: String,
    /// The row in Bridge, its own or that of the bridge it is a VLAN of.
    pub row: Uuid,
    /// Of a VLAN bridge: the real one's name and the VLAN.
    pub vlan_of: Option<(String, i64)>,
}

/// A port that is not a bridge's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub name: String,
    /// Its row in Port.
    pub row: Uuid,
    /// Index of its bridge.
    bridge: usize,
    /// Its interfaces, by name and row.
    pub interfaces: Vec<(String, Uuid)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    bridges: Vec<Bridge>,
    ports: Vec<Port>,
}

/// What stands in the way of a new name.
pub(crate) enum Taken {
    /// A bridge.
    Bridge(Bridge),
    /// A port.
    Port(Port),
    /// An interface of the port.
    Interface(Port),
}

/// Asks for what [`Topology::read`] looks at.
pub(crate) fn need(needs: &mut Needs) {
    for (table, columns) in [
        ("Open_vSwitch", &["bridges"][..]),
        ("Bridge", &["name", "ports"]),
        ("Port", &["name", "interfaces", "tag", "fake_bridge"]),
        ("Interface", &["name"]),
    ] {
        columns.iter().for_each(|column| needs.column(table, column));
    }
}

impl Topology {
    /// Reads the rows. Everything is sorted by name.
    pub(crate) fn read(model: &Model<'_>) -> Result<Topology> {
        let mut all = Topology::default();
        for switch in model.rows("Open_vSwitch") {
            for bridge in model.get("Open_vSwitch", &switch, "bridges")?.uuids() {
                if model.has_row("Bridge", &bridge) {
                    all.read_bridge(model, bridge)?;
                }
            }
        }
        all.ports.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn read_bridge(&mut self, model: &Model<'_>, row: Uuid) -> Result<()> {
        let name = model.text("Bridge", &row, "name")?.to_owned();
        let first = self.bridges.len();
        self.bridges.push(Bridge { name: name.clone(), row, vlan_of: None });
        let mut ports = Vec::new();
        for port in model.get("Bridge", &row, "ports")?.uuids() {
            if !model.has_row("Port", &port) {
                continue;
            }
            let port_name = model.text("Port", &port, "name")?.to_owned();
            let tag = model.get("Port", &port, "tag")?.as_i64();
            let fake = model.get("Port", &port, "fake_bridge")?.as_bool() == Some(true);
            match tag {
                _ if port_name == name => {}
                Some(vlan) if fake => {
                    let vlan_of = Some((name.clone(), vlan));
                    self.bridges.push(Bridge { name: port_name, row, vlan_of });
                }
                _ => ports.push((port_name, port, tag)),
            }
        }
        for (name, row, tag) in ports {
            let of_vlan = |bridge: &Bridge| bridge.vlan_of.as_ref().map(|(_, vlan)| *vlan) == tag;
            let vlan = self.bridges[first..].iter().position(|b| b.vlan_of.is_some() && of_vlan(b));
            let interfaces = interfaces(model, row)?;
            self.ports.push(Port { name, row, bridge: first + vlan.unwrap_or(0), interfaces });
        }
        Ok(())
    }

    /// All bridges, by name.
    pub(crate) fn bridges(&self) -> Vec<&Bridge> {
        let mut bridges: Vec<&Bridge> = self.bridges.iter().collect();
        bridges.sort_by(|a, b| a.name.cmp(&b.name));
        bridges
    }

    /// The bridge of this name, if there is one.
    pub(crate) fn bridge_if_any(&self, name: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The bridge of this name.
    pub(crate) fn bridge(&self, name: &str) -> Result<&Bridge> {
        self.bridge_if_any(name).ok_or_else(|| {
            let there = listing(self.bridges().iter().map(|bridge| bridge.name.as_str()));
            match there.is_empty() {
                true => failed!("no bridge named {name}; there are none (add it: vsctl add-br {name})"),
                false => failed!("no bridge named {name}; there are: {there} (see 'vsctl list-br')"),
            }
        })
    }

    /// The ports of a bridge, by name.
    pub(crate) fn ports_of(&self, bridge: &Bridge) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(move |port| self.bridges.get(port.bridge) == Some(bridge))
    }

    /// The port of this name, if there is one.
    pub(crate) fn port_if_any(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The port that has an interface of this name, if there is one.
    pub(crate) fn port_of_interface(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.interfaces.iter().any(|(own, _)| own == name))
    }

    /// The bridge that a port is on.
    pub(crate) fn bridge_of(&self, port: &Port) -> Result<&Bridge> {
        self.bridges.get(port.bridge).ok_or_else(|| failed!("port {} is on no bridge", port.name))
    }

    /// Who has this name already.
    pub(crate) fn taken(&self, name: &str) -> Option<Taken> {
        if let Some(bridge) = self.bridge_if_any(name) {
            return Some(Taken::Bridge(bridge.clone()));
        }
        if let Some(port) = self.port_if_any(name) {
            return Some(Taken::Port(port.clone()));
        }
        self.port_of_interface(name).map(|port| Taken::Interface(port.clone()))
    }

    /// The error for a port that is not there, with the ports that are.
    pub(crate) fn no_port(&self, name: &str) -> Error {
        if self.bridge_if_any(name).is_some() {
            return failed!("no port named {name}; it is a bridge (see 'vsctl list-br')");
        }
        match listing(self.ports.iter().map(|port| port.name.as_str())) {
            none if none.is_empty() => failed!("no port named {name}; there are none"),
            there => failed!("no port named {name}; there are: {there}"),
        }
    }
}

fn interfaces(model: &Model<'_>, port: Uuid) -> Result<Vec<(String, Uuid)>> {
    let mut interfaces = Vec::new();
    for interface in model.get("Port", &port, "interfaces")?.uuids() {
        if model.has_row("Interface", &interface) {
            interfaces.push((model.text("Interface", &interface, "name")?.to_owned(), interface));
        }
    }
    interfaces.sort();
    Ok(interfaces)
}
