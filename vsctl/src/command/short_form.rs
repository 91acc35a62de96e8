//! The settings that may follow `add-port BRIDGE PORT`: columns of Port, columns of Interface that
//! are there to be set, and the options of tunnels, patch ports and devices by their bare names.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::Uuid;

use super::Context;
use super::edit::{assign, holds};
use crate::columns::{Spec, Table, find_table};
use crate::error::{Result, fail, nearest};
use crate::model::Needs;

/// Columns of Interface that are for people to set; the others the switch writes.
pub(crate) const INTERFACE_COLUMNS: &[&str] = &[
    "type",
    "options",
    "mtu_request",
    "ofport_request",
    "ingress_policing_rate",
    "ingress_policing_burst",
    "ingress_policing_kpkts_rate",
    "ingress_policing_kpkts_burst",
    "bfd",
    "cfm_mpid",
    "lldp",
];

/// Keys of Interface options that mean nothing but on a tunnel.
pub(crate) const TUNNEL_OPTIONS: &[&str] = &[
    "key",
    "remote_ip",
    "local_ip",
    "in_key",
    "out_key",
    "dst_port",
    "tos",
    "ttl",
    "df_default",
    "csum",
    "learning",
    "remote_ips",
    "mtu-policy",
    "routes",
];

/// Other keys of Interface options.
pub(crate) const OTHER_OPTIONS: &[&str] = &["peer", "io", "xdp-mode", "xdp-backend", "n_rxq", "busy-poll"];

/// What people may call a setting elsewhere.
const ALSO_CALLED: &[(&str, &str)] =
    &[("vlan", "tag"), ("vid", "tag"), ("vni", "key"), ("vlans", "trunks"), ("dev", "type")];

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// As typed.
    word: String,
    /// `Port` or `Interface`.
    table: &'static str,
    spec: Spec,
}

/// Sorts the words out.
pub(super) fn read(schema: &DatabaseSchema, words: &[String]) -> Result<Vec<Setting>> {
    let (port, interface) = (find_table(schema, "Port")?, find_table(schema, "Interface")?);
    let settings: Vec<Setting> = words.iter().map(|word| classify(port, interface, word)).collect::<Result<_>>()?;
    let is_set = |column: &str| settings.iter().any(|s| s.table == "Interface" && s.spec.column == column);
    if !is_set("type") {
        let needs_type =
            |options: &[&str]| settings.iter().find(|s| s.option().is_some_and(|key| options.contains(&key)));
        if let Some(setting) = needs_type(TUNNEL_OPTIONS) {
            fail!("{}: only a tunnel has this; say what kind, as in type=vxlan", setting.word);
        }
        if let Some(setting) = needs_type(&["peer"]) {
            fail!("{}: only a patch port has a peer; add type=patch", setting.word);
        }
    }
    Ok(settings)
}

impl Setting {
    /// The key, of an option.
    fn option(&self) -> Option<&str> {
        let options = self.table == "Interface" && self.spec.column == "options";
        self.spec.key.as_deref().filter(|_| options)
    }
}

fn classify(port: Table<'_>, interface: Table<'_>, word: &str) -> Result<Setting> {
    let mut spec = Spec::assignment(word)?;
    let name = spec.column.to_ascii_lowercase().replace('-', "_");
    let own = word.to_owned();
    if port.schema.columns.contains_key(&name) {
        return Ok(Setting { word: own, table: "Port", spec });
    }
    if INTERFACE_COLUMNS.contains(&name.as_str()) {
        spec.column = name;
        return Ok(Setting { word: own, table: "Interface", spec });
    }
    let known_option = TUNNEL_OPTIONS.iter().chain(OTHER_OPTIONS).find(|option| option.replace('-', "_") == name);
    if let (Some(option), None) = (known_option, &spec.key) {
        spec.key = Some((*option).to_owned());
        spec.column = "options".to_owned();
        return Ok(Setting { word: own, table: "Interface", spec });
    }
    let also = ALSO_CALLED.iter().find(|(other, _)| *other == name);
    // ovs-vsctl lets columns of Port be abbreviated here.
    if also.is_none() && port.column_if_any(&name).is_some() {
        return Ok(Setting { word: own, table: "Port", spec });
    }
    if interface.schema.columns.contains_key(&name) {
        let instead = nearest(&name, INTERFACE_COLUMNS.iter().copied());
        let hint = instead.map(|column| format!("; did you mean {column}?")).unwrap_or_default();
        fail!("{word}: the switch itself writes {name}{hint}");
    }
    let all = port.schema.columns.keys().map(String::as_str);
    let all = all.chain(INTERFACE_COLUMNS.iter().chain(TUNNEL_OPTIONS).chain(OTHER_OPTIONS).copied());
    match also.map(|(_, ours)| *ours).or_else(|| nearest(&name, all)) {
        Some(near) => fail!("{word}: there is no setting '{}'; did you mean {near}?", spec.column),
        None => fail!(
            "{word}: there is no setting '{}'; see 'vsctl help add-port', \
             or give an option of the interface as options:KEY=VALUE",
            spec.column
        ),
    }
}

