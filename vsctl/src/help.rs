//! `vsctl --help`, `vsctl help COMMAND`, `vsctl --version`.

use std::fmt::Write as _;

use crate::command::{self, Command, FAMILIES};
use crate::error::{Result, fail, nearest};
use crate::globals::{self, GlobalOption, WITHOUT_EFFECT};
use crate::itself::{self, Itself};

/// The version, and that of the schema, as ovs-vsctl prints its own.
pub(crate) fn version() -> String {
    let schema = ovsdb::vswitch_schema::vswitch_schema();
    format!("vsctl (vswitch) {}\nDB Schema {}\n", env!("CARGO_PKG_VERSION"), schema.version)
}

/// What it is for.
pub(crate) const PURPOSE: &str = "\
vsctl configures a vswitch: its bridges, ports and tunnels. All commands of one line are carried out
together or not at all. vsctl returns when the switch has acted on them, and says so if a port could
not be set up.";

/// Of `--verbose`.
pub(crate) const SPEC: &str = "\
SPEC is one or more of a level (off, emer, err, warn, info, dbg), where to (console, file) and what
from (vsctl, jsonrpc), joined by ':'.";

/// How a run ends.
pub(crate) const EXIT_CODES: [(u8, &str); 5] = [
    (0, "done"),
    (1, "error; nothing was changed. Of doctor: something was found"),
    (2, "br-exists: there is no such bridge"),
    (65, "done, but the switch could not set up an interface of this transaction; it says why"),
    (142, "timed out"),
];

/// Lines to begin with.
pub(crate) const EXAMPLES: &[&str] = &[
    "vsctl add-br br0 -- add-port br0 eth1 -- add-port br0 veth0 tag=10",
    "vsctl add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2",
    "vsctl set port veth0 tag=20",
    "vsctl show",
];

/// All commands and global options.
pub(crate) fn overview() -> String {
    let mut text = format!(
        "{PURPOSE}\n\nUsage: vsctl [OPTION]... COMMAND [ARGUMENT]... [-- [OPTION]... COMMAND [ARGUMENT]...]...\n"
    );
    for family in FAMILIES {
        text += &format!("\n{}:\n", family.title);
        for command in family.commands {
            text += &entry(&format!("{} {}", command.name, command.args), command.summary);
        }
    }
    text += "\nWithout a switch:\n";
    text.extend(itself::COMMANDS.iter().map(|c| entry(&format!("{} {}", c.name, c.args), c.summary)));
    text += "\nOptions, before the first command:\n";
    text.extend(globals::grammar().get_arguments().filter_map(GlobalOption::of).map(|o| option_entry(&o)));
    let without_effect: Vec<String> = WITHOUT_EFFECT.iter().map(|(name, ..)| format!("--{name}")).collect();
    text += "\nAccepted without effect, for scripts that were written for ovs-vsctl:\n";
    text += &wrapped(&without_effect);
    text += &format!(
        "\n{SPEC}\n\n\
         Commands have options of their own, such as --may-exist and --if-exists, which go directly before\n\
         the command's name; 'vsctl help COMMAND' tells them.\n\nExit status:\n"
    );
    text.extend(EXIT_CODES.iter().map(|(code, meaning)| format!(" {code:>3}  {meaning}\n")));
    text += "\nExamples:\n";
    text.extend(EXAMPLES.iter().map(|line| format!("  {line}\n")));
    text
}

/// Two columns; what is too wide for the first pushes the second to a line of its own.
fn entry(left: &str, right: &str) -> String {
    let left = left.trim_end();
    match left.chars().count() {
        0..=30 => format!("  {left:<30}  {right}\n"),
        _ => format!("  {left}\n  {:<30}  {right}\n", ""),
    }
}

/// Words in lines of at most 100 characters.
fn wrapped(words: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 100 => *line += &format!(" {word}"),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n") + "\n"
}

fn option_entry(option: &GlobalOption) -> String {
    let GlobalOption { long, short, value, value_is_optional, help } = option;
    let short = short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = match value {
        None => String::new(),
        Some(value) if *value_is_optional => format!("[={value}]"),
        Some(value) => format!("={value}"),
    };
    entry(&format!("{short}--{long}{value}"), help)
}

