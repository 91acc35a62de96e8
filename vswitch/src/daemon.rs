//! The daemon's one loop: events in, a reconciled datapath and true rows out.
//!
//! Everything that changes anything happens here, on one thread and in order: a client's transaction, a change of the
//! host's network, the death of a device, the clock. After each, the configuration is read anew, compared with what the
//! datapath has, and made true; then everything that there is to say is written in one commit. So whoever finds
//! `cur_cfg` at his `next_cfg` finds the rest done, or the reason in `error`.

use crate::Args;
use crate::appctl::coverage::Count;
use crate::appctl::edit::Edit;
use crate::appctl::{Control, Demand, Farewell, View};
use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::mirror::Mirror;
use crate::config::{Config, Notes, Reader};
use crate::doctor;
use crate::log::Log;
use crate::managers::Managers;
use crate::mtu::settle::{Memory, Setting, settle};
use crate::netlink::{Network, watch};
use crate::reconcile::apply::Applier;
use crate::reconcile::desired::{Desired, desired, paths};
use crate::reconcile::ofport::{Claim, assign};
use crate::reconcile::plan::Specs;
use crate::retry::Retry;
use crate::start::{self, wall_clock};
use crate::status::{self, Outcome, Rows};
use crate::told::Told;
use anyhow::Context;
use datapath::control::{Datapath, DatapathConfig, DatapathEvent, WorkersError};
use datapath::types::MacAddr;
use ovsdb::address::control_socket;
use ovsdb::db::Commit;
use ovsdb::db::log::Durability;
use ovsdb::server::{Now, Server, SessionEvent, Sessions};
use ovsdb::value::Datum;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// Session events waiting for the loop; sessions wait when there are more.
const SESSION_QUEUE: usize = 64;
/// How often a reconciliation looks again at what its own actions changed (a TAP comes up when it is opened).
const ROUNDS: usize = 4;

/// What the loop waits for.
#[derive(Debug)]
pub enum Event {
    /// A client of the database.
    Session(SessionEvent),
    /// A client of the control socket.
    Control(SessionEvent),
    /// The host's network.
    Link(Vec<watch::Event>),
    /// Something that the datapath noticed.
    Datapath(DatapathEvent),
    /// Something is due.
    Tick,
    /// The end, and who asked for it.
    Signal(&'static str),
}

/// The switch.
pub struct Daemon {
    server: Server,
    listener: JoinHandle<()>,
    sessions: mpsc::Receiver<SessionEvent>,
    managers: Managers,
    control: Control,
    network: Network,
    datapath: Datapath,
    deaths: mpsc::UnboundedReceiver<DatapathEvent>,
    applier: Applier,
    reader: Reader,
    config: Config,
    /// The last number of every interface, in error or not.
    ofports: BTreeMap<Uuid, u16>,
    /// What is wrong, by the row of the interface or mirror, with a name for that.
    errors: BTreeMap<Uuid, (String, String)>,
    /// The columns that stay as they are.
    fixed: BTreeMap<&'static str, Datum>,
    /// What interfaces' rows say already.
    told: Told,
    /// What MTUs were before.
    mtus: Memory,
    /// Why workers are not as the configuration asks for.
    workers_error: Option<String>,
    last_statistics: Instant,
    retry: Retry,
}

impl Daemon {
    /// Takes the database and the sockets, and makes the datapath what the database says.
    pub async fn open(args: &Args, log: Log) -> anyhow::Result<Daemon> {
        info!("{} starting: socket {}, database {}", status::VERSION, args.socket.display(), args.db.display());
        // Before any device is touched: whoever is refused here has changed nothing.
        let server = start::database(&args.db).await?;
        let listener = start::listener(&args.socket).await?;
        let control = start::listener(&control_socket(&args.socket)).await?;
        let network = Network::open().await.context("cannot follow the network (rtnetlink)")?;
        let mut datapath = Datapath::start(&DatapathConfig::default()).context("cannot start the datapath")?;
        let deaths = start::forward_events(&mut datapath)?;
        // Clients may connect from here on; they are answered when the loop runs.
        let (events, sessions) = mpsc::channel(SESSION_QUEUE);
        let to = Sessions::from(events);
        let listener = tokio::spawn(listener.run(to.clone()));
        let control = Control::new(control, log, Instant::now());
        let fixed = status::fixed_columns(server.database(), start::system());
        // Notes that are there already are to be logged as new ones.
        let config = Config { notes: Notes::new(), ..Config::read(server.database()) };
        let mut daemon = Daemon {
            server,
            listener,
            sessions,
            managers: Managers::new(to),
            control,
            network,
            datapath,
            deaths,
            applier: Applier::default(),
            reader: Reader::default(),
            config,
            ofports: BTreeMap::new(),
            errors: BTreeMap::new(),
            fixed,
            told: Told::default(),
            mtus: Memory::default(),
            workers_error: None,
            last_statistics: Instant::now(),
            retry: Retry::default(),
        };
        daemon.reconcile().await?;
        daemon.statistics();
        info!("ready: {} bridges, {} ports", daemon.config.bridges.len(), daemon.config.interfaces().count());
        Ok(daemon)
    }

