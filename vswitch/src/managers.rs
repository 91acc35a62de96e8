//! The rows of the table Manager: where clients may connect besides the daemon's own socket.
//!
//! A `ptcp:` or `punix:` target is listened on for as long as its row is there; what is wrong with others stands in
//! their `status`. Rows are told apart by their target, of which the schema allows one each, so a row that is replaced
//! by one with the same target keeps its connections. Runs on the daemon's loop; the listeners are tasks.
//!
//! Whoever may write to the database decides who may connect, as with Open vSwitch: TCP has no authentication.

use crate::status::Rows;
use ovsdb::db::{Database, Row};
use ovsdb::server::{Listener, Remote, Room, Sessions, Target};
use ovsdb::value::Datum;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Targets that are listened on.
const MAX_LISTENERS: usize = 16;
/// Connections of all of them together: besides those of the daemon's own socket, which thus always has room.
const MAX_CONNECTIONS: usize = 128;
/// How long a client on TCP may be silent, unless the row says otherwise.
const PROBE: Duration = Duration::from_secs(5);
/// The shortest patience that a row can ask for.
const SHORTEST_PROBE: Duration = Duration::from_secs(1);
/// The pause before what could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Clients that come and go are written down no more often than this.
const REPORT: Duration = Duration::from_millis(250);

/// All managers.
pub struct Managers {
    sessions: Sessions,
    room: Room,
    by_target: BTreeMap<String, State>,
    retry: Option<Instant>,
    report: Option<Instant>,
    reported: Option<Instant>,
}

enum State {
    Open(Remote),
    /// What happened; it is tried again.
    Failed(String),
    /// Why it will never be.
    Refused(String),
}

impl Managers {
    /// None yet. Clients' words will go to `sessions`.
    #[must_use]
    pub fn new(sessions: Sessions) -> Managers {
        let room = Room::new(MAX_CONNECTIONS);
        Managers { sessions, room, by_target: BTreeMap::new(), retry: None, report: None, reported: None }
    }

    /// Listens on what the rows ask for, and on nothing else any more.
    pub async fn apply(&mut self, database: &Database, now: Instant) {
        let wanted: BTreeMap<&str, Option<Duration>> =
            database.rows("Manager").filter_map(|(_, row)| Some((row.str("target")?, probe(row)))).collect();
        let is_gone = |target: &&String| !wanted.contains_key(target.as_str());
        for target in self.by_target.keys().filter(is_gone).cloned().collect::<Vec<_>>() {
            info!("manager {target}: gone");
            if let Some(state) = self.by_target.remove(&target) {
                state.close().await;
            }
        }
        let again = self.retry.take_if(|at| *at <= now).is_some();
        for (target, probe) in wanted {
            match self.by_target.get(target) {
                Some(State::Open(remote)) => remote.set_probe(probe),
                Some(State::Refused(_)) => {}
                Some(State::Failed(_)) if !again => {}
                old => {
                    let told = matches!(old, Some(State::Failed(_)));
                    let state = self.open(target, probe, told).await;
                    self.by_target.insert(target.to_owned(), state);
                }
            }
        }
        if self.by_target.values().any(|state| matches!(state, State::Failed(_))) {
            self.retry.get_or_insert(now + RETRY);
        }
    }

    async fn open(&self, target: &str, probe: Option<Duration>, told: bool) -> State {
        let parsed = match Target::parse(target) {
            Ok(parsed) => parsed,
            Err(why) => {
                warn!("manager {target}: {why}");
                return State::Refused(why);
            }
        };
        let opened = match self.by_target.values().filter(|state| matches!(state, State::Open(_))).count() {
            0..MAX_LISTENERS => Listener::open(&parsed, &self.room).await.map_err(|e| e.to_string()),
            _ => Err(format!("the switch listens on {MAX_LISTENERS} targets already, its maximum")),
        };
        match opened {
            Ok(listener) => {
                info!("manager {target}: listening");
                State::Open(listener.start(self.sessions.clone(), probe))
            }
            Err(why) => {
                if !told {
                    warn!("manager {target}: {why}; trying again every {} s", RETRY.as_secs());
                }
                State::Failed(why)
            }
        }
    }

    /// Somebody has connected or hung up.
    pub fn stir(&mut self, now: Instant) {
        if !self.by_target.is_empty() {
            let soonest = self.reported.map_or(now, |at| now.max(at + REPORT));
            self.report.get_or_insert(soonest);
        }
    }

