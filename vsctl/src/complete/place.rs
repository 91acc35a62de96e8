//! What may stand at the cursor, by what stands before it.

use crate::command::{self, Command};
use crate::globals;
use crate::itself;

/// Where the cursor is.
#[derive(Debug)]
pub(super) struct Place<'l> {
    /// The line up to its first `--`: the global options and the first command.
    pub first: &'l [String],
    /// The whole line, without the word at the cursor.
    pub before: &'l [String],
    /// The word at the cursor, as far as it is typed.
    pub word: &'l str,
    /// What it belongs to.
    pub at: At<'l>,
}

/// What the word at the cursor belongs to.
#[derive(Debug)]
pub(super) enum At<'l> {
    /// A command or its options; global options too at the beginning of the line.
    Command { global: bool },
    /// The value of an option, named with its dashes; of a word `--option=value` this is the part behind the `=`.
    Value { option: &'l str, joined: bool },
    /// An argument of a command, with those before it.
    Argument { command: &'static Command, before: &'l [String] },
    /// An argument of a command that needs no switch.
    Itself { command: &'l str },
    /// The second word of a command's name.
    Second { first: &'l str },
    /// Of nothing known.
    Nothing,
}

impl<'l> Place<'l> {
    /// Names that `--id=@NAME` gives anywhere before the cursor.
    pub(super) fn given_names(&self) -> impl Iterator<Item = &'l str> {
        self.before.iter().filter_map(|word| word.strip_prefix("--id=@")).filter(|name| !name.is_empty())
    }
}

/// Finds the place of the last word.
pub(super) fn find(words: &[String]) -> Place<'_> {
    let (word, before) = words.split_last().map_or(("", words), |(word, before)| (word.as_str(), before));
    let start = before.iter().rposition(|word| word == "--").map_or(0, |at| at + 1);
    let segment = before.get(start..).unwrap_or_default();
    let global = start == 0;
    let options = options_of(segment, global);
    let at = match segment.get(options..).and_then(|rest| rest.split_first()) {
        Some((name, args)) => argument_of(name, args, segment.get(options..).unwrap_or_default()),
        // The value of the last option is yet to come.
        None if options > segment.len() => {
            segment.last().map_or(At::Nothing, |option| At::Value { option, joined: false })
        }
        None => match word.split_once('=') {
            Some((option, _)) if word.starts_with("--") => At::Value { option, joined: true },
            _ => At::Command { global },
        },
    };
    Place { first: before.split(|word| word == "--").next().unwrap_or_default(), before, word, at }
}

/// How many words before the command's name are options or their values, one that is missing included.
fn options_of(segment: &[String], global: bool) -> usize {
    let grammar = globals::grammar();
    let mut options = 0;
    while let Some(option) = segment.get(options).filter(|word| word.starts_with('-')) {
        options += 1 + usize::from(global && globals::needs_next_word(&grammar, option));
    }
    options
}

fn argument_of<'l>(name: &'l str, before: &'l [String], words: &'l [String]) -> At<'l> {
    match command::find_in(words) {
        Some((command, before)) => At::Argument { command, before },
        None if before.is_empty() && !command::second_words(name).is_empty() => At::Second { first: name },
        None if itself::find(name).is_some() => At::Itself { command: name },
        None => At::Nothing,
    }
}

/// One argument of a command's synopsis, such as `COLUMN[:KEY]=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    what: &'static str,
    optional: bool,
    repeated: bool,
}

