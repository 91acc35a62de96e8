//! Many runs at the same time: each reads, decides and writes, and starts over when somebody was in between.

mod harness;

use harness::Server;

const RUNS: usize = 30;

#[test]
fn thirty_runs_add_ports_at_once() {
    let server = Server::ours();
    assert_eq!(server.vsctl(&["--no-wait", "add-br", "br0"]).code, 0);
    std::thread::scope(|scope| {
        for n in 0..RUNS {
            let server = &server;
            scope.spawn(move || {
                let port = format!("p{n}");
                let ran = server.vsctl(&["--no-wait", "--timeout=60", "add-port", "br0", &port, "tag=7"]);
                assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""), "{port}");
            });
        }
    });
    let mut expected: Vec<String> = (0..RUNS).map(|n| format!("p{n}")).collect();
    expected.sort();
    assert_eq!(server.vsctl(&["list-ports", "br0"]).out.lines().collect::<Vec<_>>(), expected);
}
