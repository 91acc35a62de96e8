//! What can go wrong, with the exit code a script sees and the words a person reads.
//!
//! Every message names the value that was refused and, where there is one, the way out.

use std::fmt;

/// The result of everything that can be refused.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a run did not simply succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Refused; nothing changed.
    Failed(String),
    /// `wait-until`: what it waits for is not so.
    NotYet(String),
    /// `br-exists`: there is no such bridge. Says nothing, only exits.
    Absent,
    /// `doctor` has found something. Says nothing more, only exits.
    Found,
    /// Committed, but the switch reports some interface in error. One line each.
    Degraded(Vec<String>),
    /// Patience ran out.
    TimedOut(String),
}

impl Error {
    /// Says which word of the command line the error is about.
    pub(crate) fn at(self, word: &str) -> Error {
        match self {
            Error::Failed(text) => Error::Failed(format!("{word}: {text}")),
            other => other,
        }
    }

    /// The exit code that this error ends the process with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Failed(_) | Error::NotYet(_) | Error::Found => 1,
            Error::Absent => 2,
            Error::Degraded(_) => 65,
            Error::TimedOut(_) => 142,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Failed(text) | Error::NotYet(text) | Error::TimedOut(text) => f.write_str(text),
            Error::Absent | Error::Found => Ok(()),
            Error::Degraded(lines) => f.write_str(&lines.join("\n")),
        }
    }
}

/// Makes an [`Error::Failed`] from a format string.
macro_rules! failed {
    ($($arg:tt)*) => { $crate::error::Error::Failed(format!($($arg)*)) };
}

/// Returns an [`Error::Failed`] made from a format string.
macro_rules! fail {
    ($($arg:tt)*) => { return Err($crate::error::failed!($($arg)*)) };
}

pub(crate) use {fail, failed};

/// `a, b and c` for a message; long lists are cut and say how many were left out.
pub(crate) fn listing<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let words: Vec<&str> = words.into_iter().collect();
    let shown = words.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The candidate that `word` was most likely meant to be, if any is near enough:
/// about one slip for every three letters, or a candidate that begins with the word.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_lowercase().replace('-', "_");
            let begins = word.len() >= 2 && plain.starts_with(&word);
            let slips = if begins { 1 } else { distance(&word, &plain) };
            (slips, candidate)
        })
        .filter(|(slips, _)| *slips <= word.chars().count().div_ceil(3))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Edit distance, counting two swapped neighbours as one slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substitute.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word() {
        let words = ["tag", "trunks", "remote_ip", "mtu_request", "type"];
        assert_eq!(nearest("remoteip", words), Some("remote_ip"));
        assert_eq!(nearest("remote-ip", words), Some("remote_ip"));
        assert_eq!(nearest("tpye", words), Some("type"));
        assert_eq!(nearest("mtu", words), Some("mtu_request"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("x", words), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn listings_are_cut() {
        assert_eq!(listing(["a", "b"]), "a, b");
        let many: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        assert_eq!(listing(many.iter().map(String::as_str)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more");
    }

    #[test]
    fn exit_codes() {
        assert_eq!(failed!("x").exit_code(), 1);
        assert_eq!(Error::Absent.exit_code(), 2);
        assert_eq!(Error::Degraded(vec![]).exit_code(), 65);
        assert_eq!(Error::TimedOut(String::new()).exit_code(), 142);
    }
}