/// What may be the argument with this index. A synopsis that begins with an optional argument has two answers.
pub(super) fn slots_at(synopsis: &'static str, index: usize) -> Vec<&'static str> {
    let slots = slots(synopsis);
    let first_is_optional = slots.len() > 1 && slots[0].optional && !slots[1].optional;
    if first_is_optional && index == 0 {
        return slots.iter().take(2).map(|slot| slot.what).collect();
    }
    let mut answers = Vec::new();
    if let Some(slot) = slots.get(index) {
        answers.push(slot.what);
    }
    // What can be repeated leaves it open where the next one begins.
    let repeated = slots.iter().take(index).filter(|slot| slot.repeated).map(|slot| slot.what);
    answers.extend(repeated);
    answers.dedup();
    answers
}

/// `A [B C] D...` as its arguments.
fn slots(synopsis: &'static str) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut rest = synopsis.trim();
    while !rest.is_empty() {
        let (group, after) = first_group(rest);
        rest = after.trim_start();
        let (group, repeated) = match group.strip_suffix("...") {
            Some(group) => (group, true),
            None => (group, false),
        };
        match group.strip_prefix('[').and_then(|group| group.strip_suffix(']')) {
            Some(inside) => {
                let words = if inside.contains("OPERATOR") { vec![inside] } else { inside.split(' ').collect() };
                slots.extend(words.into_iter().map(|what| Slot { what, optional: true, repeated }));
            }
            None => slots.push(Slot { what: group, optional: false, repeated }),
        }
    }
    slots
}

/// Up to a blank outside brackets.
fn first_group(text: &'static str) -> (&'static str, &'static str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ' ' if depth == 0 => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let place = find(&words);
        let at = match place.at {
            At::Command { global } => format!("command, global: {global}"),
            At::Value { option, joined } => format!("value of {option}, joined: {joined}"),
            At::Argument { command, before } => format!("{} {}", command.name, before.join(" ")),
            At::Itself { command } => command.to_owned(),
            At::Second { first } => format!("second word of {first}"),
            At::Nothing => "nothing".to_owned(),
        };
        format!("{at} | {} | {}", place.word, place.first.join(" "))
    }

    #[test]
    fn places() {
        for (line, expected) in [
            ("", "command, global: true |  | "),
            ("--no", "command, global: true | --no | "),
            ("-f", "command, global: true | -f | "),
            ("-f js", "value of -f, joined: false | js | -f"),
            ("--format js", "value of --format, joined: false | js | --format"),
            ("--format=js", "value of --format, joined: true | --format=js | "),
            ("--format=json li", "command, global: true | li | --format=json"),
            ("--db unix:/a -t 5 del-port br0 p", "del-port br0 | p | --db unix:/a -t 5 del-port br0"),
            ("--may-exist add-port ", "add-port  |  | --may-exist add-port"),
            ("--no-wait -- --id=", "value of --id, joined: true | --id= | --no-wait"),
            ("--no-wait -- ad", "command, global: false | ad | --no-wait"),
            ("add-br br0 -- set ", "set  |  | add-br br0"),
            ("help ad", "help | ad | help"),
            ("fdb s", "second word of fdb | s | fdb"),
            ("fdb add br0 ", "fdb add br0 |  | fdb add br0"),
            ("nonsense ad", "nothing | ad | nonsense"),
        ] {
            assert_eq!(at(line), expected, "{line}");
        }
        let words = ["--", "--id=@a", "get", "port", "p", "--", "--id=@b", ""].map(str::to_owned);
        assert_eq!(find(&words).given_names().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn arguments() {
        let all = |synopsis| (0..4).map(|index| slots_at(synopsis, index).join(" or ")).collect::<Vec<_>>();
        assert_eq!(all("BRIDGE [PARENT VLAN]"), ["BRIDGE", "PARENT", "VLAN", ""]);
        assert_eq!(all("[BRIDGE] PORT"), ["BRIDGE or PORT", "PORT", "", ""]);
        assert_eq!(all("TABLE [RECORD]..."), ["TABLE", "RECORD", "RECORD", "RECORD"]);
        assert_eq!(
            all("A IFACE... [SETTING=VALUE]..."),
            ["A", "IFACE", "SETTING=VALUE or IFACE", "IFACE or SETTING=VALUE"]
        );
        assert_eq!(all("T [COLUMN[:KEY]OPERATOR VALUE]...")[2], "COLUMN[:KEY]OPERATOR VALUE");
        assert_eq!(all("T R [COLUMN[:KEY]]...")[3], "COLUMN[:KEY]");
        assert_eq!(all("T R COLUMN [KEY=]VALUE...")[2..], ["COLUMN", "[KEY=]VALUE"]);
        assert_eq!(all(""), [""; 4]);
    }

    /// What `offers` has candidates for, and what is new to the switch or anybody's guess.
    const KNOWN: [&str; 28] = [
        "BOND",
        "BRIDGE",
        "CA-CERT",
        "CERTIFICATE",
        "COLUMN",
        "COLUMN[:KEY]",
        "COLUMN[:KEY]=VALUE",
        "COLUMN[:KEY]OPERATOR VALUE",
        "DATAPATH",
        "I-SID",
        "IFACE",
        "KEY",
        "MAC",
        "PARENT",
        "POLICY=SECS",
        "PORT",
        "PRIVATE-KEY",
        "RECORD",
        "SETTING=VALUE",
        "TABLE",
        "TARGET",
        "VALUE",
        "VALUE|KEY|KEY=VALUE",
        "VLAN",
        "WORD",
        "[KEY=]VALUE",
        "standalone|secure",
        "zone=ZONE",
    ];

    /// A synopsis that speaks of something new must be taught to `offers`.
    #[test]
    fn every_argument_of_every_command_is_known() {
        for command in command::all() {
            for slot in slots(command.args) {
                assert!(KNOWN.contains(&slot.what), "{}: {}", command.name, slot.what);
            }
        }
    }
}
