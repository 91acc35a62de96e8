//! What is logged: levels by module, changed while the daemon runs.
//!
//! A *target* is a module's path, as in `ovsdb::server`; a level set for one holds for the modules below it, too, unless
//! they have their own. Everything goes to standard error, one line an event.

use std::collections::BTreeMap;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::reload;

/// The layer's filter that [`Log`] changes.
pub type Filter = reload::Layer<Targets, Registry>;

/// The levels in force.
#[derive(Debug)]
pub struct Log {
    /// By target; the empty one is for all others.
    levels: BTreeMap<String, LevelFilter>,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Levels as in `--log`: a level, or levels by module as in `info,ovsdb=debug`. The filter is for the subscriber.
    pub fn new(text: &str) -> Result<(Log, Filter), String> {
        let levels = parse(text)?;
        let (filter, handle) = reload::Layer::new(targets(&levels));
        Ok((Log { levels, filter: handle }, filter))
    }

    /// The level in force for a target.
    #[must_use]
    pub fn level(&self, target: &str) -> LevelFilter {
        let fitting = self.levels.iter().filter(|(t, _)| target.starts_with(t.as_str()));
        fitting.max_by_key(|(t, _)| t.len()).map_or(LevelFilter::OFF, |(_, level)| *level)
    }

    /// The targets that have a level of their own.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.levels.keys().map(String::as_str).filter(|t| !t.is_empty())
    }

    /// Sets the level of a target and all below it; of everything, if it is empty.
    pub fn set(&mut self, target: &str, level: LevelFilter) -> Result<(), String> {
        let mut levels = self.levels.clone();
        levels.retain(|t, _| !t.starts_with(target));
        levels.insert(target.to_owned(), level);
        self.reload(levels)
    }

    /// Sets all levels, as [`Log::new`] does.
    pub fn replace(&mut self, text: &str) -> Result<(), String> {
        self.reload(parse(text)?)
    }

    fn reload(&mut self, levels: BTreeMap<String, LevelFilter>) -> Result<(), String> {
        self.filter.reload(targets(&levels)).map_err(|e| format!("the log's levels cannot be changed: {e}"))?;
        self.levels = levels;
        Ok(())
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, LevelFilter>, String> {
    let hint = "use a level (error, warn, info, debug, trace, off) or 'info,ovsdb=debug'";
    let parsed: Targets = text.parse().map_err(|e| format!("'{text}': {e}; {hint}"))?;
    let mut levels: BTreeMap<_, _> = parsed.iter().map(|(target, level)| (target.to_owned(), level)).collect();
    // A lone word is a target to the parser: a mistyped level would silence everything.
    let level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').map(str::trim).find(|w| !w.contains('=') && !level(w)) {
        return Err(format!("'{word}' is not a level; {hint}"));
    }
    levels.insert(String::new(), parsed.default_level().unwrap_or(LevelFilter::OFF));
    Ok(levels)
}

fn targets(levels: &BTreeMap<String, LevelFilter>) -> Targets {
    let rest = levels.get("").copied().unwrap_or(LevelFilter::OFF);
    let own = levels.iter().filter(|(target, _)| !target.is_empty());
    Targets::new().with_default(rest).with_targets(own.map(|(target, level)| (target.clone(), *level)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    /// What the subscriber's filter lets through.
    fn passes(filter: &Filter, log: &Log, target: &str, level: Level) -> bool {
        let _ = filter;
        log.filter.with_current(|targets| targets.would_enable(target, &level)).unwrap()
    }

    #[test]
    fn levels_hold_for_a_target_and_those_below_it() {
        let (log, filter) = Log::new("info,ovsdb=debug,ovsdb::server=error").unwrap();
        for (target, level) in [
            ("vswitch::daemon", LevelFilter::INFO),
            ("ovsdb::db::store", LevelFilter::DEBUG),
            ("ovsdb::server::listen", LevelFilter::ERROR),
        ] {
            assert_eq!(log.level(target), level, "{target}");
            let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            assert!(all.iter().all(|&l| passes(&filter, &log, target, l) == (l <= level)), "{target}");
        }
        assert_eq!(log.targets().collect::<Vec<_>>(), ["ovsdb", "ovsdb::server"]);
        assert_eq!(Log::new("ovsdb=debug").unwrap().0.level("vswitch"), LevelFilter::OFF);
    }

    #[test]
    fn setting_a_level_takes_those_below_it_along() {
        let (mut log, filter) = Log::new("warn,ovsdb::server=trace,datapath=error").unwrap();
        log.set("ovsdb", LevelFilter::INFO).unwrap();
        assert_eq!(log.level("ovsdb::server"), LevelFilter::INFO);
        assert_eq!((log.level("datapath"), log.level("vswitch")), (LevelFilter::ERROR, LevelFilter::WARN));
        assert!(passes(&filter, &log, "ovsdb::server", Level::INFO) && !passes(&filter, &log, "ovsdb", Level::DEBUG));
        log.set("", LevelFilter::DEBUG).unwrap();
        assert_eq!((log.targets().count(), log.level("datapath")), (0, LevelFilter::DEBUG));
        assert!(passes(&filter, &log, "datapath", Level::DEBUG));
        log.replace("off").unwrap();
        assert!(!passes(&filter, &log, "datapath", Level::ERROR));
    }

    #[test]
    fn what_is_no_filter_is_refused_and_changes_nothing() {
        let (mut log, _filter) = Log::new("info").unwrap();
        for (text, why) in [
            ("inof", "'inof' is not a level; use a level"),
            ("info,ovsdb", "'ovsdb' is not a level"),
            ("ovsdb=loud", "'ovsdb=loud': "),
            ("", "'' is not a level"),
        ] {
            let told = log.replace(text).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        assert_eq!(log.level("ovsdb"), LevelFilter::INFO);
        let (mut log, _) = Log::new("info").unwrap();
        let told = log.set("", LevelFilter::DEBUG).unwrap_err();
        assert!(told.starts_with("the log's levels cannot be changed: "), "without a subscriber: {told}");
        assert_eq!(log.level(""), LevelFilter::INFO);
    }
}