    /// When there is something to try or to report.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        [self.retry, self.report].into_iter().flatten().min()
    }

    /// Whether [`Managers::apply`] has something to try again.
    #[must_use]
    pub fn is_retry_due(&self, now: Instant) -> bool {
        self.retry.is_some_and(|at| at <= now)
    }

    /// Whether [`Managers::rows`] is to be written; it is then taken to be done.
    pub fn is_report_due(&mut self, now: Instant) -> bool {
        let due = self.report.take_if(|at| *at <= now).is_some();
        if due {
            self.reported = Some(now);
        }
        due
    }

    /// What there is to say of each row.
    #[must_use]
    pub fn rows(&self, database: &Database) -> Rows {
        let columns = |row: &Row| {
            let (connected, status) = self.by_target.get(row.str("target")?)?.describe();
            Some(BTreeMap::from([("is_connected", Datum::boolean(connected)), ("status", status)]))
        };
        database.rows("Manager").filter_map(|(uuid, row)| Some((("Manager", *uuid), columns(row)?))).collect()
    }

    /// Ends all listening. Afterwards their files are gone and their ports free.
    pub async fn close(self) {
        for state in self.by_target.into_values() {
            state.close().await;
        }
    }
}

impl State {
    /// `is_connected` and `status`, as ovsdb-server(1) fills them.
    fn describe(&self) -> (bool, Datum) {
        let remote = match self {
            State::Open(remote) => remote,
            State::Failed(why) => return (false, Datum::map_of_strings([("state", "BACKOFF"), ("last_error", why)])),
            State::Refused(why) => return (false, Datum::map_of_strings([("state", "VOID"), ("last_error", why)])),
        };
        let count = remote.connections();
        let mut status =
            BTreeMap::from([("sec_since_connect", "0".to_owned()), ("sec_since_disconnect", "0".to_owned())]);
        if let Some(port) = remote.port() {
            status.insert("bound_port", port.to_string());
        }
        if count > 1 {
            status.insert("n_connections", count.to_string());
        }
        (count > 0, Datum::map_of_strings(status))
    }

    async fn close(self) {
        if let State::Open(remote) = self {
            remote.close().await;
        }
    }
}

