//! A switch without devices or kernel, for criterion suites: bridges whose ports' frames are put in and taken out by hand.

use datapath::packet::{Batch, Frame, Pool};
use datapath::port::Caps;
use datapath::stats::WorkerCounters;
use datapath::switch::mirror::{Mirror, Output, PortMirrors, Select};
use datapath::switch::state::{Attachment, Bridge, Port, Snapshot, Trunks, VlanMode};
use datapath::switch::{Switch, TxQueues};
use datapath::time::Instant;
use datapath::tunnel::{Protocol, Tunnel};
use datapath::types::{BridgeId, DeviceId, L3Mtu, PortId, TunnelKey, VlanId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The remote end of the lab's tunnel.
pub const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 7, 201));
const NOW: Instant = Instant::from_secs(1);

/// A switch, and everything that it works with.
pub struct Lab {
    snap: Arc<Snapshot>,
    switch: Switch,
    /// Where frames come from and go to.
    pub pool: Pool,
    batch: Batch,
    counters: WorkerCounters,
    tx: TxQueues,
}

impl Lab {
    /// One bridge with `plain` ports on devices of the same number, and a VXLAN tunnel as the last port and device.
    #[must_use]
    pub fn new(plain: u32) -> Self {
        let vxlan = Tunnel::new(Protocol::Vxlan, SocketAddr::new(REMOTE, 4789), TunnelKey(5000));
        let mut ports: Vec<_> = (0..=plain).map(port).collect();
        ports[plain as usize].caps = Caps::NONE;
        ports[plain as usize].mtu = Some(L3Mtu(1450));
        ports[plain as usize].tunnel = Some(vxlan);
        Self::of(vec![bridge(0)], ports)
    }

    /// Two ports of VLAN 10, which leaves untagged by the first and tagged by the second.
    #[must_use]
    pub fn with_vlan() -> Self {
        let vlan = VlanId::new(10).expect("a VLAN");
        let modes = [VlanMode::Access(vlan), VlanMode::NativeTagged(vlan, Trunks::All)];
        let ports = (0..).zip(modes).map(|(n, vlan)| Port { vlan, ..port(n) }).collect();
        Self::of(vec![bridge(0)], ports)
    }

    /// Three ports; what comes in by the first is copied to the last.
    #[must_use]
    pub fn with_mirror() -> Self {
        let select = Select { arriving: [PortId(0)].into(), ..Select::default() };
        let output = Output::Port(PortId(2));
        let mirror = Mirror { name: "m".into(), select, output, snaplen: None, counters: Arc::default() };
        let mut ports: Vec<_> = (0..3).map(port).collect();
        for port in &mut ports {
            port.mirrors = PortMirrors::of(port.id, std::slice::from_ref(&mirror));
        }
        Self::of(vec![Bridge { mirrors: vec![mirror], ..bridge(0) }], ports)
    }

    /// Two bridges with a port each, 0 and 1, joined by a patch.
    #[must_use]
    pub fn with_patch() -> Self {
        let patch = |n, of, peer| Port { bridge: BridgeId(of), peer: Some(PortId(peer)), ..port(n) };
        let far = Port { bridge: BridgeId(1), ..port(1) };
        Self::of(vec![bridge(0), bridge(1)], vec![port(0), far, patch(2, 0, 3), patch(3, 1, 2)])
    }

    fn of(mut bridges: Vec<Bridge>, ports: Vec<Port>) -> Self {
        let mut snap = Snapshot { generation: 1, ..Snapshot::default() };
        for port in ports {
            bridges[port.bridge.0 as usize].ports.push(port.id);
            if let Some(tunnel) = &port.tunnel {
                snap.demux.insert(tunnel, port.id);
            }
            let tunnels = port.tunnel.as_ref().map(|tunnel| Attachment::Tunnels(tunnel.endpoint()));
            snap.attachments.push(Some(tunnels.unwrap_or(Attachment::Port(port.id))));
            snap.ports.push(Some(Arc::new(port)));
        }
        snap.bridges = bridges.into_iter().map(|bridge| Some(Arc::new(bridge))).collect();
        let (snap, mut switch) = (Arc::new(snap), Switch::default());
        switch.adopt(&snap, NOW);
        let (pool, counters, tx) = (Pool::new(1024), WorkerCounters::default(), TxQueues::new());
        Self { snap, switch, pool, batch: Batch::new(), counters, tx }
    }

    /// Switches `frames` (32 at most) as received by `device`; what comes out, with the devices.
    ///
    /// # Panics
    /// If there are more.
    pub fn pass(&mut self, device: u32, frames: impl IntoIterator<Item = Frame>) -> Vec<Frame> {
        for frame in frames {
            self.batch.push(frame).expect("room in the batch");
        }
        let Self { snap, switch, pool, batch, counters, tx } = self;
        switch.process(NOW, snap, DeviceId(device), batch, pool, counters, tx);
        while switch.has_copies() {
            switch.send_copies(NOW, snap, pool, counters, tx);
        }
        let mut out = Vec::new();
        while let Some((_, queue)) = tx.next_ready() {
            out.append(queue);
        }
        out
    }
}

fn bridge(id: u32) -> Bridge {
    Bridge { mac_table_size: 1 << 18, ..Bridge::new(BridgeId(id)) }
}

fn port(n: u32) -> Port {
    Port { mtu: Some(L3Mtu(1500)), ..Port::new(PortId(n), BridgeId(0), DeviceId(n), Caps::ALL) }
}