    /// Serves until `stop` is done, or somebody asks for the end on the control socket.
    pub async fn run(mut self, mut stop: impl Future<Output = &'static str> + Unpin) -> anyhow::Result<()> {
        loop {
            let due = self.due();
            let event = tokio::select! {
                why = &mut stop => Event::Signal(why),
                events = self.network.next() => Event::Link(events.context("cannot read network events (rtnetlink)")?),
                event = self.deaths.recv() => Event::Datapath(event.context("the datapath has ended")?),
                Some(event) = self.sessions.recv() => Event::Session(event),
                event = self.control.next() => Event::Control(event),
                () = tokio::time::sleep_until(due.into()) => Event::Tick,
            };
            let farewell = match event {
                Event::Signal(why) => {
                    info!("stopping: {why}");
                    None
                }
                Event::Control(event) => {
                    let view = View { config: &self.config, datapath: &self.datapath, ofports: &self.ofports };
                    match self.control.take(event, view) {
                        None => continue,
                        Some(Demand::Edit(edit, caller)) => {
                            let made = self.edit(edit).await?;
                            self.control.answer(caller, made);
                            continue;
                        }
                        Some(Demand::Examine(bridges, caller)) => {
                            let found = self.examine(&bridges).await;
                            self.control.tell(caller, found);
                            continue;
                        }
                        Some(Demand::End(farewell)) => {
                            info!("stopping: asked to on the control socket");
                            Some(farewell)
                        }
                    }
                }
                event => {
                    if self.take(event).await? {
                        self.reconcile().await?;
                    }
                    continue;
                }
            };
            self.end(farewell).await;
            return Ok(());
        }
    }

    /// Makes a change that was asked for on the control socket, and has it carried out.
    async fn edit(&mut self, edit: Edit) -> anyhow::Result<Result<(), String>> {
        let prepared = edit.prepare(self.server.database()).map_err(|e| e.to_string());
        let made = prepared.and_then(|prepared| {
            self.server.commit(prepared, Durability::Synced, wall_clock()).map(drop).map_err(|e| e.to_string())
        });
        if made.is_ok() {
            self.control.coverage.count(Count::Commit);
            self.reconcile().await?;
        }
        Ok(made)
    }

    /// What is wrong with the bridges with these rows, that their rows do not tell.
    async fn examine(&mut self, bridges: &[Uuid]) -> Result<String, String> {
        let hops = self.network.hops(doctor::paths(&self.config, bridges)).await?;
        let merging = self.network.merging(doctor::devices(&self.config, bridges));
        let host = doctor::Host { links: self.network.links(), hops, merging };
        Ok(doctor::report(&self.config, &self.datapath, &host, bridges).to_string())
    }

    /// Lets go of everything, and answers who asked for it when it is gone.
    async fn end(mut self, farewell: Option<Farewell>) {
        self.statistics();
        if farewell.as_ref().is_some_and(|f| f.exit.cleanup) {
            self.applier.apply(&Specs::default(), false, |actions| self.datapath.apply(actions));
        }
        let Daemon { server, listener, managers, control, network, datapath, .. } = self;
        // Takes the socket's file with it.
        listener.abort();
        let _ = listener.await;
        managers.close().await;
        drop((datapath, network, server));
        control.close(farewell).await;
    }

    /// When the loop has something to do by itself.
    fn due(&self) -> Instant {
        let others = [self.retry.at(), self.control.coverage.due(), self.server.next_deadline(), self.managers.due()];
        others.into_iter().flatten().fold(self.statistics_due(), Instant::min)
    }

    fn statistics_due(&self) -> Instant {
        self.last_statistics + self.config.stats_interval
    }

