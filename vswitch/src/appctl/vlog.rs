//! `vlog/list` and `vlog/set`: what is logged.
//!
//! Open vSwitch has modules, destinations and levels. Our modules are those below; the only destination is `console`,
//! which is standard error; and a word with `=` in it is a filter of our own, as in `--log`.

use super::Context;
use std::fmt::Write;
use tracing::info;
use tracing_subscriber::filter::LevelFilter;

/// Modules as they are called here, and the targets that they stand for.
const MODULES: [(&str, &str); 12] = [
    ("appctl", "vswitch::appctl"),
    ("control", "datapath::control"),
    ("daemon", "vswitch::daemon"),
    ("datapath", "datapath"),
    ("netlink", "vswitch::netlink"),
    ("ovsdb", "ovsdb"),
    ("ovsdb_db", "ovsdb::db"),
    ("ovsdb_server", "ovsdb::server"),
    ("port", "datapath::port"),
    ("reconcile", "vswitch::reconcile"),
    ("vswitch", "vswitch"),
    ("worker", "datapath::worker"),
];

const DESTINATIONS: [&str; 3] = ["syslog", "console", "file"];

/// Open vSwitch's levels, and ours.
const LEVELS: [(&str, LevelFilter); 7] = [
    ("off", LevelFilter::OFF),
    ("emer", LevelFilter::ERROR),
    ("err", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("dbg", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

pub(super) fn list(cx: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    let mut text =
        "                 console    syslog    file\n                 -------    ------    ------\n".to_owned();
    let others = cx.log.targets().filter(|t| !MODULES.iter().any(|(_, target)| target == t)).map(|t| (t, t));
    for (name, target) in MODULES.into_iter().chain(others) {
        let level = cx.log.level(target);
        // The first that is not "emer", which is the same to us.
        let word = LEVELS.iter().filter(|(word, _)| *word != "emer").find(|(_, l)| *l == level);
        let word = word.map(|(word, _)| word.to_uppercase()).unwrap_or_default();
        let _ = writeln!(text, "{name:<16}  {word:>4}        OFF        OFF");
    }
    Ok(text)
}

pub(super) fn set(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    for spec in args {
        if spec.contains('=') {
            cx.log.replace(spec)?;
        } else if let Some((target, level)) = parse(spec)? {
            cx.log.set(target, level)?;
        }
        info!("log levels set to {spec}");
    }
    Ok(String::new())
}

/// The target and level that `spec` sets, if it sets any.
fn parse(spec: &str) -> Result<Option<(&'static str, LevelFilter)>, String> {
    let (mut module, mut destination, mut level) = (None, None, None);
    let once =
        |already: bool, what: &str| if already { Err(format!("cannot specify multiple {what}")) } else { Ok(()) };
    for word in spec.split([' ', ',', ':']).filter(|w| !w.is_empty()) {
        let lower = word.to_lowercase();
        if ["pattern", "facility"].contains(&lower.as_str()) && (module, destination, level) == (None, None, None) {
            return Err(format!("{word}: the log has one format, that of standard error; there is nothing to set"));
        }
        if lower == "any" {
        } else if let Some(d) = DESTINATIONS.iter().find(|d| **d == lower) {
            once(destination.replace(*d).is_some(), "destinations")?;
        } else if let Some((_, l)) = LEVELS.iter().find(|(w, _)| *w == lower) {
            once(level.replace(*l).is_some(), "levels")?;
        } else if let Some((_, target)) = MODULES.iter().find(|(m, _)| *m == lower) {
            once(module.replace(*target).is_some(), "modules")?;
        } else {
            return Err(format!("no destination, level, or module \"{word}\""));
        }
    }
    let level = level.unwrap_or(LevelFilter::DEBUG);
    match destination {
        None | Some("console") => Ok(Some((module.unwrap_or_default(), level))),
        Some(_) if level == LevelFilter::OFF => Ok(None),
        Some(none) => Err(format!(
            "there is no destination {none}: all is logged to standard error, which is \"console\"; leave {none} out"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_as_open_vswitch_reads_them() {
        for (spec, set) in [
            ("dbg", ("", LevelFilter::DEBUG)),
            ("any:any:err", ("", LevelFilter::ERROR)),
            ("ANY:console:Emer", ("", LevelFilter::ERROR)),
            ("netlink:console:info", ("vswitch::netlink", LevelFilter::INFO)),
            ("info netlink", ("vswitch::netlink", LevelFilter::INFO)),
            ("ovsdb_server,off", ("ovsdb::server", LevelFilter::OFF)),
            ("worker", ("datapath::worker", LevelFilter::DEBUG)),
            ("console", ("", LevelFilter::DEBUG)),
            ("", ("", LevelFilter::DEBUG)),
            ("any::trace", ("", LevelFilter::TRACE)),
        ] {
            assert_eq!(parse(spec), Ok(Some(set)), "{spec}");
        }
        assert_eq!(parse("any:syslog:off"), Ok(None), "it is off");
        for (spec, why) in [
            ("foo", "no destination, level, or module \"foo\""),
            ("netlink:nowhere:dbg", "no destination, level, or module \"nowhere\""),
            ("a:b:c", "no destination, level, or module \"a\""),
            ("file:console", "cannot specify multiple destinations"),
            ("dbg:info", "cannot specify multiple levels"),
            ("netlink:worker", "cannot specify multiple modules"),
            ("PATTERN:file:x", "PATTERN: the log has one format"),
            ("facility:daemon", "facility: the log has one format"),
            ("file:dbg", "there is no destination file: all is logged to standard error"),
        ] {
            let told = parse(spec).unwrap_err();
            assert!(told.starts_with(why), "{spec}: {told}");
        }
    }

    #[test]
    fn modules_are_sorted_and_known_by_one_short_name() {
        assert!(MODULES.is_sorted_by(|a, b| a.0 < b.0));
        let taken =
            |name: &str| DESTINATIONS.contains(&name) || LEVELS.iter().any(|(l, _)| *l == name) || name == "any";
        for (name, target) in MODULES {
            assert!(name.len() <= 16 && !taken(name), "{name}");
            assert!(["vswitch", "ovsdb", "datapath"].contains(&target.split("::").next().unwrap()), "{target}");
        }
    }
}
