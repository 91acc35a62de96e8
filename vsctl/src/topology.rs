//! Bridges, ports and interfaces as `add-br`, `list-ports` and their kin see them, with ovs-vsctl's VLAN bridges: a
//! Port with `fake_bridge` and a `tag` stands for a bridge of its own, which the other ports with that tag belong to.
//!
//! A view of the model that keeps nothing: what one command changes, the next sees.

use ovsdb::value::{Atom, Uuid};

use crate::error::{Error, Result, failed, listing};
use crate::model::{Model, Needs};

/// A bridge, or a VLAN of one that passes for a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Its name.
    pub name: String,
    /// The row in Bridge, its own or that of the bridge it is a VLAN of.
    pub row: Uuid,
    /// Of a VLAN bridge.
    pub vlan_of: Option<VlanOf>,
}

impl Bridge {
    /// The name of the bridge that the switch has: a VLAN bridge is part of one.
    pub(crate) fn real_name(&self) -> &str {
        self.vlan_of.as_ref().map_or(&self.name, |of| &of.parent)
    }
}

/// What a VLAN bridge stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VlanOf {
    /// The real bridge's name.
    pub parent: String,
    /// The VLAN.
    pub vlan: i64,
    /// The row in Port that makes it a bridge.
    pub port: Uuid,
}

/// A port that is not a bridge's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub name: String,
    /// Its row in Port.
    pub row: Uuid,
    /// The bridge it is on.
    pub bridge: Bridge,
    /// Its interfaces, by name and row.
    pub interfaces: Vec<(String, Uuid)>,
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

/// What a row in Port is to its bridge.
enum Role {
    /// The bridge's own port.
    Own,
    /// A VLAN bridge.
    VlanBridge(Bridge),
    /// A port of this bridge.
    Port(Bridge),
}

/// The view.
#[derive(Clone, Copy)]
pub(crate) struct Topology<'m, 's>(&'m Model<'s>);

/// Asks for what a [`Topology`] looks at.
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

/// Asks for what a [`Topology`] looks at to put a port on a bridge or take it off, by their names, as long as nothing is in
/// the way: no row of all the other ports.
pub(crate) fn need_for<'a>(names: impl IntoIterator<Item = &'a String>, needs: &mut Needs) {
    needs.column("Open_vSwitch", "bridges");
    ["name", "ports"].iter().for_each(|column| needs.column("Bridge", column));
    ["interfaces", "tag"].iter().for_each(|column| needs.also("Port", column));
    needs.rows("Port", "fake_bridge", true);
    for name in names {
        needs.rows("Port", "name", name.as_str());
        needs.rows("Interface", "name", name.as_str());
    }
}

fn text(name: &str) -> Atom {
    Atom::String(name.to_owned())
}

impl<'m, 's> Topology<'m, 's> {
    /// The topology of a model.
    pub(crate) fn of(model: &'m Model<'s>) -> Topology<'m, 's> {
        Topology(model)
    }

    fn is_attached(self, bridge: &Uuid) -> bool {
        !self.0.holders("Open_vSwitch", "bridges", &Atom::Uuid(*bridge)).is_empty()
    }

    fn real(self, row: Uuid) -> Result<Bridge> {
        Ok(Bridge { name: self.0.text("Bridge", &row, "name")?.to_owned(), row, vlan_of: None })
    }

    /// The VLAN bridges of a real one.
    fn vlan_bridges(self, parent: &Bridge) -> Result<Vec<Bridge>> {
        let mut bridges = Vec::new();
        for port in self.0.holders("Port", "fake_bridge", &Atom::Boolean(true)) {
            if self.0.holders("Bridge", "ports", &Atom::Uuid(port)).contains(&parent.row) {
                bridges.extend(self.as_vlan_bridge(port, parent)?);
            }
        }
        Ok(bridges)
    }