/// After how much silence clients of this manager are asked for a sign of life.
fn probe(row: &Row) -> Option<Duration> {
    match row.integer("inactivity_probe") {
        None => Some(PROBE),
        Some(0) => None,
        Some(ms) => Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)).max(SHORTEST_PROBE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;
    use serde_json::{Value, json};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use tokio::sync::mpsc;

    /// A database with these managers.
    fn database(rows: &[Value]) -> Database {
        let mut database = Database::new(vswitch_schema());
        let name = |n: usize| format!("m{n}");
        let named: Vec<Value> = (0..rows.len()).map(|n| json!(["named-uuid", name(n)])).collect();
        let insert = |(n, row)| json!({"op": "insert", "table": "Manager", "uuid-name": name(n), "row": row});
        let mut operations: Vec<Value> = rows.iter().enumerate().map(insert).collect();
        let root = json!({"manager_options": ["set", named]});
        operations.push(json!({"op": "insert", "table": "Open_vSwitch", "row": root}));
        let done = database.execute(&operations);
        database.apply(done.prepared.expect("valid"));
        database
    }

    fn targets(targets: &[&str]) -> Database {
        database(&targets.iter().map(|target| json!({ "target": target })).collect::<Vec<_>>())
    }

    /// `is_connected`, and a key of `status`.
    fn shown(managers: &Managers, database: &Database, target: &str, key: &str) -> (bool, Option<String>) {
        let (uuid, _) = database.rows("Manager").find(|(_, row)| row.str("target") == Some(target)).expect("a row");
        let columns = &managers.rows(database)[&("Manager", *uuid)];
        (columns["is_connected"].as_bool().expect("scalar"), columns["status"].get_str(key).map(str::to_owned))
    }

    #[tokio::test]
    async fn rows_are_listened_on_while_they_are_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("m.sock");
        let unix = format!("punix:{}", path.display());
        let (events, mut inbox) = mpsc::channel(64);
        let mut managers = Managers::new(Sessions::from(events));
        let now = Instant::now();
        let both = targets(&["ptcp:0:127.0.0.1", &unix]);
        managers.apply(&both, now).await;
        assert_eq!(shown(&managers, &both, &unix, "sec_since_connect"), (false, Some("0".into())));
        let (_, port) = shown(&managers, &both, "ptcp:0:127.0.0.1", "bound_port");
        let port: u16 = port.expect("shown").parse().expect("a number");
        let clients = [(); 2].map(|()| TcpStream::connect(("127.0.0.1", port)).expect("listening"));
        let client = UnixStream::connect(&path).expect("listening");
        let mut here = Vec::new();
        for _ in 0..3 {
            here.push(inbox.recv().await.expect("somebody comes"));
        }
        assert_eq!(shown(&managers, &both, "ptcp:0:127.0.0.1", "n_connections"), (true, Some("2".into())));
        assert_eq!(shown(&managers, &both, &unix, "n_connections"), (true, None));
        // A target that stays keeps its port and its clients.
        let one = targets(&["ptcp:0:127.0.0.1"]);
        managers.apply(&one, now).await;
        assert_eq!(shown(&managers, &one, "ptcp:0:127.0.0.1", "bound_port"), (true, Some(port.to_string())));
        assert!(!path.exists());
        managers.apply(&targets(&[]), now).await;
        TcpStream::connect(("127.0.0.1", port)).expect_err("no longer listened on");
        assert_eq!(managers.due(), None);
        drop((clients, client, here));
    }

    #[tokio::test]
    async fn what_fails_is_told_and_tried_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let unix = format!("punix:{}", dir.path().join("later/m.sock").display());
        let mut managers = Managers::new(Sessions::from(mpsc::channel(64).0));
        let database = targets(&[&unix, "tcp:192.0.2.1:6640", "pssl:6640", "nonsense"]);
        let now = Instant::now();
        managers.apply(&database, now).await;
        assert_eq!(shown(&managers, &database, &unix, "state"), (false, Some("BACKOFF".into())));
        let error = shown(&managers, &database, &unix, "last_error").1.expect("told");
        assert!(error.ends_with("m.sock: listen: No such file or directory"), "{error}");
        for (target, why) in
            [("tcp:192.0.2.1:6640", "connecting to a manager"), ("pssl:6640", "TLS"), ("nonsense", "not a target")]
        {
            assert_eq!(shown(&managers, &database, target, "state"), (false, Some("VOID".into())));
            let error = shown(&managers, &database, target, "last_error").1.expect("told");
            assert!(error.starts_with(why), "{error}");
        }
        std::fs::create_dir(dir.path().join("later")).expect("possible");
        managers.apply(&database, now + RETRY / 2).await;
        assert_eq!(shown(&managers, &database, &unix, "state").1.as_deref(), Some("BACKOFF"), "not yet");
        assert_eq!(managers.due(), Some(now + RETRY));
        assert!(managers.is_retry_due(now + RETRY));
        managers.apply(&database, now + RETRY).await;
        assert_eq!(shown(&managers, &database, &unix, "state"), (false, None));
        assert_eq!(managers.due(), None);
    }

    #[tokio::test]
    async fn listeners_are_limited_in_number() {
        let dir = tempfile::tempdir().expect("tempdir");
        let all: Vec<String> =
            (10..27).map(|n| format!("punix:{}", dir.path().join(n.to_string()).display())).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut managers = Managers::new(Sessions::from(mpsc::channel(64).0));
        let (now, full) = (Instant::now(), targets(&all));
        managers.apply(&full, now).await;
        let error = shown(&managers, &full, all[16], "last_error").1.expect("told");
        assert_eq!(error, "the switch listens on 16 targets already, its maximum");
        let fewer = targets(&all[1..]);
        managers.apply(&fewer, now + RETRY).await;
        assert_eq!(shown(&managers, &fewer, all[16], "last_error"), (false, None));
        managers.close().await;
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "all files are gone");
    }

    #[test]
    fn patience_is_as_the_row_says() {
        for (column, expected) in [
            (json!({}), Some(5000)),
            (json!({"inactivity_probe": 0}), None),
            (json!({"inactivity_probe": 20}), Some(1000)),
            (json!({"inactivity_probe": -1}), Some(1000)),
            (json!({"inactivity_probe": 30_000}), Some(30_000)),
        ] {
            let database = database(std::slice::from_ref(&column));
            let row = database.rows("Manager").next().expect("a row").1;
            assert_eq!(probe(row), expected.map(Duration::from_millis), "{column}");
        }
    }

    #[test]
    fn comings_and_goings_are_reported_at_a_pace() {
        let mut managers = Managers::new(Sessions::from(mpsc::channel(64).0));
        let now = Instant::now();
        managers.stir(now);
        assert_eq!(managers.due(), None, "nobody asks");
        managers.by_target.insert("x".into(), State::Refused("y".into()));
        managers.stir(now);
        assert!(managers.is_report_due(now) && !managers.is_report_due(now));
        managers.stir(now + REPORT / 2);
        managers.stir(now + REPORT * 3 / 4);
        assert_eq!(managers.due(), Some(now + REPORT));
        assert!(managers.is_report_due(now + REPORT));
        managers.stir(now + 5 * REPORT);
        assert_eq!(managers.due(), Some(now + 5 * REPORT));
    }
}
