//! The host's network as the kernel tells it over rtnetlink: links, addresses, routes.
//!
//! Two connections: one for requests, one for events ([`watch`]), because on a common one the events that a request
//! causes never arrive. All belongs to the network namespace that the daemon was started in.

pub mod ethtool;
pub mod far_end;
pub mod host_rules;
pub mod link;
pub mod neighbour;
pub mod route;
pub mod watch;

use datapath::types::MacAddr;
use ethtool::Ethtool;
use far_end::Spaces;
use futures::TryStreamExt;
use link::{LinkTable, Peer};
use neighbour::Hop;
use route::{Path, Routes};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use tracing::warn;
use watch::{Event, Watch};

/// Of how many veths the other end in another namespace is asked for again at a time.
const FAR_ENDS: usize = 64;

/// The kernel's view of the network, kept up to date by [`Network::next`] and [`Network::catch_up`].
pub struct Network {
    handle: Handle,
    requests: tokio::task::JoinHandle<()>,
    watch: Watch,
    ethtool: Option<Ethtool>,
    links: LinkTable,
    routes: Routes,
    routes_stale: bool,
    host_rules: Option<String>,
    /// Whether anybody cares for these.
    follows_host_rules: bool,
    spaces: Spaces,
    /// The veth whose other end was asked for last.
    last_far_end: u32,
}

impl Network {
    /// Opens both connections and asks for everything once.
    pub async fn open() -> io::Result<Network> {
        // Events first: what changes during the dump is then told after it.
        let watch = Watch::open()?;
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let requests = tokio::spawn(connection);
        let links = dump(&handle).await?;
        let ethtool = Ethtool::open().map_err(|e| warn!("link_speed and duplex of interfaces stay empty: {e}")).ok();
        let (routes, spaces) = (Routes::new(), Spaces::default());
        Ok(Network {
            handle,
            requests,
            watch,
            ethtool,
            links,
            routes,
            routes_stale: true,
            host_rules: None,
            follows_host_rules: false,
            spaces,
            last_far_end: 0,
        })
    }

    /// Links and addresses.
    #[must_use]
    pub fn links(&self) -> &LinkTable {
        &self.links
    }