    /// Takes an event in; whether the datapath may have to change.
    async fn take(&mut self, event: Event) -> anyhow::Result<bool> {
        Ok(match event {
            Event::Session(event) => {
                let mut committed = self.handle(event);
                // What waits already is taken with it: one reconciliation for a burst of commits.
                for _ in 1..SESSION_QUEUE {
                    let Ok(event) = self.sessions.try_recv() else { break };
                    committed |= self.handle(event);
                }
                committed
            }
            Event::Link(events) => {
                self.control.coverage.count(Count::NetworkEvent);
                self.network.take(events).await?
            }
            Event::Datapath(DatapathEvent::DeviceDied { port, errno }) => {
                // The worker has logged it.
                debug!("port {port}: its device died, errno {errno}");
                self.control.coverage.count(Count::DeviceLost);
                self.applier.broke(port);
                self.retry.plan(Instant::now());
                false
            }
            Event::Datapath(DatapathEvent::AddressFlaps(flaps)) => {
                warn!("{}", status::flapping(&flaps));
                false
            }
            Event::Datapath(DatapathEvent::TooBig { remote }) => {
                debug!("packets to {remote} are larger than the way there");
                self.network.ask_routes_to(remote).await
            }
            Event::Datapath(DatapathEvent::WorkerEnded { worker }) => {
                anyhow::bail!("worker {worker} of the datapath has ended; its ports would forward nothing any more")
            }
            Event::Tick => self.tick().await,
            Event::Control(_) | Event::Signal(_) => false,
        })
    }

    /// Takes in what a client of the database does; whether it committed anything.
    fn handle(&mut self, event: SessionEvent) -> bool {
        let now = Now::read();
        if matches!(event, SessionEvent::Opened { .. } | SessionEvent::Closed { .. }) {
            self.managers.stir(now.monotonic);
        }
        let commits = self.server.handle(event, now);
        self.count(&commits)
    }

    /// Counts what clients committed; whether there is anything.
    fn count(&mut self, commits: &[Commit]) -> bool {
        commits.iter().for_each(|_| self.control.coverage.count(Count::Commit));
        !commits.is_empty()
    }

    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        // Transactions that waited for what the daemon itself wrote, or whose time is over.
        let commits = self.server.tick(Now::read());
        let mut changed = self.count(&commits);
        changed |= self.retry.is_due(now) | self.managers.is_retry_due(now);
        if self.managers.is_report_due(now) {
            self.write(&self.managers.rows(self.server.database()));
        }
        self.control.coverage.sample(now, &self.datapath);
        if self.statistics_due() <= now {
            changed |= self.datapath.rebalance(now - self.last_statistics);
            self.statistics();
            self.retry.relax();
            // Nobody tells of a path MTU that was learned or forgotten.
            if !self.network.routes().is_empty() {
                self.network.distrust_routes();
                changed = true;
            }
            // Nor of what happens to the other end of a veth.
            changed |= self.network.ask_far_ends_again().await;
        }
        changed
    }

    /// Makes the datapath what the database says, and the database what came of it.
    async fn reconcile(&mut self) -> anyhow::Result<()> {
        self.control.coverage.count(Count::Reconciliation);
        self.network.catch_up().await?;
        self.read_config();
        self.set_workers();
        let mut retry = true;
        let mut wanted = Desired::default();
        for _ in 0..ROUNDS {
            self.network.find_routes(paths(&self.config).collect::<Vec<_>>()).await;
            self.network.find_far_ends(self.config.interfaces().map(|(_, i)| i.name.as_str())).await;
            wanted = desired(&self.config, self.network.links(), self.network.routes());
            self.network.follow_host_rules(wanted.may_send_whole());
            let (links, routes) = (self.network.links(), self.network.routes());
            wanted.set_ways_out(&self.config, links, routes, self.network.host_rules());
            wanted.keep_moved(&self.config, self.network.links(), |spec| self.applier.has_as(spec));
            settle(&self.config, self.network.links(), self.network.spaces(), &mut self.mtus, &mut wanted);
            let new_taps = self.missing_taps();
            self.applier.apply(&wanted.specs, retry, |actions| self.datapath.apply(actions));
            // What is desired follows from the devices that there are: by now perhaps a TAP more, with its address.
            let mut moved = self.network.catch_up().await?;
            if self.set_macs(&new_taps).await | self.set_mtus(&mut wanted).await {
                moved |= self.network.catch_up().await?;
            }
            moved |= self.network.name_spaces(&wanted.unnamed).await;
            retry = false;
            if !moved {
                break;
            }
        }
        if self.applier.has_failures() {
            self.retry.plan(Instant::now());
        }
        self.managers.apply(self.server.database(), Instant::now()).await;
        self.network.find_modes(self.config.interfaces().map(|(_, i)| i.name.as_str()));
        self.report(&wanted);
        Ok(())
    }

