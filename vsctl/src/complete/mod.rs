//! Completion of command lines in the shell, with the names of bridges, ports and records from the running switch.
//!
//! `vsctl completion SHELL` prints a script ([`script`]). The script calls `vsctl __complete SHELL …` at every Tab,
//! which splits the line ([`line`]), finds out what may stand at the cursor ([`place`]) and prints candidates
//! ([`offers`]). It changes nothing, waits for the switch no longer than [`PATIENCE`], and never says an error.

use std::time::Duration;

use ovsdb::schema::DatabaseSchema;

use crate::error::{Result, fail};
use crate::globals::{self, Globals};
use crate::model::{Model, Needs};
use crate::session::look;

mod line;
mod offers;
mod place;
mod settings;

use line::Shell;

/// The first word of a call by a script.
pub(crate) const CALL: &str = "__complete";
/// The shells.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
/// A person is waiting, with a finger on a key.
const PATIENCE: Duration = Duration::from_millis(500);
/// Instead of candidates: the shell knows files better.
const FILES: &str = ":files";

/// Something that may stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Candidate {
    /// The whole word.
    text: String,
    /// What it is.
    help: String,
    /// More must follow in the same word.
    open: bool,
}

impl Candidate {
    fn word(text: impl Into<String>) -> Candidate {
        Candidate { text: text.into(), ..Candidate::default() }
    }

    fn open(text: impl Into<String>) -> Candidate {
        Candidate { text: text.into(), open: true, ..Candidate::default() }
    }

    fn with(self, help: impl Into<String>) -> Candidate {
        Candidate { help: help.into(), ..self }
    }
}

/// What may stand at the cursor.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// Names of files.
    Files,
    /// These.
    Words(Vec<Candidate>),
}

/// The running switch, if it answers.
struct Switch<'s> {
    schema: &'s DatabaseSchema,
    globals: Option<Globals>,
}

impl<'s> Switch<'s> {
    /// What is in these tables now.
    fn see(&self, needs: &Needs) -> Option<Model<'s>> {
        look(self.globals.as_ref()?, self.schema, needs, PATIENCE)
    }
}

/// The script that has a shell ask.
pub(crate) fn script(shell: &str) -> Result<String> {
    let script = match shell {
        "bash" => include_str!("vsctl.bash"),
        "zsh" => include_str!("vsctl.zsh"),
        "fish" => include_str!("vsctl.fish"),
        _ => fail!("no script for the shell {shell}; there are bash, zsh and fish"),
    };
    Ok(script.to_owned())
}

/// Answers a script: the shell's name and what it knows of the line, in; candidates, one a line, out.
pub(crate) fn answer(args: &[String]) -> String {
    let Some((shell, words)) = Shell::read(args) else { return String::new() };
    let schema = ovsdb::vswitch_schema::vswitch_schema();
    let place = place::find(&words);
    let switch = Switch { schema: &schema, globals: globals::of_line(place.first) };
    let mut offered = match offers::at(&place, &switch) {
        Offer::Files => return format!("{FILES}\n"),
        Offer::Words(words) => words,
    };
    let begun = words.last().map_or("", String::as_str);
    offered.retain(|candidate| candidate.text.starts_with(begun));
    offered.sort_by(|a, b| a.text.cmp(&b.text));
    offered.dedup();
    offered.iter().map(|candidate| shell.print(candidate) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered at the end of a line, without a switch.
    fn offered(line: &str) -> String {
        let mut args = vec!["fish".to_owned(), "--db=unix:/nonexistent".to_owned()];
        args.extend(line.split(' ').map(str::to_owned));
        let text = answer(&args);
        let words: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
        words.join(" ")
    }

    #[test]
    fn commands_and_options() {
        assert_eq!(offered("add-p"), "add-port");
        assert_eq!(offered("--no-wait --may-exist add-b"), "add-bond add-bond-iface add-br");
        assert_eq!(offered("list-br -- add-p"), "add-port");
        assert_eq!(offered("--may"), "--may-exist");
        assert_eq!(offered("--no-h"), "--no-headings");
        assert_eq!(offered("list-br -- --no-h"), "");
        assert_eq!(offered("list-br -- --i"), "--id= --if-exists --inactivity-probe=");
        assert_eq!(offered("--format=c"), "--format=csv");
        assert_eq!(offered("-f j"), "json");
        assert_eq!(offered("--socket "), ":files");
        assert_eq!(offered("set-ssl a "), ":files");
        assert_eq!(
            (offered("fd"), offered("fdb "), offered("fdb m")),
            ("fdb".into(), "add del flush moves show".into(), "moves".into())
        );
        assert_eq!(offered("frobnicate "), "");
        assert_eq!(offered("list-br "), "");
        let words = |words: &[&str]| answer(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            words(&["fish", "complet"]),
            "completion\tprint the script by which a shell completes vsctl lines\n"
        );
        assert_eq!(words(&["zsh", "completion", "z"]), ".zsh:\n");
        assert_eq!(words(&["bash", "vsctl", "vsctl set port p vlan_mode=t", "=:"]), "trunk \n");
        assert_eq!(words(&[]), "");
    }

    #[test]
    fn tables_columns_and_values() {
        assert_eq!(offered("list co"), "controller");
        assert_eq!(offered("list Co"), "Controller");
        assert_eq!(offered("set port p t"), "tag= trunks=");
        assert_eq!(offered("set port p st"), "");
        assert_eq!(offered("find port st"), "statistics: status:");
        assert_eq!(offered("find port vlan_mode=tr"), "vlan_mode=trunk");
        assert_eq!(offered("find port vlan_mode!=tr"), "vlan_mode!=trunk");
        assert_eq!(offered("set port p ext"), "external_ids:");
        assert_eq!(offered("set interface p options:remote"), "options:remote_ip= options:remote_ips=");
        assert_eq!(offered("set bridge b other_config:mac-a"), "other_config:mac-aging-time=");
        assert_eq!(offered("set bridge b stp_enable="), "stp_enable=false stp_enable=true");
        assert_eq!(offered("clear bridge b flo"), "flood_vlans flow_tables");
        assert_eq!(offered("add port p vlan_mode tr"), "trunk");
        assert_eq!(offered("--id=@x get port p -- set mirror m output_port="), "output_port=@x");
        assert_eq!(offered("add-port b p vlan"), "vlan_mode=");
        assert_eq!(offered("add-port b p mt"), "mtu-policy= mtu_request=");
        assert_eq!(offered("add-port b p rem"), "remote_ip= remote_ips=");
        assert_eq!(offered("add-port b p vlan_mode=a"), "vlan_mode=access");
        assert_eq!(offered("set-fail-mode b s"), "secure standalone");
        assert_eq!(offered("add-zone-tp netdev z"), "zone=");
        assert_eq!(offered("add-zone-tp netdev zone=1 icmp_f"), "icmp_first=");
        assert_eq!(offered("set nonsense p t"), "");
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(words: Vec<String>, text: String) {
            answer(&[vec!["zsh".to_owned(), "--db=unix:/nonexistent".to_owned()], words].concat());
            let line = format!("vsctl --db=unix:/nonexistent {text}");
            answer(&["bash".to_owned(), "vsctl".to_owned(), line, "=:@".to_owned()]);
        }
    }
}
