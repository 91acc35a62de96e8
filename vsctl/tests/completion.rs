//! Completion in real shells, with names from a running server. Shells that are not installed are skipped.

mod harness;

use std::path::Path;
use std::process::Command;

use harness::{Server, run, vsctl};

/// A server with something to complete.
fn server() -> Server {
    let server = Server::ours();
    let line = "--no-wait add-br br0 -- add-br 'a b' -- add-port br0 p1 -- add-port br0 p2 -- \
        set interface p1 options:odd-key=1 -- set open . iface_types=internal,vxlan -- \
        --id=@q create queue -- --id=@s create qos type=x queues:1=@q -- set port p1 qos=@s";
    let words: Vec<String> = line.split(' ').map(|word| word.replace('\'', "")).collect();
    // The bridge with a blank in its name has two words here, "a" and "b".
    let mut joined: Vec<&str> = Vec::new();
    for word in &words {
        match word.as_str() {
            "b" => *joined.last_mut().expect("a word") = "a b",
            word => joined.push(word),
        }
    }
    let made = server.vsctl(&joined);
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    server
}

/// The shell, ready to run a script that is to be completed by our program.
fn shell(name: &str, server: &Server) -> Option<Command> {
    let mut command = Command::new(name);
    if command.arg("--version").output().is_err() {
        eprintln!("SKIPPED: no {name} on the path");
        return None;
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_vsctl")).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:{path}", ours.display())).env("VSWITCH_SOCKET", server.socket());
    command.env("HOME", server.socket().parent().expect("a directory"));
    Some(command)
}

fn words(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect()
}

/// What is offered by the running switch, the same in all shells: the line, and the words in place of the last.
const LIVE: [(&str, &[&str]); 13] = [
    ("vsctl list-po", &["list-ports"]),
    ("vsctl del-port br0 ", &["p1", "p2"]),
    ("vsctl --no-wait port-to-br p", &["p1", "p2"]),
    ("vsctl iface-to-br p1", &["p1"]),
    ("vsctl list interface p", &["p1", "p2"]),
    ("vsctl get qos ", &["p1"]),
    ("vsctl list open_vswitch .", &["."]),
    ("vsctl list-br -- br-exists br", &["br0"]),
    ("vsctl remove open . iface_types v", &["vxlan"]),
    ("vsctl --db=unix:/nonexistent list-ports ", &[]),
    ("vsctl mtu br", &["br0"]),
    ("vsctl drops --follow br", &["br0"]),
    ("vsctl drops br0 --fol", &["--follow"]),
];

#[test]
fn bash() {
    let server = server();
    let ask = |line: &str| {
        let mut bash = shell("bash", &server)?;
        let script = r#"source <(vsctl completion bash); compopt() { printf "compopt"; printf " %s" "$@"; echo; }
            COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'; _vsctl vsctl
            printf '%s|\n' "${COMPREPLY[@]}""#;
        let ran = run(bash.args(["--norc", "-c", script, "bash", line]));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        Some(ran.out)
    };
    for (line, expected) in LIVE {
        let Some(out) = ask(line) else { return };
        let words: Vec<&str> = out.lines().skip(1).map(|word| word.trim_end_matches([' ', '|'])).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(words, expected, "{line}");
    }
    let told = |line| ask(line).unwrap_or_default();
    assert_eq!(told("vsctl add-por"), "compopt -o nospace\nadd-port |\n");
    assert_eq!(told("vsctl list-ports a"), "compopt -o nospace\na\\ b |\n");
    assert_eq!(told("vsctl list-ports a\\ "), "compopt -o nospace\na\\ b |\n");
    // bash keeps what stands before a ':' or a '='.
    assert_eq!(told("vsctl set interface p1 options:od"), "compopt -o nospace\nodd-key=|\n");
    assert_eq!(told("vsctl set interface p1 type=v"), "compopt -o nospace\nvxlan |\n");
    assert_eq!(told("vsctl set-ssl k"), "compopt -o default\n|\n");
}

#[test]
fn fish() {
    let server = server();
    for (line, expected) in LIVE {
        let Some(mut fish) = shell("fish", &server) else { return };
        let script = "vsctl completion fish | source; complete -C \"$argv[1]\"";
        let ran = run(fish.args(["--no-config", "-c", script, line]));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        let words: Vec<&str> = words(&ran.out).iter().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words, expected, "{line}");
    }
}

/// zsh completes only at a prompt, so it gets one on a terminal of its own.
#[test]
fn zsh() {
    let server = server();
    let dir = server.socket().parent().expect("a directory").to_owned();
    let script = run(vsctl().args(["completion", "zsh"])).out;
    std::fs::write(dir.join("_vsctl"), script).expect("the script is written");
    let driver = r#"
        zmodload zsh/zpty
        zpty -b prompt zsh -f -i
        zpty -w prompt "PS1=; fpath=($HOME \$fpath); autoload -Uz compinit; compinit -u -d $HOME/dump"
        zpty -w prompt 'stop() { print -r -- "<$BUFFER>"; zle kill-whole-line }; zle -N stop'
        zpty -w prompt 'bindkey "^X" stop; bindkey "^I" complete-word; print ready'
        zpty -r prompt out $'*\r\nready*' || exit 1
        for line in "$@"; do
            zpty -w -n prompt "$line"$'\t\x18'
            zpty -r prompt out '*<*>*' || exit 1
            print -r -- "${${out##*<}%%>*}"
        done
        zpty -d prompt"#;
    // What is left on the line after Tab.
    let lines = [
        ("vsctl list-po", "vsctl list-ports "),
        ("vsctl --db=unix:/nonexistent list-ports b", "vsctl --db=unix:/nonexistent list-ports b"),
        ("vsctl list-br -- br-exists br", "vsctl list-br -- br-exists br0 "),
        ("vsctl set interface p1 options:od", "vsctl set interface p1 options:odd-key="),
        ("vsctl set interface p1 type=v", "vsctl set interface p1 type=vxlan "),
        ("vsctl list-ports a", "vsctl list-ports a\\ b "),
        ("vsctl del-port br0 ", "vsctl del-port br0 p"),
    ];
    let Some(mut zsh) = shell("zsh", &server) else { return };
    let ran = run(zsh.args(["-f", "-c", driver, "zsh"]).args(lines.map(|(line, _)| line)).env("TERM", "dumb"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    let completed: Vec<&str> = ran.out.lines().collect();
    assert_eq!(completed, lines.map(|(_, completed)| completed));
}