/// Asks for the columns, to compare an existing port with them.
pub(super) fn need(schema: &DatabaseSchema, settings: &[Setting], needs: &mut Needs) -> Result<()> {
    for setting in settings {
        let (column, _) = find_table(schema, setting.table)?.column(&setting.spec.column)?;
        needs.also(setting.table, column);
    }
    Ok(())
}

/// Writes the settings to a port and its interface.
pub(super) fn apply(cx: &mut Context<'_, '_>, settings: &[Setting], port: Uuid, interface: Uuid) -> Result<()> {
    for setting in settings {
        let row = if setting.table == "Port" { port } else { interface };
        let table = find_table(cx.model.schema(), setting.table)?;
        assign(cx, table, row, &setting.spec).map_err(|e| e.at(&setting.word))?;
    }
    Ok(())
}

/// The settings, as typed, that an existing port does not have.
pub(super) fn not_so<'w>(
    cx: &mut Context<'_, '_>,
    settings: &'w [Setting],
    port: Uuid,
    interface: Uuid,
) -> Result<Vec<&'w str>> {
    let mut words = Vec::new();
    for setting in settings {
        let row = if setting.table == "Port" { port } else { interface };
        let table = find_table(cx.model.schema(), setting.table)?;
        if !holds(cx, table, row, &setting.spec).map_err(|e| e.at(&setting.word))? {
            words.push(setting.word.as_str());
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;

    fn sorted(words: &[&str]) -> Result<Vec<String>> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let show = |s: Setting| {
            let key = s.spec.key.map(|key| format!(":{key}")).unwrap_or_default();
            format!("{}.{}{key}", s.table, s.spec.column)
        };
        Ok(read(&vswitch_schema(), &words)?.into_iter().map(show).collect())
    }

    fn refused(words: &[&str]) -> String {
        sorted(words).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn words_find_their_place() {
        let words = [
            "tag=10",
            "trunk=1,2",
            "type=vxlan",
            "key=5000",
            "remote_ip=192.0.2.2",
            "io=packet",
            "xdp-mode=native",
            "mtu-policy=icmp",
            "mtu-request=1450",
            "options:exotic=1",
            "external_ids:a=b",
        ];
        assert_eq!(
            sorted(&words).unwrap(),
            [
                "Port.tag",
                "Port.trunk",
                "Interface.type",
                "Interface.options:key",
                "Interface.options:remote_ip",
                "Interface.options:io",
                "Interface.options:xdp-mode",
                "Interface.options:mtu-policy",
                "Interface.mtu_request",
                "Interface.options:exotic",
                "Port.external_ids:a",
            ]
        );
    }

    #[test]
    fn others_are_refused_with_the_nearest_word() {
        let expect = [
            ("remoteip=1.2.3.4", "there is no setting 'remoteip'; did you mean remote_ip?"),
            ("vlan=5", "there is no setting 'vlan'; did you mean tag?"),
            ("vni=5", "there is no setting 'vni'; did you mean key?"),
            ("mtu=1450", "the switch itself writes mtu; did you mean mtu_request?"),
            ("ofport=3", "the switch itself writes ofport; did you mean ofport_request?"),
        ];
        for (word, text) in expect {
            assert_eq!(refused(&[word]), format!("{word}: {text}"));
        }
        assert!(refused(&["colour=red"]).contains("see 'vsctl help add-port'"));
        assert_eq!(refused(&["tag"]), "tag: expected COLUMN=VALUE or COLUMN:KEY=VALUE");
    }

    #[test]
    fn options_ask_for_their_type() {
        assert_eq!(
            refused(&["key=5", "remote_ip=1.2.3.4"]),
            "key=5: only a tunnel has this; say what kind, as in type=vxlan"
        );
        assert_eq!(refused(&["peer=p"]), "peer=p: only a patch port has a peer; add type=patch");
        assert!(sorted(&["io=packet"]).is_ok());
    }
}
