//! Commands that need no switch: `help`, `completion`, `man`. They stand alone on their line.

use crate::complete;
use crate::error::{Result, fail};
use crate::{help, man};

/// Such a command.
pub(crate) struct Itself {
    /// What people type.
    pub name: &'static str,
    /// Its arguments, for people.
    pub args: &'static str,
    /// What it does, in half a line.
    pub summary: &'static str,
    /// What else there is to know.
    pub help: &'static str,
    /// Lines to type.
    pub examples: &'static [&'static str],
    /// What it prints.
    pub run: fn(&[String]) -> Result<String>,
}

/// All of them.
pub(crate) static COMMANDS: [Itself; 3] = [
    Itself {
        name: "help",
        args: "[COMMAND]",
        summary: "tell about a command, or print this text",
        help: "",
        examples: &["vsctl help add-port"],
        run: help::about,
    },
    Itself {
        name: "completion",
        args: "bash|zsh|fish",
        summary: "print the script by which a shell completes vsctl lines",
        help: "\
The shell then also offers the names of bridges, ports and records that the running switch has, and
devices of this host for 'add-port'. It asks vsctl for them, which waits half a second at most.",
        examples: &[
            "vsctl completion bash > /etc/bash_completion.d/vsctl",
            "vsctl completion zsh > /usr/share/zsh/vendor-completions/_vsctl",
            "vsctl completion fish > /usr/share/fish/vendor_completions.d/vsctl.fish",
        ],
        run: |args| match args {
            [shell] => complete::script(shell),
            _ => fail!("completion takes the name of a shell: bash, zsh or fish"),
        },
    },
    Itself {
        name: "man",
        args: "",
        summary: "print vsctl's manual page as man reads it",
        help: "",
        examples: &["vsctl man > /usr/local/share/man/man1/vsctl.1", "vsctl man | man -l -"],
        run: |args| match args {
            [] => Ok(man::page()),
            _ => fail!("man takes no arguments"),
        },
    },
];

/// The command of this name.
pub(crate) fn find(name: &str) -> Option<&'static Itself> {
    COMMANDS.iter().find(|command| command.name == name)
}