    /// The routes that [`Network::find_routes`] last asked for.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Waits for events; [`Network::take`] them in. Dropping the future loses none.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        self.watch.next().await
    }

    /// Takes events in; whether anything changed that the switch may care for.
    pub async fn take(&mut self, events: Vec<Event>) -> io::Result<bool> {
        let mut changed = false;
        let mut lost = false;
        for event in events {
            match event {
                Event::Message(RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_)) => {
                    self.routes_stale = true;
                    changed |= !self.routes.is_empty();
                }
                Event::Message(m) => changed |= self.links.apply(&m),
                Event::HostRules => changed |= self.follows_host_rules && self.ask_host_rules(),
                Event::Lost => lost = true,
            }
        }
        if lost {
            warn!("events of the network were lost; asking for everything anew");
            self.links = dump(&self.handle).await?;
            changed = true;
        }
        self.routes_stale |= changed;
        Ok(changed)
    }

    /// Takes in what has happened up to now, without waiting; whether anything changed.
    pub async fn catch_up(&mut self) -> io::Result<bool> {
        let events = self.watch.drain()?;
        if events.is_empty() { Ok(false) } else { self.take(events).await }
    }

    /// Makes the next [`Network::find_routes`] ask for all.
    pub fn distrust_routes(&mut self) {
        self.routes_stale = true;
    }

    /// Finds the routes of `paths`, and forgets all others.
    pub async fn find_routes(&mut self, paths: impl IntoIterator<Item = Path>) {
        let old = std::mem::take(&mut self.routes);
        for path in paths {
            let route = match old.get(&path).filter(|_| !self.routes_stale) {
                Some(route) => route.clone(),
                None => route::lookup(&self.handle, path).await,
            };
            self.routes.insert(path, route);
        }
        self.routes_stale = false;
    }

    /// What else has a say in what the host sends to the ends of tunnels, as last heard ([`Network::follow_host_rules`]).
    #[must_use]
    pub fn host_rules(&self) -> Option<&str> {
        self.host_rules.as_deref()
    }

    /// Asks for that now and whenever it changes, as long as somebody cares.
    pub fn follow_host_rules(&mut self, somebody_cares: bool) {
        self.follows_host_rules = somebody_cares;
        if somebody_cares {
            self.ask_host_rules();
        }
    }

    /// Asks for it; whether it has changed.
    fn ask_host_rules(&mut self) -> bool {
        let now = host_rules::on_the_way_out();
        std::mem::replace(&mut self.host_rules, now.clone()) != now
    }

    /// Asks again for the routes to `remote`; whether any has changed.
    pub async fn ask_routes_to(&mut self, remote: IpAddr) -> bool {
        let mut changed = false;
        for (path, route) in self.routes.iter_mut().filter(|(path, _)| path.remote == remote) {
            let now = route::lookup(&self.handle, *path).await;
            changed |= std::mem::replace(route, now.clone()) != now;
        }
        changed
    }

    /// Those of `devices` that merge frames on arrival in a way that cannot be undone (large receive offload), as of now.
    pub fn merging<'a>(&mut self, devices: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut merging = Vec::new();
        for name in devices {
            if let (Some(link), Some(ethtool)) = (self.links.by_name(name), &mut self.ethtool)
                && ethtool.features(link.ifindex).iter().any(|feature| feature == "rx-lro")
            {
                merging.push(name.to_owned());
            }
        }
        merging
    }

    /// The next hops of those of `paths` that have one, and whether they are mute, as of now.
    pub async fn hops(&self, paths: Vec<Path>) -> Result<BTreeMap<Path, (Hop, bool)>, String> {
        neighbour::hops(&self.handle, paths).await.map_err(|e| format!("the neighbours cannot be asked for: {e}"))
    }

    /// Asks for the link modes of those of `devices` that are not known.
    pub fn find_modes<'a>(&mut self, devices: impl IntoIterator<Item = &'a str>) {
        for name in devices {
            if let Some(ifindex) = self.links.by_name(name).map(|l| l.ifindex)
                && self.links.mode(ifindex).is_none()
            {
                let mode = self.ethtool.as_mut().map(|e| e.link_mode(ifindex)).unwrap_or_default();
                self.links.set_mode(ifindex, mode);
            }
        }
    }

    /// The names of network namespaces that [`Network::name_spaces`] has found.
    #[must_use]
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// Looks for the names of these network namespaces; whether any was found that was not known.
    pub async fn name_spaces(&mut self, spaces: &BTreeSet<i32>) -> bool {
        self.spaces.find(&self.handle, spaces).await
    }

    /// Asks for the other ends of those of `devices` that are veths into another namespace, where they are not known.
    pub async fn find_far_ends(&mut self, devices: impl IntoIterator<Item = &str>) {
        for name in devices {
            if let Some(link) = self.links.by_name(name).filter(|link| self.links.is_far_end_unknown(link))
                && let Some(peer) = link.peer
            {
                let ifindex = link.ifindex;
                self.ask_far_end(ifindex, peer).await;
            }
        }
    }

    /// Asks again for a few of those that are known, a few others each time; whether any has changed.
    pub async fn ask_far_ends_again(&mut self) -> bool {
        self.spaces.look_again();
        let few = self.links.far_ends_after(self.last_far_end).take(FAR_ENDS).collect::<Vec<_>>();
        self.last_far_end = if few.len() < FAR_ENDS { 0 } else { few.last().map_or(0, |(ifindex, _)| *ifindex) };
        let mut changed = false;
        for (ifindex, peer) in few {
            changed |= self.ask_far_end(ifindex, peer).await;
        }
        changed
    }

    async fn ask_far_end(&mut self, ifindex: u32, peer: Peer) -> bool {
        let far = far_end::ask(&self.handle, peer).await;
        self.links.set_far_end(ifindex, far)
    }

    /// Sets an interface's hardware address.
    pub async fn set_mac(&self, ifindex: u32, mac: MacAddr) -> Result<(), String> {
        self.set(LinkUnspec::new_with_index(ifindex).address(mac.0.to_vec())).await
    }

    /// Sets an interface's MTU.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32) -> Result<(), String> {
        self.set(LinkUnspec::new_with_index(ifindex).mtu(mtu)).await
    }

    async fn set(&self, link: LinkMessageBuilder<LinkUnspec>) -> Result<(), String> {
        match self.handle.link().set(link.build()).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(e)) => Err(e.to_io().to_string()),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.requests.abort();
    }
}

async fn dump(handle: &Handle) -> io::Result<LinkTable> {
    let mut table = LinkTable::default();
    let mut links = std::pin::pin!(handle.link().get().execute());
    while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
        table.apply(&RouteNetlinkMessage::NewLink(link));
    }
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(address) = addresses.try_next().await.map_err(io::Error::other)? {
        table.apply(&RouteNetlinkMessage::NewAddress(address));
    }
    Ok(table)
}
