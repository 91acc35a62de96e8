//! The command line: global options, then commands separated by `--`, each with options of its
//! own before its name. This is ovs-vsctl's grammar, so its scripts run unchanged:
//!
//! ```text
//! vsctl [GLOBAL OPTION]... [[OPTION]... COMMAND [ARG]...] [-- [OPTION]... COMMAND [ARG]...]...
//! ```
//!
//! Options of the first command may stand among the global ones (`vsctl --may-exist add-br br0`).
//! Global options may be abbreviated, a command's own after a `--` may not. What follows the
//! name of a command is its arguments, even if it begins with a dash.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, ArgMatches};

use crate::command::{self, Command};
use crate::complete;
use crate::error::{Result, fail, listing, nearest};
use crate::globals::{self, Globals};
use crate::itself;
use crate::output::Format;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print this text on standard output.
    Print(String),
    /// Run these commands as one transaction.
    Run(Globals, Vec<Parsed>),
}

/// One command with its own options and arguments, counted and named as its table row says.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The row of the table.
    pub command: &'static Command,
    options: BTreeMap<&'static str, String>,
    /// What followed the name.
    pub args: Vec<String>,
}

impl Parsed {
    /// Whether the option, written with its dashes, was given.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The value of an option that takes one.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    /// The argument at `index`, or the empty string.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// The arguments from `index` on.
    pub(crate) fn args_from(&self, index: usize) -> &[String] {
        self.args.get(index..).unwrap_or(&[])
    }
}

/// Reads a command line, without the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let mut words = Vec::new();
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(word) => fail!("argument {word:?} is not UTF-8"),
        }
    }
    if let Some((complete::CALL, rest)) = words.split_first().map(|(word, rest)| (word.as_str(), rest)) {
        return Ok(Request::Print(complete::answer(rest)));
    }
    let matches = globals::parse(words)?;
    if matches.get_count("help") > 0 {
        return Ok(Request::Print(crate::help::overview()));
    }
    if matches.get_count("version") > 0 {
        return Ok(Request::Print(crate::help::version()));
    }
    let words: Vec<String> = matches.get_many::<String>("words").into_iter().flatten().cloned().collect();
    if let Some((command, args)) = words.split_first().and_then(|(name, args)| Some((itself::find(name)?, args))) {
        return (command.run)(args).map(Request::Print);
    }
    let (words, format) = format_behind(words);
    let mut commands = Vec::new();
    let mut first_options = Some(first_command_options(&matches));
    for words in words.split(|word| word == "--").filter(|words| !words.is_empty()) {
        if let [name, .., last] = words
            && last == "--help"
        {
            let of = if command::second_words(name).is_empty() { 1 } else { words.len().min(3) - 1 };
            return crate::help::about(&words[..of]).map(Request::Print);
        }
        commands.push(parse_command(words, first_options.take().unwrap_or_default())?);
    }
    if commands.is_empty() {
        fail!("missing command name; 'vsctl --help' lists the commands");
    }
    let patient = commands.iter().any(command::is_patient);
    let mut globals = globals::read(&matches, patient)?;
    if let Some(format) = format {
        (globals.style.format, globals.style.asked_for) = (Format::parse(&format)?, true);
    }
    Ok(Request::Run(globals, commands))
}

/// Takes a format off a line whose last command is none of ovs-vsctl's: people write `-f json` behind it.
fn format_behind(mut words: Vec<String>) -> (Vec<String>, Option<String>) {
    let start = words.iter().rposition(|word| word == "--").map_or(0, |at| at + 1);
    let named = words[start..].iter().position(|word| !word.starts_with('-')).map_or(words.len(), |at| start + at);
    if command::find_in(&words[named..]).is_none_or(|(command, _)| !command.is_ours()) {
        return (words, None);
    }
    let long = |word: &String| word == "--format" || word.starts_with("--format=");
    let is_format = |word: &String| long(word) || (word.starts_with("-f") && !word.starts_with("--"));
    let Some(at) = words[named..].iter().position(is_format).map(|at| named + at) else { return (words, None) };
    let joined = words[at].strip_prefix("--format=").or(words[at].strip_prefix("-f")).filter(|value| !value.is_empty());
    let format = match (joined.map(str::to_owned), words.get(at + 1)) {
        (Some(format), _) => format,
        (None, Some(_)) => words.remove(at + 1),
        (None, None) => return (words, None),
    };
    words.remove(at);
    (words, Some(format))
}