    fn read_config(&mut self) {
        let config = self.reader.read(self.server.database());
        if config.notes != self.config.notes {
            config.notes.iter().for_each(|(key, note)| warn!("Open_vSwitch {key}: {note}"));
        }
        self.config = config;
    }

    /// Has as many workers as the configuration asks for, and where; or those there are, and says why.
    fn set_workers(&mut self) {
        let were = self.datapath.worker_cpus();
        let set = |cpus: &Vec<usize>| {
            let why = |e: WorkersError| format!("pmd-cpu-mask: {e}; the workers stay as they are");
            self.datapath.set_workers(cpus).map_err(why)
        };
        let error = self.config.cpus.as_ref().map_err(Clone::clone).and_then(set).err();
        let are = self.datapath.worker_cpus();
        if are != were {
            let place = |cpu: &Option<usize>| cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
            info!("workers: {}, on {}", are.len(), are.iter().map(place).collect::<Vec<_>>().join(", "));
        }
        if let Some(why) = error.as_ref().filter(|_| error != self.workers_error) {
            warn!("Open_vSwitch other_config: {why}");
        }
        self.workers_error = error;
    }

    /// The internal ports whose TAP is still to be made.
    fn missing_taps(&self) -> BTreeSet<Uuid> {
        let internal = self.config.interfaces().filter(|(_, i)| i.is_internal());
        let missing = internal.filter(|(_, i)| self.network.links().by_name(&i.name).is_none());
        missing.map(|(_, i)| i.uuid).collect()
    }

    /// Gives internal ports their hardware addresses: those in `new`, and those that must have a certain one.
    async fn set_macs(&mut self, new: &BTreeSet<Uuid>) -> bool {
        let mut todo: Vec<(u32, &str, MacAddr)> = Vec::new();
        for (_, interface) in self.config.interfaces() {
            if let Ok(Wanted { kind: Kind::Internal { mac, keep }, .. }) = &interface.wanted
                && (*keep || new.contains(&interface.uuid))
                && self.applier.has(&interface.name)
                && let Some(link) = self.network.links().by_name(&interface.name)
                && link.mac != Some(*mac)
            {
                todo.push((link.ifindex, &interface.name, *mac));
            }
        }
        let mut any = false;
        for (ifindex, name, mac) in todo {
            match self.network.set_mac(ifindex, mac).await {
                Ok(()) => any = true,
                Err(why) => warn!("port {name}: cannot set the hardware address {mac}: {why}"),
            }
        }
        any
    }

    /// Gives devices the MTUs that they are to have; whether any has changed. A refusal is told as the interface's error.
    async fn set_mtus(&mut self, wanted: &mut Desired) -> bool {
        let mut any = false;
        for Setting { row, port, ifindex, was, mtu, why } in std::mem::take(&mut wanted.mtus) {
            match self.network.set_mtu(ifindex, mtu).await {
                Ok(()) => {
                    info!("port {port}: MTU {was} → {mtu}: {why}");
                    any = true;
                }
                Err(refused) => {
                    let text = format!(
                        "the kernel refuses MTU {mtu} ({why}) for {port}, which keeps {was}: {refused}; 'ip -d link show dev \
                         {port}' tells minmtu and maxmtu, 'vsctl set interface {port} mtu_request=BYTES' asks for another"
                    );
                    wanted.incomplete.insert(row, text);
                }
            }
        }
        any
    }

    /// Writes what came of a reconciliation, in one commit.
    fn report(&mut self, wanted: &Desired) {
        self.number_ports(wanted);
        let (config, applier, links) = (&self.config, &self.applier, self.network.links());
        let workers = |port: &str| self.datapath.workers_of(port);
        let (ofports, workers_error) = (&self.ofports, self.workers_error.as_deref());
        let outcome = Outcome { config, desired: wanted, applier, links, ofports, workers: &workers, workers_error };
        let all = outcome.interfaces();
        let errors = outcome.errors(&all);
        let known = |(i, basis): &(&Interface, _)| self.told.knows(self.server.database(), &i.uuid, basis);
        let news: Vec<_> = all.into_iter().filter(|interface| !known(interface)).collect();
        let mut rows = outcome.rows(&news);
        for (interface, _) in news.iter().filter(|(_, basis)| basis.error.is_none()) {
            // Counters are there from the start; later on they have their own pace.
            let row = self.server.database().row("Interface", &interface.uuid);
            if row.and_then(|r| r.get("statistics")).is_some_and(Datum::is_empty) {
                self.add_statistics(interface.uuid, &interface.name, &mut rows);
            }
        }
        for (bridge, mirror) in config.mirrors().filter(|(_, m)| !errors.contains_key(&m.uuid)) {
            let row = self.server.database().row("Mirror", &mirror.uuid);
            if row.and_then(|r| r.get("statistics")).is_some_and(Datum::is_empty) {
                self.add_mirror_statistics(&bridge.name, mirror, &mut rows);
            }
        }
        if let Some(root) = config.root {
            rows.entry(("Open_vSwitch", root)).or_default().extend(self.fixed.clone());
        }
        rows.extend(status::controllers(self.server.database()));
        rows.extend(self.managers.rows(self.server.database()));
        let news = news.into_iter().map(|(interface, basis)| (interface.uuid, basis.into_owned())).collect();
        self.log_errors(errors);
        if self.write(&rows) {
            self.told.remember(self.server.database(), news);
        }
    }

