//! The manual page, in roff's man macros, from the same tables as the help.

use crate::command::{Command, FAMILIES, Opt};
use crate::globals::{self, DEFAULT_SOCKET, GlobalOption, WITHOUT_EFFECT};
use crate::help::{EXAMPLES, EXIT_CODES, PURPOSE, SPEC};
use crate::itself;

/// The page `vsctl(1)`.
pub(crate) fn page() -> String {
    let mut page = Page::default();
    page.line(&format!(r#".TH VSCTL 1 "" "vswitch {}" "vswitch""#, env!("CARGO_PKG_VERSION")));
    page.section("NAME");
    page.text("vsctl - configure a vswitch");
    page.section("SYNOPSIS");
    page.line(r"\fBvsctl\fR [\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...");
    page.line(r"[\fB\-\-\fR [\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...]...");
    page.section("DESCRIPTION");
    page.text(PURPOSE);
    page.paragraph();
    page.text(
        "Commands and their options are those of ovs-vsctl(8), so what is written for that works here. Options of a \
         command stand directly before its name.",
    );
    page.section("OPTIONS");
    page.text("These stand before the first command, and may be abbreviated.");
    globals::grammar().get_arguments().filter_map(GlobalOption::of).for_each(|option| page.global(&option));
    page.paragraph();
    page.text(SPEC);
    page.paragraph();
    page.text("Accepted without effect, for scripts that were written for ovs-vsctl:");
    let names: Vec<String> = WITHOUT_EFFECT.iter().map(|(name, ..)| bold(&format!("--{name}"))).collect();
    page.line(&format!("{}.", names.join(", ")));
    page.section("COMMANDS");
    for family in FAMILIES {
        page.line(&format!(".SS \"{}\"", escape(family.title)));
        family.commands.iter().for_each(|command| page.command(command));
    }
    page.line(".SS \"Without a switch\"");
    for command in &itself::COMMANDS {
        page.entry("", command.name, command.args, &sentence(command.summary));
        page.more(command.help);
        page.examples(command.examples);
    }
    page.section("EXIT STATUS");
    EXIT_CODES.iter().for_each(|(code, meaning)| page.tagged(&bold(&code.to_string()), &sentence(meaning)));
    page.section("ENVIRONMENT");
    page.tagged(&bold("VSWITCH_SOCKET"), "The switch's socket, unless --socket or --db names it.");
    page.section("FILES");
    page.tagged(&escape(DEFAULT_SOCKET), "The switch's socket, unless another is named.");
    page.section("EXAMPLES");
    page.code(EXAMPLES);
    page.section("SEE ALSO");
    page.line(r"\fBvswitch\fR(8), \fBovs\-vsctl\fR(8), \fBovsdb\fR(7)");
    page.0
}

/// roff as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A line that is roff already.
    fn line(&mut self, roff: &str) {
        self.0 += roff;
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    fn paragraph(&mut self) {
        self.line(".PP");
    }

    /// Lines that run on.
    fn text(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(&escape(line)));
    }

    fn tagged(&mut self, tag: &str, text: &str) {
        self.line(".TP");
        self.line(tag);
        self.text(text);
    }

    fn global(&mut self, option: &GlobalOption) {
        let short = option.short.map(|short| format!("{}, ", bold(&format!("-{short}")))).unwrap_or_default();
        let value = match option.value.as_deref() {
            None => String::new(),
            Some(value) if option.value_is_optional => format!("[={}]", italic(value)),
            Some(value) => format!("={}", italic(value)),
        };
        let tag = format!("{short}{}{value}", bold(&format!("--{}", option.long)));
        self.tagged(&tag, &sentence(&option.help));
    }

    fn command(&mut self, command: &Command) {
        let options: String = command.options.iter().map(|option| format!("[{}] ", synopsis(option))).collect();
        self.entry(&options, command.name, command.args, &sentence(command.summary));
        self.more(command.help);
        for option in command.options {
            self.line(".RS");
            self.tagged(&synopsis(option), &sentence(option.help));
            self.line(".RE");
        }
        self.examples(command.examples);
    }

    fn entry(&mut self, options: &str, name: &str, args: &str, text: &str) {
        let args = if args.is_empty() { String::new() } else { format!(" {}", italic(args)) };
        self.tagged(&format!("{options}{}{args}", bold(name)), text);
    }

    /// Paragraphs; lines that are indented are kept as they are.
    fn more(&mut self, text: &str) {
        let mut kept = false;
        let mut is_new = true;
        for line in text.lines() {
            let indented = line.starts_with("  ");
            if indented != kept {
                self.line(if indented { ".IP\n.nf" } else { ".fi\n.IP" });
            } else if is_new && !line.is_empty() {
                self.line(".IP");
            }
            kept = indented;
            is_new = line.is_empty();
            if !line.is_empty() {
                self.line(&escape(line));
            }
        }
        if kept {
            self.line(".fi");
        }
    }

    fn examples(&mut self, lines: &[&str]) {
        self.line(".IP");
        self.code(lines);
    }

    fn code(&mut self, lines: &[&str]) {
        self.line(".nf");
        lines.iter().for_each(|line| self.line(&bold(line)));
        self.line(".fi");
    }
}

fn synopsis(option: &Opt) -> String {
    match option.value {
        Some(value) => format!("{}={}", bold(option.name), italic(value)),
        None => bold(option.name),
    }
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escape(text))
}

/// A summary begins small and has no full stop.
fn sentence(summary: &str) -> String {
    let mut chars = summary.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

/// Text that roff takes for nothing else; a `-` stays one that can be copied into a shell.
fn escape(text: &str) -> String {
    let text = text
        .replace('…', "...")
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    #[test]
    fn everything_is_on_the_page() {
        let page = page();
        for command in command::all() {
            let tag = format!("{} ", bold(command.name)).replace(" ", if command.args.is_empty() { "\n" } else { " " });
            assert!(page.contains(&tag), "{}", command.name);
            for line in command.examples {
                assert!(page.contains(&format!("\n{}\n", bold(line))), "{line}");
            }
        }
        for arg in globals::grammar().get_arguments().filter(|arg| !arg.is_hide_set()) {
            let long = arg.get_long().expect("a long name");
            assert!(page.contains(&bold(&format!("--{long}"))), "{long}");
        }
    }

    #[test]
    fn roff() {
        assert_eq!(escape(".a\\b-'c'"), "\\&.a\\eb\\-\\(aqc\\(aq");
        assert_eq!(sentence("print it"), "Print it.");
        let mut page = Page::default();
        page.more("One\ntwo.\n\nThree:\n  a  b\n  c\nFour.");
        assert_eq!(page.0, ".IP\nOne\ntwo.\n.IP\nThree:\n.IP\n.nf\n  a  b\n  c\n.fi\n.IP\nFour.\n");
    }

    #[test]
    fn groff_has_nothing_to_warn_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), page()).unwrap();
        let mut groff = std::process::Command::new("groff");
        match groff.args(["-man", "-Tutf8", "-z", "-ww"]).arg(file.path()).output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stderr), ""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