fn first_command_options(matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    let mut options = BTreeMap::new();
    for (name, takes_value) in command::option_names() {
        if takes_value {
            if let Some(value) = matches.get_many::<String>(name).and_then(Iterator::last) {
                options.insert(name, value.clone());
            }
        } else if matches.get_count(name) > 0 {
            options.insert(name, String::new());
        }
    }
    options
}

fn parse_command(words: &[String], mut given: BTreeMap<&'static str, String>) -> Result<Parsed> {
    let named = words.iter().position(|word| !word.starts_with('-')).unwrap_or(words.len());
    let (options, rest) = words.split_at(named);
    if rest.is_empty() {
        fail!("{} is no option of vsctl, or its command is missing; see 'vsctl --help'", words[0]);
    }
    let (command, args) = find_command(rest)?;
    let name = command.name;
    let (behind, args): (Vec<_>, Vec<_>) =
        args.iter().cloned().partition(|word| command.is_ours() && word.starts_with("--"));
    for option in options.iter().chain(&behind) {
        let (option, value) = match option.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (option.as_str(), None),
        };
        let known = command.options.iter().find(|known| known.name == option);
        match (known, value) {
            (Some(known), _) if given.contains_key(known.name) => {
                fail!("'{option}' given twice to '{name}'")
            }
            (Some(known), Some(value)) if known.value.is_some() => {
                given.insert(known.name, value.to_owned());
            }
            (Some(known), None) if known.value.is_none() => {
                given.insert(known.name, String::new());
            }
            (Some(_), Some(value)) => fail!("'{option}' of '{name}' takes no value, not '{value}'"),
            (Some(known), None) => {
                fail!("'{option}' of '{name}' needs a value: {option}={}", known.value.unwrap_or_default())
            }
            (None, _) => fail!("{}", no_such_option(command, option)),
        }
    }
    if let Some(stray) = given.keys().find(|option| !command.options.iter().any(|o| o.name == **option)) {
        fail!("{}", no_such_option(command, stray));
    }
    check_arguments(command, &args)?;
    Ok(Parsed { command, options: given, args })
}

/// The command at the beginning of `words`, which are one at least, and its arguments.
fn find_command(words: &[String]) -> Result<(&'static Command, &[String])> {
    if let Some(found) = command::find_in(words) {
        return Ok(found);
    }
    let name = &words[0];
    match (command::second_words(name), words.get(1)) {
        (seconds, _) if seconds.is_empty() => {}
        (seconds, None) => fail!("'{name}' needs another word: {}", listing(seconds)),
        (seconds, Some(word)) => fail!("there is no '{name} {word}'; there are {}", listing(seconds)),
    }
    match nearest(name, command::all().map(|c| c.name)) {
        Some(near) => fail!("unknown command '{name}'; did you mean '{near}'?"),
        None => fail!("unknown command '{name}'; 'vsctl --help' lists the commands"),
    }
}

fn no_such_option(command: &Command, option: &str) -> String {
    let name = command.name;
    if is_global(option) {
        return format!("{option} belongs before the first command and its options: vsctl {option} -- …");
    }
    if command.options.is_empty() {
        return format!("'{name}' has no option {option}; it has none");
    }
    let known = listing(command.options.iter().map(|o| o.name));
    format!("'{name}' has no option {option}; it has {known}")
}

fn is_global(option: &str) -> bool {
    let long = |arg: &Arg| arg.get_long().filter(|_| !arg.is_hide_set()).map(|long| format!("--{long}"));
    globals::grammar().get_arguments().any(|arg| long(arg).as_deref() == Some(option))
}

