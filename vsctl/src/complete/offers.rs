//! The words that may stand at a place.

use ovsdb::value::Atom;

use super::place::{At, Place, slots_at};
use super::{Candidate, Offer, Switch, settings};
use crate::columns::{Table, find_table};
use crate::command::{self, Command};
use crate::globals::{self, GlobalOption};
use crate::itself;
use crate::model::{Model, Needs};
use crate::records;
use crate::topology::{self, Topology};

/// What may stand at a place; what is typed of the word already need not fit.
pub(super) fn at(place: &Place<'_>, switch: &Switch<'_>) -> Offer {
    match place.at {
        At::Command { global } => Offer::Words(match place.word.starts_with('-') {
            true => options(global),
            false => commands(global && place.before.is_empty()),
        }),
        At::Value { option, joined } => value(option, joined),
        At::Argument { command, before } => argument(place, command, before, switch),
        At::Itself { command } => Offer::Words(match command {
            "completion" => super::SHELLS.iter().map(|shell| Candidate::word(*shell)).collect(),
            "help" => commands(true),
            _ => Vec::new(),
        }),
        At::Second { first } => Offer::Words(command::second_words(first).into_iter().map(Candidate::word).collect()),
        At::Nothing => Offer::Words(Vec::new()),
    }
}

fn commands(with_itself: bool) -> Vec<Candidate> {
    let itself = itself::COMMANDS.iter().filter(|_| with_itself).map(|c| (c.name, c.summary));
    let commands = command::all().map(|c| (c.name, c.summary)).chain(itself);
    // Of commands whose name is two words only the first is offered, once.
    let candidate = |(name, summary): (&'static str, &'static str)| match name.split_once(' ') {
        Some((first, _)) => Candidate::word(first),
        None => Candidate::word(name).with(summary),
    };
    commands.map(candidate).collect()
}

fn options(global: bool) -> Vec<Candidate> {
    let mut words = Vec::new();
    for option in command::all().flat_map(|command| command.options) {
        words.push(match option.value {
            Some(_) => Candidate::open(format!("{}=", option.name)).with(option.help),
            None => Candidate::word(option.name).with(option.help),
        });
    }
    if global {
        for GlobalOption { long, value, value_is_optional, help, .. } in
            globals::grammar().get_arguments().filter_map(GlobalOption::of)
        {
            let word = match value.is_some() && !value_is_optional {
                true => Candidate::open(format!("--{long}=")),
                false => Candidate::word(format!("--{long}")),
            };
            words.push(word.with(help));
        }
    }
    // The same option of several commands is one word.
    words.sort_by(|a, b| a.text.cmp(&b.text));
    words.dedup_by(|a, b| a.text == b.text);
    words
}

fn value(option: &str, joined: bool) -> Offer {
    let words: &[&str] = match option {
        "--format" | "-f" => &["list", "table", "html", "csv", "json"],
        "--data" | "-d" => &["string", "bare", "json"],
        "--db" => &["unix:", "tcp:"],
        "--id" => &["@"],
        "--verbose" => &["dbg", "info", "warn", "err", "off", "console:", "file:"],
        // Behind a `=`, only bash completes the names of files.
        "--socket"
        | "--log-file"
        | "--private-key"
        | "-p"
        | "--certificate"
        | "-c"
        | "--ca-cert"
        | "-C"
        | "--bootstrap-ca-cert"
        | "--peer-ca-cert" => return Offer::Files,
        _ => &[],
    };
    let prefix = if joined { format!("{option}=") } else { String::new() };
    let candidate = |word: &&str| match word.ends_with([':', '@']) {
        true => Candidate::open(format!("{prefix}{word}")),
        false => Candidate::word(format!("{prefix}{word}")),
    };
    Offer::Words(words.iter().map(candidate).collect())
}