    /// The VLAN bridge that a port of a real bridge stands for, if it does.
    fn as_vlan_bridge(self, port: Uuid, parent: &Bridge) -> Result<Option<Bridge>> {
        let name = self.0.text("Port", &port, "name")?;
        let fake = self.0.get("Port", &port, "fake_bridge")?.as_bool() == Some(true);
        let vlan = self.0.get("Port", &port, "tag")?.as_i64().filter(|_| fake && name != parent.name);
        let vlan_of = |vlan| Some(VlanOf { parent: parent.name.clone(), vlan, port });
        Ok(vlan.map(|vlan| Bridge { name: name.to_owned(), row: parent.row, vlan_of: vlan_of(vlan) }))
    }

    /// What a port is; `None` if it is on no bridge.
    fn role(self, port: Uuid) -> Result<Option<Role>> {
        let on = self.0.holders("Bridge", "ports", &Atom::Uuid(port));
        let Some(row) = on.into_iter().find(|bridge| self.is_attached(bridge)) else { return Ok(None) };
        let parent = self.real(row)?;
        if self.0.text("Port", &port, "name")? == parent.name {
            return Ok(Some(Role::Own));
        }
        if let Some(bridge) = self.as_vlan_bridge(port, &parent)? {
            return Ok(Some(Role::VlanBridge(bridge)));
        }
        let tag = self.0.get("Port", &port, "tag")?.as_i64();
        let on_vlan = |bridge: &Bridge| bridge.vlan_of.as_ref().map(|v| v.vlan) == tag;
        let vlan_bridge = self.vlan_bridges(&parent)?.into_iter().find(on_vlan);
        Ok(Some(Role::Port(vlan_bridge.unwrap_or(parent))))
    }

    fn as_port(self, row: Uuid) -> Result<Option<Port>> {
        let Some(Role::Port(bridge)) = self.role(row)? else { return Ok(None) };
        let mut interfaces = Vec::new();
        for interface in self.0.get("Port", &row, "interfaces")?.uuids() {
            if self.0.has_row("Interface", &interface) {
                interfaces.push((self.0.text("Interface", &interface, "name")?.to_owned(), interface));
            }
        }
        interfaces.sort();
        Ok(Some(Port { name: self.0.text("Port", &row, "name")?.to_owned(), row, bridge, interfaces }))
    }

    /// All bridges, by name.
    pub(crate) fn bridges(self) -> Result<Vec<Bridge>> {
        let mut bridges = Vec::new();
        for row in self.0.rows("Bridge").filter(|row| self.is_attached(row)) {
            let bridge = self.real(row)?;
            bridges.extend(self.vlan_bridges(&bridge)?);
            bridges.push(bridge);
        }
        bridges.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(bridges)
    }

    /// The bridge of this name, if there is one.
    pub(crate) fn bridge_if_any(self, name: &str) -> Result<Option<Bridge>> {
        let named = self.0.holders("Bridge", "name", &text(name));
        if let Some(row) = named.into_iter().find(|row| self.is_attached(row)) {
            return self.real(row).map(Some);
        }
        for port in self.0.holders("Port", "name", &text(name)) {
            if let Some(Role::VlanBridge(bridge)) = self.role(port)? {
                return Ok(Some(bridge));
            }
        }
        Ok(None)
    }

    /// The bridge of this name.
    pub(crate) fn bridge(self, name: &str) -> Result<Bridge> {
        if let Some(bridge) = self.bridge_if_any(name)? {
            return Ok(bridge);
        }
        let all = self.bridges()?;
        Err(match listing(all.iter().map(|bridge| bridge.name.as_str())) {
            none if none.is_empty() => failed!("no bridge named {name}; there are none (add it: vsctl add-br {name})"),
            there => failed!("no bridge named {name}; there are: {there} (see 'vsctl list-br')"),
        })
    }