/// What `vsctl help WORD...` prints.
pub(crate) fn about(words: &[String]) -> Result<String> {
    match words {
        [] => Ok(overview()),
        [name] if !command::second_words(name).is_empty() => {
            let pages: Vec<_> = command::second_words(name)
                .iter()
                .filter_map(|w| command::find(&format!("{name} {w}")))
                .map(page)
                .collect();
            Ok(pages.join("\n"))
        }
        [name] => match (command::find(name), itself::find(name)) {
            (Some(command), _) => Ok(page(command)),
            (None, Some(command)) => Ok(page_of_itself(command)),
            (None, None) => match nearest(name, command::all().map(|c| c.name)) {
                Some(near) => fail!("no command '{name}' to help with; did you mean '{near}'?"),
                None => fail!("no command '{name}' to help with; see 'vsctl --help'"),
            },
        },
        [first, second] => match command::find(&format!("{first} {second}")) {
            Some(command) => Ok(page(command)),
            None => fail!("no command '{first} {second}' to help with; see 'vsctl --help'"),
        },
        _ => fail!("help takes one command: vsctl help COMMAND"),
    }
}

fn page(command: &Command) -> String {
    let Command { name, args, options, summary, help, examples, related, .. } = command;
    let option = |o: &command::Opt| match o.value {
        Some(value) => format!("{}={value}", o.name),
        None => o.name.to_owned(),
    };
    let before: String = options.iter().map(|o| format!("[{}] ", option(o))).collect();
    let mut text = page_begin(name, summary, &format!("{before}{name} {args}"), help);
    if !options.is_empty() {
        text += "\nOptions:\n";
        text.extend(options.iter().map(|o| entry(&option(o), o.help)));
    }
    text += &page_examples(examples);
    if !related.is_empty() {
        let _ = write!(text, "\nSee also: {}\n", related.join(", "));
    }
    text
}

fn page_of_itself(command: &Itself) -> String {
    let Itself { name, args, summary, help, examples, .. } = command;
    page_begin(name, summary, &format!("{name} {args}"), help) + &page_examples(examples)
}

fn page_begin(name: &str, summary: &str, synopsis: &str, help: &str) -> String {
    let mut text = format!("{name}: {summary}\n\nUsage: vsctl {}\n", synopsis.trim_end());
    if !help.is_empty() {
        let _ = write!(text, "\n{}\n", help.trim_end());
    }
    text
}

fn page_examples(examples: &[&str]) -> String {
    let lines: String = examples.iter().map(|line| format!("  {line}\n")).collect();
    format!("\nExamples:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_a_line() {
        let overview = overview();
        for command in command::all() {
            assert!(overview.contains(&format!("\n  {} ", command.name)), "{}", command.name);
            let page = about(&[command.name.to_owned()]).unwrap();
            assert!(page.starts_with(&format!("{}: {}\n", command.name, command.summary)));
            assert!(page.contains("\nExamples:\n  vsctl "), "{page}");
        }
        for command in &itself::COMMANDS {
            assert!(overview.contains(&format!("\n  {} ", command.name)), "{}", command.name);
            let page = about(&[command.name.to_owned()]).unwrap();
            assert!(page.starts_with(&format!("{}: {}\n", command.name, command.summary)));
        }
    }

    #[test]
    fn help_fits_a_terminal() {
        let itself = itself::COMMANDS.iter().map(page_of_itself);
        let pages = command::all().map(page).chain(itself).chain([overview()]);
        for line in pages.flat_map(|page| page.lines().map(str::to_owned).collect::<Vec<_>>()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn a_page() {
        assert_eq!(
            about(&["del-br".to_owned()]).unwrap(),
            "\
del-br: delete a bridge and all its ports

Usage: vsctl [--if-exists] del-br BRIDGE

The devices that were its ports stay on the host; only its own port and its tunnels go with it.
VLAN bridges of it go too.

Options:
  --if-exists                     do nothing if there is no such bridge

Examples:
  vsctl del-br br0
  vsctl --if-exists del-br br0

See also: add-br, del-port
"
        );
    }

    #[test]
    fn unknown_commands() {
        let text = about(&["add-bridge".to_owned()]).err().map(|e| e.to_string());
        assert_eq!(text.as_deref(), Some("no command 'add-bridge' to help with; did you mean 'add-br'?"));
    }
}