    fn number_ports(&mut self, wanted: &Desired) {
        let mut numbers = BTreeMap::new();
        for bridge in &self.config.bridges {
            let claims: Vec<_> = bridge
                .interfaces
                .iter()
                .map(|i| Claim {
                    own: i.own,
                    request: i.ofport_request,
                    last: i.ofport.and_then(|n| u16::try_from(n).ok()).or_else(|| self.ofports.get(&i.uuid).copied()),
                    works: wanted.specs.ports.contains_key(&i.name) && self.applier.failure(&i.name).is_none(),
                })
                .collect();
            let numbered = bridge.interfaces.iter().zip(assign(&claims));
            numbers.extend(numbered.filter_map(|(i, number)| Some((i.uuid, number?))));
        }
        self.ofports = numbers;
    }

    /// One line for every error that is new or gone.
    fn log_errors(&mut self, errors: BTreeMap<Uuid, (String, String)>) {
        for (uuid, (what, why)) in &errors {
            if self.errors.get(uuid).map(|(_, old)| old) != Some(why) {
                warn!("{what}: error: {why}");
            }
        }
        let database = self.server.database();
        let there = |row| ["Interface", "Mirror"].iter().any(|table| database.row(table, row).is_some());
        for (uuid, (what, _)) in &self.errors {
            if !errors.contains_key(uuid) && there(uuid) {
                info!("{what}: error cleared, it works");
            }
        }
        self.errors = errors;
    }

    /// Writes all counters.
    fn statistics(&mut self) {
        self.last_statistics = Instant::now();
        let current = self.told.current(self.server.database());
        // Should the worker not answer, its log says so, and they lag a little.
        self.datapath.count_assisted();
        let mut rows = Rows::new();
        for (_, interface) in self.config.interfaces() {
            self.add_statistics(interface.uuid, &interface.name, &mut rows);
        }
        for (bridge, mirror) in self.config.mirrors().filter(|(_, m)| !self.errors.contains_key(&m.uuid)) {
            self.add_mirror_statistics(&bridge.name, mirror, &mut rows);
        }
        if let Some(root) = self.config.root {
            let totals = status::switch_statistics(&self.datapath.totals(), &self.datapath.worker_cpus());
            rows.entry(("Open_vSwitch", root)).or_default().insert("statistics", totals);
        }
        self.write(&rows);
        self.told.follow(self.server.database(), &current);
    }

    fn add_mirror_statistics(&self, bridge: &str, mirror: &Mirror, rows: &mut Rows) {
        if let Some(stats) = self.datapath.mirror_stats(bridge, &mirror.name) {
            let statistics = status::mirror_statistics(&stats);
            rows.entry(("Mirror", mirror.uuid)).or_default().insert("statistics", statistics);
        }
    }

    fn add_statistics(&self, uuid: Uuid, name: &str, rows: &mut Rows) {
        if let Some(stats) = self.datapath.port_stats(name) {
            rows.entry(("Interface", uuid)).or_default().insert("statistics", status::port_statistics(&stats));
        }
    }

    /// Commits `rows`; whether that went well. What cannot be written is logged, and tried again with the next report.
    fn write(&mut self, rows: &Rows) -> bool {
        let written = status::write(self.server.database(), rows).and_then(|prepared| match prepared {
            // Derived from what is on disk already: worth a line in the file, not the wait for the disk.
            Some(prepared) => self.server.commit(prepared, Durability::Buffered, wall_clock()).map(drop),
            None => Ok(()),
        });
        if let Err(e) = &written {
            error!("the state of the switch cannot be written to the database: {e}");
        }
        written.is_ok()
    }
}