    /// The bridge of this name, which must not be a VLAN bridge.
    pub(crate) fn real_bridge(self, name: &str) -> Result<Bridge> {
        let bridge = self.bridge(name)?;
        match &bridge.vlan_of {
            None => Ok(bridge),
            Some(VlanOf { parent, vlan, .. }) => Err(failed!(
                "{name} is a VLAN bridge (VLAN {vlan} of {parent}), which has no such setting; {parent} has"
            )),
        }
    }

    /// The bridge that the switch has under this name or with this VLAN bridge; all of them if the name is empty.
    pub(crate) fn real_bridges(self, name: &str) -> Result<Vec<Bridge>> {
        match name {
            "" => Ok(self.bridges()?.into_iter().filter(|bridge| bridge.vlan_of.is_none()).collect()),
            name => Ok(vec![self.real(self.bridge(name)?.row)?]),
        }
    }

    /// All interfaces of a real bridge by name, its own among them.
    pub(crate) fn members(self, bridge: &Bridge) -> Result<Vec<(String, Uuid)>> {
        let mut members = Vec::new();
        for port in self.0.get("Bridge", &bridge.row, "ports")?.uuids().filter(|row| self.0.has_row("Port", row)) {
            for row in self.0.get("Port", &port, "interfaces")?.uuids() {
                if self.0.has_row("Interface", &row) {
                    members.push((self.0.text("Interface", &row, "name")?.to_owned(), row));
                }
            }
        }
        members.sort();
        Ok(members)
    }

    /// The ports of a bridge, by name.
    pub(crate) fn ports_of(self, bridge: &Bridge) -> Result<Vec<Port>> {
        let mut ports = Vec::new();
        for row in self.0.get("Bridge", &bridge.row, "ports")?.uuids() {
            if self.0.has_row("Port", &row) {
                ports.extend(self.as_port(row)?.filter(|port| port.bridge == *bridge));
            }
        }
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ports)
    }

    /// The port of this name, if there is one.
    pub(crate) fn port_if_any(self, name: &str) -> Result<Option<Port>> {
        for row in self.0.holders("Port", "name", &text(name)) {
            if let Some(port) = self.as_port(row)? {
                return Ok(Some(port));
            }
        }
        Ok(None)
    }

    /// The port of this name.
    pub(crate) fn port(self, name: &str) -> Result<Port> {
        match self.port_if_any(name)? {
            Some(port) => Ok(port),
            None => Err(self.no_port(name)?),
        }
    }

    /// The port that has an interface of this name, if there is one.
    pub(crate) fn port_of_interface(self, name: &str) -> Result<Option<Port>> {
        for interface in self.0.holders("Interface", "name", &text(name)) {
            for row in self.0.holders("Port", "interfaces", &Atom::Uuid(interface)) {
                if let Some(port) = self.as_port(row)? {
                    return Ok(Some(port));
                }
            }
        }
        Ok(None)
    }

    /// Who has this name already.
    pub(crate) fn taken(self, name: &str) -> Result<Option<Taken>> {
        if let Some(bridge) = self.bridge_if_any(name)? {
            return Ok(Some(Taken::Bridge(bridge)));
        }
        if let Some(port) = self.port_if_any(name)? {
            return Ok(Some(Taken::Port(port)));
        }
        Ok(self.port_of_interface(name)?.map(Taken::Interface))
    }

    /// The error for a port that is not there, with the ports that are.
    fn no_port(self, name: &str) -> Result<Error> {
        if self.bridge_if_any(name)?.is_some() {
            return Ok(failed!("no port named {name}; it is a bridge (see 'vsctl list-br')"));
        }
        let mut names = Vec::new();
        for row in self.0.rows("Port") {
            names.extend(self.as_port(row)?.map(|port| port.name));
        }
        names.sort();
        Ok(match listing(names.iter().map(String::as_str)) {
            none if none.is_empty() => failed!("no port named {name}; there are none"),
            there => failed!("no port named {name}; there are: {there}"),
        })
    }
}