fn argument(place: &Place<'_>, command: &'static Command, before: &[String], switch: &Switch<'_>) -> Offer {
    let mut words = Vec::new();
    let is_option = |word: &str| command.is_ours() && word.starts_with('-');
    match place.word.split_once('=') {
        Some((option, _)) if is_option(option) => return value(option, true),
        None if is_option(place.word) => {
            words.extend(command.options.iter().map(|option| Candidate::word(option.name).with(option.help)));
            words.push(Candidate::open("--format="));
            return Offer::Words(words);
        }
        _ => {}
    }
    let options = before.iter().filter(|word| is_option(word)).count();
    for what in slots_at(command.args, before.len() - options) {
        match what {
            "PRIVATE-KEY" | "CERTIFICATE" | "CA-CERT" => return Offer::Files,
            "standalone|secure" => words.extend(["standalone", "secure"].map(Candidate::word)),
            "zone=ZONE" => words.push(Candidate::open("zone=")),
            "TARGET" => words.extend(["tcp:", "ssl:", "unix:", "ptcp:", "pssl:", "punix:"].map(Candidate::open)),
            "POLICY=SECS" => words.extend(policies(switch)),
            "TABLE" => words.extend(tables(place.word, switch)),
            "DATAPATH" => words.extend(live(switch, datapaths)),
            "RECORD" => words.extend(records_of(before, switch)),
            "BRIDGE" if command.name == "add-br" => {}
            "PORT" | "IFACE" if command.name.starts_with("add-") => {
                let new_name = what == "PORT" && command.name == "add-bond";
                words.extend(live_or_not(switch, devices).filter(|_| !new_name).into_iter().flatten());
            }
            "BRIDGE" | "PORT" | "IFACE" | "BOND" => {
                let bridge = (what == "PORT").then(|| before.first().map(String::as_str)).flatten();
                words.extend(live(switch, |model| names(what, model, bridge)));
            }
            _ => words.extend(settings::offer(what, place, before, switch)),
        }
    }
    Offer::Words(words)
}

/// As people write them, without capitals, unless they do.
fn tables(begun: &str, switch: &Switch<'_>) -> Vec<Candidate> {
    let capitals = begun.contains(|c: char| c.is_ascii_uppercase());
    let name = |name: &String| if capitals { name.clone() } else { name.to_ascii_lowercase() };
    switch.schema.tables.keys().map(|table| Candidate::word(name(table))).collect()
}

fn policies(switch: &Switch<'_>) -> Vec<Candidate> {
    let column = find_table(switch.schema, "CT_Timeout_Policy").and_then(|table| table.column("timeouts"));
    let keys = column.map(|(_, column)| settings::enumerated(&column.ty.key)).unwrap_or_default();
    keys.into_iter().map(|key| Candidate::open(format!("{key}="))).collect()
}

/// Names that are read from the switch's bridges, ports and interfaces; none if it does not answer.
fn live(switch: &Switch<'_>, read: impl FnOnce(&Model<'_>) -> crate::error::Result<Vec<String>>) -> Vec<Candidate> {
    live_or_not(switch, |model| model.map_or(Ok(Vec::new()), read)).unwrap_or_default()
}

fn live_or_not(
    switch: &Switch<'_>,
    read: impl FnOnce(Option<&Model<'_>>) -> crate::error::Result<Vec<String>>,
) -> Option<Vec<Candidate>> {
    let mut needs = Needs::default();
    topology::need(&mut needs);
    needs.column("Open_vSwitch", "datapaths");
    let model = switch.see(&needs);
    read(model.as_ref()).ok().map(|names| names.into_iter().map(Candidate::word).collect())
}

fn names(what: &str, model: &Model<'_>, bridge: Option<&str>) -> crate::error::Result<Vec<String>> {
    let all = Topology::of(model);
    let mut names = Vec::new();
    for on in all.bridges()? {
        if what == "BRIDGE" {
            names.push(on.name);
            continue;
        }
        if bridge.is_some_and(|bridge| bridge != on.name) {
            continue;
        }
        for port in all.ports_of(&on)? {
            match what {
                "IFACE" => names.extend(port.interfaces.into_iter().map(|(name, _)| name)),
                _ => names.push(port.name),
            }
        }
    }
    Ok(names)
}

fn datapaths(model: &Model<'_>) -> crate::error::Result<Vec<String>> {
    let mut names = Vec::new();
    for row in model.rows("Open_vSwitch") {
        for (name, _) in model.get("Open_vSwitch", &row, "datapaths")?.pairs() {
            names.extend(if let Atom::String(name) = name { Some(name.clone()) } else { None });
        }
    }
    Ok(names)
}

/// Devices of this host that the switch does not have yet.
fn devices(model: Option<&Model<'_>>) -> crate::error::Result<Vec<String>> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let has = |name: &String| {
        let name = Atom::String(name.clone());
        model.is_some_and(|model| !model.holders("Interface", "name", &name).is_empty())
    };
    Ok(names.filter(|name| name != "lo" && !has(name)).collect())
}

/// The table that the first argument names.
pub(super) fn table_of<'s>(before: &[String], switch: &Switch<'s>) -> Option<Table<'s>> {
    find_table(switch.schema, before.first()?).ok()
}

fn records_of(before: &[String], switch: &Switch<'_>) -> Vec<Candidate> {
    let Some(table) = table_of(before, switch) else { return Vec::new() };
    let mut needs = Needs::default();
    records::need(&mut needs, table.name);
    let Some(model) = switch.see(&needs) else { return Vec::new() };
    records::names(&model, table.name).unwrap_or_default().into_iter().map(Candidate::word).collect()
}
