//! Who may drive the switch from elsewhere: `get-manager`, `set-manager`, `del-manager`, and the certificates that are
//! stored for it: `get-ssl`, `set-ssl`, `del-ssl`.

use ovsdb::value::Datum;

use super::{Command, Context, Family, INACTIVITY_PROBE, Opt, targets};
use crate::error::Result;
use crate::model::Needs;

pub(super) static FAMILY: Family = Family { title: "Managers and TLS", commands: &COMMANDS };

static COMMANDS: [Command; 6] = [
    Command {
        name: "get-manager",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "print the managers",
        help: "",
        examples: &["vsctl get-manager"],
        related: &["set-manager", "del-manager"],
        needs: |_, _, needs| manager_needs(needs),
        run: |cx, _| targets::print(cx, MANAGERS, &cx.switch()?),
    },
    Command {
        name: "set-manager",
        args: "TARGET...",
        count: (1, usize::MAX),
        options: &[INACTIVITY_PROBE],
        summary: "set where the switch takes orders besides its socket",
        help: "\
The switch listens on ptcp:[PORT][:HOST] (PORT 6640 unless given) and punix:FILE and serves its
database there to any OVSDB client, with all rights. Other targets are stored, and the status of
their Manager records says why nothing comes of them.",
        examples: &["vsctl set-manager ptcp:6640:127.0.0.1"],
        related: &["get-manager", "del-manager"],
        needs: |_, _, needs| manager_needs(needs),
        run: |cx, args| {
            let switch = cx.switch()?;
            targets::replace(cx, MANAGERS, &switch, args.args_from(0), args.value("--inactivity-probe"))
        },
    },
    Command {
        name: "del-manager",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "delete the managers",
        help: "",
        examples: &["vsctl del-manager"],
        related: &["set-manager"],
        needs: |_, _, needs| manager_needs(needs),
        run: |cx, _| {
            let switch = cx.switch()?;
            targets::replace(cx, MANAGERS, &switch, &[], None)
        },
    },
    Command {
        name: "get-ssl",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "print the names of the TLS files",
        help: "",
        examples: &["vsctl get-ssl"],
        related: &["set-ssl", "del-ssl"],
        needs: |_, _, needs| ssl_needs(needs),
        run: get_ssl,
    },
    Command {
        name: "set-ssl",
        args: "PRIVATE-KEY CERTIFICATE CA-CERT",
        count: (3, 3),
        options: &[Opt { name: "--bootstrap", value: None, help: "note that CA-CERT is to be fetched at first use" }],
        summary: "store the names of the TLS files",
        help: "\
They are stored for tools that look for them: this switch speaks no TLS, so nothing reads the files.",
        examples: &["vsctl set-ssl /etc/ssl/sw-key.pem /etc/ssl/sw-cert.pem /etc/ssl/ca.pem"],
        related: &["get-ssl", "del-ssl"],
        needs: |_, _, needs| ssl_needs(needs),
        run: |cx, args| {
            del_ssl(cx)?;
            let ssl = cx.model.insert("SSL")?;
            for (column, value) in ["private_key", "certificate", "ca_cert"].into_iter().zip(args.args_from(0)) {
                cx.model.set("SSL", &ssl, column, Datum::string(value))?;
            }
            cx.model.set("SSL", &ssl, "bootstrap_ca_cert", Datum::boolean(args.has("--bootstrap")))?;
            let switch = cx.switch()?;
            cx.model.set("Open_vSwitch", &switch, "ssl", Datum::uuid(ssl))
        },
    },
    Command {
        name: "del-ssl",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "forget the names of the TLS files",
        help: "",
        examples: &["vsctl del-ssl"],
        related: &["set-ssl"],
        needs: |_, _, needs| ssl_needs(needs),
        run: |cx, _| del_ssl(cx),
    },
];

const MANAGERS: targets::Kind = targets::Kind { of: "Open_vSwitch", column: "manager_options", table: "Manager" };

fn manager_needs(needs: &mut Needs) -> Result<()> {
    MANAGERS.need(needs);
    Ok(())
}

/// Columns of SSL and what `get-ssl` calls them.
const SSL_COLUMNS: [(&str, &str); 4] = [
    ("private_key", "Private key"),
    ("certificate", "Certificate"),
    ("ca_cert", "CA Certificate"),
    ("bootstrap_ca_cert", "Bootstrap"),
];

fn ssl_needs(needs: &mut Needs) -> Result<()> {
    needs.column("Open_vSwitch", "ssl");
    SSL_COLUMNS.iter().for_each(|(column, _)| needs.column("SSL", column));
    Ok(())
}

fn get_ssl(cx: &mut Context<'_, '_>, _: &crate::grammar::Parsed) -> Result<()> {
    let switch = cx.switch()?;
    if let Some(ssl) = cx.model.get("Open_vSwitch", &switch, "ssl")?.as_uuid() {
        for (column, title) in SSL_COLUMNS {
            let value = cx.model.get("SSL", &ssl, column)?;
            let value = value.as_str().map_or_else(|| value.as_bool().unwrap_or_default().to_string(), str::to_owned);
            cx.line(&format!("{title}: {value}"));
            cx.model.rely_on("SSL", &ssl, column)?;
        }
    }
    cx.model.rely_on("Open_vSwitch", &switch, "ssl")
}

fn del_ssl(cx: &mut Context<'_, '_>) -> Result<()> {
    let switch = cx.switch()?;
    if let Some(old) = cx.model.get("Open_vSwitch", &switch, "ssl")?.as_uuid() {
        cx.model.forget("SSL", &old)?;
    }
    cx.model.set("Open_vSwitch", &switch, "ssl", Datum::empty_set())
}
