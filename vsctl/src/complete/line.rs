//! Lines as shells hand them over and want candidates back.

use super::Candidate;

/// The words of a bash line up to the cursor, without the program's name; the last is the one at the cursor. And
/// whether that has an open quote.
pub(super) fn split(text: &str, program: &str) -> (Vec<String>, bool) {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut();
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.into_iter().for_each(|word| word.push(c)),
            (None, '\'' | '"') => quote = Some(c),
            (_, '\\') => word.into_iter().for_each(|word| word.extend(chars.next())),
            (None, ' ' | '\t' | '\n') => {
                if word.is_some_and(|word| !word.is_empty()) {
                    words.push(String::new());
                }
            }
            (_, c) => word.into_iter().for_each(|word| word.push(c)),
        }
    }
    let before = words.iter().position(|word| word == program).map_or(1, |at| at + 1);
    words.drain(..before.min(words.len() - 1));
    (words, quote.is_some())
}

/// How much of the word bash keeps as it is: it completes only what is behind the last of its word breaks, an `@`
/// included.
fn kept_by_bash(word: &str, breaks: &str) -> usize {
    let is_break = |(_, c): &(usize, char)| breaks.contains(*c) && !"\"' \t\n".contains(*c);
    match word.char_indices().rfind(is_break) {
        Some((at, '@')) => at,
        Some((at, _)) => at + 1,
        None => 0,
    }
}

/// Who asks, and how candidates are printed for it.
pub(super) enum Shell {
    /// bash, which completes `word`, perhaps within quotes, and breaks words at more than blanks.
    Bash { word: String, breaks: String, quoted: bool },
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// Reads a call: who asks, and the words up to the cursor.
    pub(super) fn read(args: &[String]) -> Option<(Shell, Vec<String>)> {
        let (shell, rest) = args.split_first()?;
        match (shell.as_str(), rest) {
            ("bash", [program, text, breaks]) => {
                let (words, quoted) = split(text, program);
                let word = words.last().cloned().unwrap_or_default();
                Some((Shell::Bash { word, breaks: breaks.clone(), quoted }, words))
            }
            ("zsh", words) => Some((Shell::Zsh, words.to_vec())),
            ("fish", words) => Some((Shell::Fish, words.to_vec())),
            _ => None,
        }
    }

    /// A candidate as one line.
    pub(super) fn print(&self, candidate: &Candidate) -> String {
        let Candidate { text, help, open } = candidate;
        match self {
            // bash itself closes a quote.
            Shell::Bash { quoted: true, .. } => text.clone(),
            Shell::Bash { word, breaks, .. } => {
                let rest = text.get(kept_by_bash(word, breaks)..).unwrap_or_default();
                format!("{}{}", escaped(rest), if *open { "" } else { " " })
            }
            // `_describe` takes what is behind the first ':' for the help.
            Shell::Zsh => {
                let kind = if *open { '+' } else { '.' };
                format!("{kind}{}:{help}", text.replace('\\', "\\\\").replace(':', "\\:"))
            }
            Shell::Fish => format!("{text}\t{help}"),
        }
    }
}

/// As bash reads it back.
fn escaped(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.,:=/@+%[]{}".contains(c);
    text.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_bash() {
        for (text, words) in [
            ("vsctl ", &[""][..]),
            ("vsctl", &["vsctl"]),
            ("vsctl add-", &["add-"]),
            ("sudo vsctl  show ", &["show", ""]),
            ("vsctl add-port 'a b' \"c\\\"d\" e\\ f", &["add-port", "a b", "c\"d", "e f"]),
            ("vsctl set port 'a b", &["set", "port", "a b"]),
            ("other list", &["list"]),
            ("", &[""]),
        ] {
            assert_eq!(split(text, "vsctl").0, words, "{text}");
        }
        assert!(split("vsctl 'a", "vsctl").1 && !split("vsctl 'a'", "vsctl").1);
    }

    #[test]
    fn what_bash_keeps() {
        let breaks = " \t\n\"'@><=;|&(:";
        for (word, kept) in [("add", ""), ("tag=", "tag="), ("options:key=5", "options:key="), ("--id=@p", "--id=")] {
            assert_eq!(&word[..kept_by_bash(word, breaks)], kept);
        }
    }

    #[test]
    fn candidates() {
        let colon = Candidate::open("options:key=");
        let command = Candidate::word("a b").with("is");
        let bash = |word: &str, quoted| Shell::Bash { word: word.to_owned(), breaks: ":=".to_owned(), quoted };
        assert_eq!(bash("options:k", false).print(&colon), "key=");
        assert_eq!(bash("a", false).print(&command), "a\\ b ");
        assert_eq!(bash("a", true).print(&command), "a b");
        assert_eq!(Shell::Zsh.print(&colon), "+options\\:key=:");
        assert_eq!(Shell::Zsh.print(&command), ".a b:is");
        assert_eq!(Shell::Fish.print(&colon), "options:key=\t");
        assert_eq!(Shell::Fish.print(&command), "a b\tis");
    }
}
