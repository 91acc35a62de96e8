//! The control socket, for looking into the running switch: what `ovs-appctl -t PATH COMMAND` talks to.
//!
//! JSON-RPC 1.0 as Open vSwitch's daemons speak it: the method is the command, parameters are strings, the result is text
//! for people, an error is a string. It only inspects and flushes (and sets what is logged, and ends the daemon): all
//! configuration goes through the database, also when the wish for it comes in here ([`edit`]).
//!
//! Commands run on the daemon's thread, one at a time, between its other events; sessions are tasks of the database's
//! listener, with its limits. Whoever can open the socket (root and its group) may do all of this; what he sends is
//! bounded by the listener, and a request that is not understood is answered or ends his connection, nothing else.

mod assist;
pub mod command;
pub mod coverage;
mod doctor;
mod drops;
pub mod edit;
mod fdb;
mod umem;
mod vlog;
mod workers;

use crate::config::{Bridge, Config};
use crate::log::Log;
pub use command::{Context, Exit};
use coverage::{Count, Coverage};
use datapath::control::Datapath;
use edit::Edit;
use ovsdb::jsonrpc::Message;
use ovsdb::server::{Listener, Outbox, SessionEvent, SessionId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use uuid::Uuid;

/// Session events waiting for the loop; sessions wait when there are more.
const QUEUE: usize = 16;
/// How long the last reply may take to reach who asked for the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// What commands look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What was asked for.
    pub config: &'a Config,
    /// What forwards.
    pub datapath: &'a Datapath,
    /// Port numbers by interface row.
    pub ofports: &'a BTreeMap<Uuid, u16>,
}

/// The bridge that the first argument names.
fn bridge<'a>(view: &View<'a>, args: &[&str]) -> Result<&'a Bridge, String> {
    let named = view.config.bridges.iter().find(|b| args.first() == Some(&b.name.as_str()));
    named.ok_or_else(|| "no such bridge".to_owned())
}

/// The bridge named, or all if none is.
fn bridges<'a>(view: &View<'a>, args: &[&str]) -> Result<Vec<&'a Bridge>, String> {
    if args.is_empty() { Ok(view.config.bridges.iter().collect()) } else { Ok(vec![bridge(view, args)?]) }
}

/// The control socket and those connected to it.
pub struct Control {
    listener: JoinHandle<()>,
    events: mpsc::Receiver<SessionEvent>,
    sessions: BTreeMap<SessionId, Outbox>,
    log: Log,
    /// What is counted.
    pub coverage: Coverage,
}

impl Control {
    /// Serves `listener`.
    #[must_use]
    pub fn new(listener: Listener, log: Log, now: Instant) -> Control {
        let (to, events) = mpsc::channel(QUEUE);
        let listener = tokio::spawn(listener.run(to));
        Control { listener, events, sessions: BTreeMap::new(), log, coverage: Coverage::new(now) }
    }

    /// Waits for an event, to be given to [`Control::take`]. Dropping the future loses none.
    pub async fn next(&mut self) -> SessionEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The listener has ended, and all sessions: nobody will ever come.
            None => std::future::pending().await,
        }
    }

    /// Takes an event in and answers it; returns what the daemon itself has to do before there is an answer.
    pub fn take(&mut self, event: SessionEvent, view: View<'_>) -> Option<Demand> {
        match event {
            SessionEvent::Opened { session, out, peer } => {
                debug!("{session} ({peer}): connected");
                self.sessions.insert(session, out);
            }
            SessionEvent::Message { session, message: Message::Request { id, method, params } } => {
                debug!("{session}: {method} {params:?}");
                self.coverage.count(Count::ControlRequest);
                let mut cx = Context {
                    view,
                    log: &mut self.log,
                    coverage: &self.coverage,
                    exit: None,
                    edit: None,
                    examine: None,
                };
                let result = command::run(&mut cx, &method, &params);
                match (cx.exit, cx.edit, cx.examine, result) {
                    (Some(exit), ..) => return Some(Demand::End(Farewell { exit, session, id })),
                    (None, Some(edit), _, Ok(says)) => return Some(Demand::Edit(edit, Caller { session, id, says })),
                    (None, None, Some(bridges), Ok(says)) => {
                        return Some(Demand::Examine(bridges, Caller { session, id, says }));
                    }
                    (None, _, _, result) => self.reply(session, id, result),
                }
            }
            SessionEvent::Message { session, .. } => self.refuse(session, "it sent something that is no request"),
            SessionEvent::Garbage { session, error } => self.refuse(session, &error.to_string()),
            SessionEvent::Closed { session } => drop(self.sessions.remove(&session)),
        }
        None
    }

    /// Answers who asked for an edit, when it is made.
    pub fn answer(&mut self, caller: Caller, made: Result<(), String>) {
        self.reply(caller.session, caller.id, made.map(|()| caller.says));
    }

    /// Answers who asked for an examination, with what it brought.
    pub fn tell(&mut self, caller: Caller, found: Result<String, String>) {
        self.reply(caller.session, caller.id, found);
    }

    fn reply(&mut self, session: SessionId, id: Value, result: Result<String, String>) {
        let result = result.map(|text| json!(line(text))).map_err(|text| json!(line(text)));
        let message = Message::Reply { id, result }.encode();
        if let Some(Err(error)) = self.sessions.get(&session).map(|out| out.send(message)) {
            self.refuse(session, &format!("{error:?}"));
        }
    }

    fn refuse(&mut self, session: SessionId, why: &str) {
        if self.sessions.remove(&session).is_some() {
            warn!("{session}: control connection closed: {why}");
        }
    }

    /// Ends the listener, which takes the socket's file with it; then answers who asked for the end.
    pub async fn close(mut self, farewell: Option<Farewell>) {
        self.listener.abort();
        let _ = (&mut self.listener).await;
        let Some(Farewell { session, id, .. }) = farewell else { return };
        self.reply(session, id, Ok(String::new()));
        // Closes the connection when the reply is sent.
        self.sessions.clear();
        let sent = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, SessionEvent::Closed { session: closed } if closed == session) {
                    return;
                }
            }
        };
        if tokio::time::timeout(FAREWELL, sent).await.is_err() {
            debug!("{session}: the last reply was not read");
        }
    }
}

/// What only the daemon can do.
#[derive(Debug)]
pub enum Demand {
    /// To end, answered by [`Control::close`].
    End(Farewell),
    /// To change the configuration, answered by [`Control::answer`].
    Edit(Edit, Caller),
    /// To examine the bridges with these rows, answered by [`Control::tell`].
    Examine(Vec<Uuid>, Caller),
}

/// Who asked for something, and what he is told if an edit is made.
#[derive(Debug)]
pub struct Caller {
    session: SessionId,
    id: Value,
    says: String,
}

/// Who asked for the end, and of what.
#[derive(Debug)]
pub struct Farewell {
    /// What is to be done.
    pub exit: Exit,
    session: SessionId,
    id: Value,
}

/// Text ends with a line feed, unless there is none: clients print it as it is.
fn line(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_ended_once() {
        assert_eq!(["", "a", "a\n"].map(|t| line(t.to_owned())), ["", "a\n", "a\n"]);
    }
}