fn check_arguments(command: &Command, args: &[String]) -> Result<()> {
    let name = command.name;
    let (min, max) = command.count;
    if (min, max) == (0, usize::MAX) {
        return Ok(());
    }
    // An option is so surely no argument that this can be said even where any argument would do.
    for arg in args.iter().filter(|arg| arg.starts_with("--")) {
        let option = arg.split('=').next().unwrap_or_default();
        if command.options.iter().any(|o| o.name == option) {
            fail!("{option} belongs before the name of its command: vsctl {arg} {name} …");
        }
        if is_global(option) {
            fail!("{option} belongs before the first command: vsctl {arg} {name} …");
        }
    }
    if (min..=max).contains(&args.len()) {
        return Ok(());
    }
    let many = if args.len() < min { "few" } else { "many" };
    let synopsis = format!("{name} {}", command.args);
    fail!("too {many} arguments; it is: vsctl {}", synopsis.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fail;
    use crate::output::{Data, Format};
    use std::time::Duration;

    fn read(line: &str) -> Result<(Globals, Vec<Parsed>)> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Request::Run(globals, commands) => Ok((globals, commands)),
            Request::Print(text) => fail!("prints {}", text.lines().next().unwrap_or_default()),
        }
    }

    fn refused(line: &str) -> String {
        read(line).err().map(|e| e.to_string()).unwrap_or_default()
    }

    /// Commands as `options name args`.
    fn commands(line: &str) -> Vec<String> {
        let (_, commands) = read(line).unwrap();
        let option = |(name, value): (&&str, &String)| format!("{name}({value}) ");
        let show = |c: &Parsed| {
            let options: String = c.options.iter().map(option).collect();
            format!("{options}{} {}", c.command.name, c.args.join(" "))
        };
        commands.iter().map(show).collect()
    }

    #[test]
    fn sequences() {
        assert_eq!(commands("list-br"), ["list-br "]);
        assert_eq!(commands("add-br br0 -- add-port br0 p1"), ["add-br br0", "add-port br0 p1"]);
        assert_eq!(commands("-- -- list-br -- -- show --"), ["list-br ", "show "]);
        assert_eq!(
            commands("--no-wait -- --may-exist add-br br0 -- --if-exists del-port p1"),
            ["--may-exist() add-br br0", "--if-exists() del-port p1"]
        );
        assert_eq!(commands("-- --id=@p get port p1"), ["--id(@p) get port p1"]);
    }

    #[test]
    fn options_of_the_first_command_among_the_global_ones() {
        let expected = ["--if-exists() --with-iface() del-port p1", "show "];
        assert_eq!(commands("--if-exists --no-wait --with-iface del-port p1 -- show"), expected);
        assert_eq!(commands("--if-exists -- --with-iface del-port p1 -- show"), expected);
        assert_eq!(commands("--if-e -- --with-iface del-port p1 -- show"), expected);
        assert_eq!(commands("--columns=name list port"), ["--columns(name) list port"]);
        assert_eq!(commands("--columns name list port"), ["--columns(name) list port"]);
        assert_eq!(refused("--if-exists list-br"), "'list-br' has no option --if-exists; it has --real, --fake");
        assert_eq!(refused("--if-exists show"), "'show' has no option --if-exists; it has none");
    }

    #[test]
    fn global_options() {
        let (globals, _) = read("--db=unix:/a -t7 --no-wait --oneline -fjson -d bare --dry list-br").unwrap();
        assert_eq!(globals.timeout, Some(Duration::from_secs(7)));
        assert!(!globals.wait && globals.oneline && globals.dry_run && !globals.retry);
        assert_eq!((globals.style.format, globals.style.data), (Format::Json, Data::Bare));
        assert_eq!(read("--socket /b --timeout 0 list-br").unwrap().0.timeout, None);
        let (globals, _) = read("--socket=/b list-br").unwrap();
        assert_eq!(globals.timeout, Some(Duration::from_secs(10)));
        assert!(globals.wait && globals.style.headings);
        assert_eq!(read("list-br -- wait-until bridge br0").unwrap().0.timeout, None);
        let (globals, _) = read("-t 10 wait-until bridge br0").unwrap();
        assert_eq!(globals.timeout, Some(Duration::from_secs(10)));
        assert_eq!(commands("comment --no-wait x")[0], "comment --no-wait x");
        assert_eq!((globals.style.format, globals.style.data), (Format::List, Data::String));
    }

    #[test]
    fn a_format_and_options_behind_a_command_of_our_own() {
        for line in [
            "fdb show br0 -f json",
            "fdb show br0 -fjson",
            "show -- fdb moves br0 --format=json",
            "-f json fdb show br0",
            "fdb show -f json br0",
            "mtu br0 -f json",
            "drops br0 -f json --follow",
            "drops --follow br0 --format=json",
            "show -- --follow drops br0 -fjson",
        ] {
            let (globals, commands) = read(line).unwrap();
            assert_eq!((globals.style.format, globals.style.asked_for), (Format::Json, true), "{line}");
            assert_eq!(commands.last().unwrap().args, ["br0"], "{line}");
        }
        assert!(!read("fdb show br0").unwrap().0.style.asked_for);
        assert_eq!(commands("drops br0 --follow"), ["--follow() drops br0"]);
        assert_eq!(read("drops --follow").unwrap().0.timeout, None);
        assert_eq!(read("drops").unwrap().0.timeout, Some(Duration::from_secs(10)));
    }

    #[test]
    fn bare_is_overruled_by_what_follows_it() {
        let style = |line: &str| read(line).unwrap().0.style;
        let before = style("-f csv --bare list port");
        assert_eq!((before.format, before.data, before.headings), (Format::List, Data::Bare, false));
        let after = style("--bare -f csv list port");
        assert_eq!((after.format, after.data, after.headings), (Format::Csv, Data::Bare, false));
    }

    #[test]
    fn what_is_refused() {
        for (line, text) in [
            ("", "missing command name; 'vsctl --help' lists the commands"),
            ("--no-wait --", "missing command name; 'vsctl --help' lists the commands"),
            ("lst-br", "unknown command 'lst-br'; did you mean 'list-br'?"),
            ("frobnicate", "unknown command 'frobnicate'; 'vsctl --help' lists the commands"),
            ("--formt=json list port", "there is no option --formt; did you mean --format?"),
            ("--colour list port", "there is no option --colour; see 'vsctl --help'"),
            ("-t x list-br", "--timeout=x: not a number of seconds"),
            ("-f xml list port", "--format=xml: there are list, table, html, csv and json"),
            ("--data=xml list port", "--data=xml: there are string, bare and json"),
            ("br-exists", "too few arguments; it is: vsctl br-exists BRIDGE"),
            ("show br0", "too many arguments; it is: vsctl show"),
            (
                "del-br br0 --if-exists",
                "--if-exists belongs before the name of its command: vsctl --if-exists del-br …",
            ),
            (
                "list port --columns=name",
                "--columns belongs before the name of its command: vsctl --columns=name list …",
            ),
            ("list port --format=csv", "--format belongs before the first command: vsctl --format=csv list …"),
            ("fdb", "'fdb' needs another word: show, flush, moves, add, del"),
            ("fdb list br0", "there is no 'fdb list'; there are show, flush, moves, add, del"),
            ("fdb show", "too few arguments; it is: vsctl fdb show BRIDGE"),
            ("fdb show br0 -f xml", "--format=xml: there are list, table, html, csv and json"),
            ("show -f json", "too many arguments; it is: vsctl show"),
            ("drops br0 --fast", "'drops' has no option --fast; it has --follow"),
            ("-- --columns list port", "'--columns' of 'list' needs a value: --columns=COLUMN[,COLUMN]..."),
            ("-- --may-exist=1 add-br b", "'--may-exist' of 'add-br' takes no value, not '1'"),
            ("-- --if-exists --if-exists del-br b", "'--if-exists' given twice to 'del-br'"),
            ("-- --if-e del-br b", "'del-br' has no option --if-e; it has --if-exists"),
            (
                "-- --oneline list-br",
                "--oneline belongs before the first command and its options: vsctl --oneline -- …",
            ),
        ] {
            assert_eq!(refused(line), text, "{line}");
        }
    }

    #[test]
    fn help_is_asked_for_in_many_ways() {
        for line in ["--help", "-h", "help", "show --help -- list-br", "--no-wait -h show"] {
            assert!(refused(line).starts_with("prints "), "{line}");
        }
        assert_eq!(refused("help list-br"), "prints list-br: print the names of all bridges");
        assert_eq!(refused("list-br --help"), "prints list-br: print the names of all bridges");
        for line in ["fdb show --help", "help fdb show", "fdb show br0 --help"] {
            assert_eq!(refused(line), "prints fdb show: print the addresses that a bridge knows", "{line}");
        }
        assert_eq!(refused("help fdb"), "prints fdb show: print the addresses that a bridge knows");
        assert!(refused("--version").starts_with("prints vsctl (vswitch) "));
    }

    #[test]
    fn arguments_must_be_text() {
        use std::os::unix::ffi::OsStringExt as _;
        let word = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(parse([word]).unwrap_err().to_string(), "argument \"a\\xFF\" is not UTF-8");
    }
}
