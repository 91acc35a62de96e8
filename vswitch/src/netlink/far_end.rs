//! The other ends of veths in other network namespaces, and what those are called.
//!
//! The kernel answers for a device of every namespace that it has numbered in ours, and numbers each that a veth of ours
//! leads to. It tells nobody here when such a device changes, so it is asked again from time to time. Names are those of
//! `ip netns`.

use super::link::{FarEnd, Peer};
use futures::{StreamExt, TryStreamExt};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// Asks for the other end of a veth in another namespace; `None`: it cannot be read.
pub async fn ask(handle: &Handle, peer: Peer) -> Option<FarEnd> {
    let mut request = handle.link().get().match_index(peer.ifindex);
    request.message_mut().attributes.push(LinkAttribute::IfNetnsId(peer.space?));
    let answer = std::pin::pin!(request.execute()).try_next().await.ok()??;
    let (mut name, mut mtu) = (None, None);
    for attribute in answer.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Mtu(bytes) => mtu = Some(bytes),
            _ => {}
        }
    }
    Some(FarEnd { name: name?, mtu: mtu?, space: peer.space })
}

/// The names of namespaces, by the kernel's numbers of them in ours.
#[derive(Default, Debug)]
pub struct Spaces {
    names: BTreeMap<i32, String>,
    /// The files that are known, each with its inode: that is the namespace's.
    files: BTreeMap<String, u64>,
    nameless: BTreeSet<i32>,
}

impl Spaces {
    /// The name of the namespace with this number, if it has one and somebody has asked for it.
    #[must_use]
    pub fn name(&self, space: i32) -> Option<&str> {
        self.names.get(&space).map(String::as_str)
    }

    /// Looks for the names of these that are not known; whether any was found.
    pub async fn find(&mut self, handle: &Handle, spaces: &BTreeSet<i32>) -> bool {
        let unknown = |it: &Self| -> Vec<i32> {
            let known = |space: &&i32| it.names.contains_key(space) || it.nameless.contains(space);
            spaces.iter().filter(|space| !known(space)).copied().collect()
        };
        let before = unknown(self).len();
        if before == 0 {
            return false;
        }
        self.read_names(handle).await;
        let left = unknown(self);
        let found = left.len() < before;
        self.nameless.extend(left);
        found
    }

    /// Has the next [`Spaces::find`] look again for those that had no name.
    pub fn look_again(&mut self) {
        self.nameless.clear();
    }

    /// With these names.
    #[cfg(test)]
    pub fn of<const N: usize>(names: [(i32, &str); N]) -> Spaces {
        let names = names.into_iter().map(|(space, name)| (space, name.to_owned())).collect();
        Spaces { names, ..Spaces::default() }
    }

    async fn read_names(&mut self, handle: &Handle) {
        let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
        let there: BTreeMap<_, _> = entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::metadata(entry.path()).ok()?.ino())))
            .collect();
        self.names.retain(|_, name| there.get(name).is_some_and(|inode| self.files.get(name) == Some(inode)));
        self.files.retain(|name, inode| there.get(name) == Some(inode));
        for (name, inode) in there {
            if !self.files.contains_key(&name)
                && let Some(space) = number(handle, &Path::new(NAMES).join(&name)).await
            {
                self.names.insert(space, name.clone());
                self.files.insert(name, inode);
            }
        }
    }
}

/// The kernel's number of a namespace in ours, if it has given it one.
async fn number(handle: &Handle, file: &Path) -> Option<i32> {
    let file = File::open(file).ok()?;
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Fd(u32::try_from(file.as_raw_fd()).ok()?));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    message.header.flags = NLM_F_REQUEST;
    let mut handle = handle.clone();
    let answer = std::pin::pin!(handle.request(message).ok()?).next().await?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload else { return None };
    answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}
