//! Which flows are put in and taken out, and how they are counted, with a table that no kernel knows.

use super::*;
use crate::packet::{Batch, Frame, Pool};
use crate::port::Caps;
use crate::stats::{Counter, WorkerCounters};
use crate::switch::TxQueues;
use crate::switch::shape::{Limit, Limits};
use crate::switch::state::{Attachment, Bridge, Port, PriorityTags, Trunks, VlanMode};
use crate::switch::verdict::DropReason;
use crate::types::{DeviceId, L3Mtu};

const AGING: Duration = Duration::from_secs(20);

/// A bridge with three ports, the stations 1 to 3 behind them, and what there is to know of them.
struct World {
    snap: Arc<Snapshot>,
    switch: Switch,
    assist: Assist,
}

fn ms(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// A frame from one station to another, with this tag.
fn frame(from: u8, to: u8, tag: Option<[u8; 4]>) -> Frame {
    let tag = tag.as_ref().map_or(&[][..], |tag| tag);
    Frame::from_bytes(&[&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from], tag, &[0x88, 0xb5], &[0; 46]].concat())
}

impl World {
    fn new(change: impl Fn(&mut Port)) -> Self {
        let ids = [0, 1, 2].map(PortId);
        let port = |id: PortId| {
            let mut port = Port::new(id, BridgeId(0), DeviceId(id.0), Caps::ALL);
            (port.mtu, port.assisted) = (Some(L3Mtu(1500)), Some(100 + id.0));
            change(&mut port);
            Some(Arc::new(port))
        };
        let bridge = Bridge { ports: ids.to_vec(), mac_aging: AGING, mac_table_size: 4, ..Bridge::new(BridgeId(0)) };
        let snap = Arc::new(Snapshot {
            bridges: vec![Some(Arc::new(bridge))],
            ports: ids.map(port).to_vec(),
            attachments: ids.map(|id| Some(Attachment::Port(id))).to_vec(),
            ..Snapshot::default()
        });
        let mut switch = Switch::default();
        switch.want_notices(true);
        let mut world = Self { snap, switch, assist: Assist::new(Arc::new(Table::alone())) };
        world.adopt(ms(0));
        world
    }

    fn adopt(&mut self, now: Instant) {
        Arc::make_mut(&mut self.snap).generation += 1;
        self.switch.adopt(&self.snap, now);
        self.take(now);
    }

    fn take(&mut self, now: Instant) {
        self.switch.notices().drain(..).for_each(|notice| self.assist.take(notice, &self.snap, now));
    }

    /// A frame of a station, which is behind the port of the number before.
    fn send(&mut self, from: u8, to: u8, now: Instant) {
        self.receive(from, frame(from, to, None), now);
    }

    fn receive(&mut self, port: u8, frame: Frame, now: Instant) {
        let (mut batch, mut tx) = (Batch::new(), TxQueues::new());
        assert!(batch.push(frame).is_ok());
        let (device, counters) = (DeviceId(u32::from(port) - 1), WorkerCounters::default());
        let mut pool = Pool::new(1);
        self.switch.process(now, &self.snap, device, &mut batch, &mut pool, &counters, &mut tx);
        self.take(now);
    }

    /// Stations 1 and 2 talk for long enough, and nothing is on its way.
    fn settle(&mut self, now: Instant) {
        for later in [0, 1, 150, 151] {
            let now = now + Duration::from_millis(later);
            self.send(1, 2, now);
            self.send(2, 1, now);
        }
        self.drained(now + Duration::from_millis(151));
    }

    fn drained(&mut self, now: Instant) {
        self.assist.put_waiting(|_| true, &self.snap, now);
    }

    /// The flows by which the kernel would go, as from and to.
    fn flows(&mut self, now: Instant) -> Vec<(u8, u8)> {
        let mut flows: Vec<_> = self.assist.report(now).0.iter().map(|flow| (flow.src.0[5], flow.dst.0[5])).collect();
        flows.sort_unstable();
        let held = (0..Table::LEN).filter(|&slot| self.assist.table.holds(slot)).count();
        assert_eq!(flows.len(), held, "what is told is what the kernel sees");
        flows
    }

    fn slot(&self, from: u8) -> Slot {
        let is_from = |slot: &&Slot| self.assist.entries[**slot].as_ref().is_some_and(|e| e.flow.src.0[5] == from);
        *self.assist.used.iter().find(is_from).expect("a flow of that station")
    }

    fn port(&self, number: u8) -> &Port {
        self.snap.port(PortId(u32::from(number) - 1)).unwrap()
    }

    /// Why flows are not in it.
    fn reasons(&self) -> Vec<Why> {
        self.assist.refusals.report(ms(0)).iter().map(|left_out| left_out.why).collect()
    }
}

#[test]
fn a_flow_that_goes_on_is_put_in_when_nothing_is_on_its_way() {
    let mut world = World::new(|_| {});
    for now in [0, 50, 90] {
        world.send(1, 2, ms(now));
        world.send(2, 1, ms(now));
    }
    world.drained(ms(95));
    assert_eq!(world.flows(ms(95)), [], "they have not gone on for long");
    world.send(1, 2, ms(151));
    world.assist.put_waiting(|port| port != PortId(0), &world.snap, ms(160));
    assert_eq!(world.flows(ms(160)), [], "more may be on its way from its port");
    world.drained(ms(170));
    assert_eq!(world.flows(ms(170)), [(1, 2)]);
    world.send(2, 1, ms(200));
    world.assist.put_waiting(|_| false, &world.snap, ms(250));
    assert_eq!(world.flows(ms(250)), [(1, 2), (2, 1)], "it has waited for long enough");
}

/// No frame of the flow comes to this worker any more, so it must not wait for one to hear of it.
#[test]
fn what_another_worker_learns_ends_flows_at_once() {
    let mut world = World::new(|_| {});
    let shared = Arc::default();
    let mut other = Switch::new(Arc::clone(&shared), false);
    world.switch = Switch::new(shared, true);
    world.switch.want_notices(true);
    world.adopt(ms(0));
    other.adopt(&world.snap, ms(0));
    world.settle(ms(0));
    assert_eq!(world.flows(ms(160)), [(1, 2), (2, 1)]);
    // Station 2 turns up at the third port, which is the other worker's.
    std::mem::swap(&mut world.switch, &mut other);
    world.receive(3, frame(2, 1, None), ms(170));
    assert!(world.switch.take_call(), "the first worker is woken");
    std::mem::swap(&mut world.switch, &mut other);
    assert_eq!(world.flows(ms(170)), [(1, 2), (2, 1)], "it has not looked yet");
    world.switch.heed_others();
    world.take(ms(171));
    assert_eq!(world.flows(ms(171)), []);
}

#[test]
fn what_the_kernel_takes_is_counted_at_both_ports() {
    let mut world = World::new(|port| {
        if port.id == PortId(1) {
            port.vlan = VlanMode::Trunk(Trunks::All);
        } else {
            port.vlan = VlanMode::Access(VlanId::new(20).unwrap());
        }
    });
    for now in [0, 1, 150, 151] {
        world.send(1, 2, ms(now));
        world.receive(2, frame(2, 1, Some([0x81, 0, 0, 20])), ms(now));
    }
    world.drained(ms(151));
    assert_eq!(world.flows(ms(151)), [(1, 2), (2, 1)]);
    let seen = |world: &World, port| {
        let counters = &world.port(port).counters;
        [&counters.rx_packets, &counters.rx_bytes, &counters.tx_packets, &counters.tx_bytes].map(Counter::get)
    };
    let before = [1, 2].map(|port| seen(&world, port));
    let (out, back) = (world.slot(1), world.slot(2));
    world.assist.table.pretend(out, [10, 15_000], [1, 1500]);
    world.assist.table.pretend(back, [5, 500], [0, 0]);
    world.assist.count(ms(200));
    world.assist.count(ms(201));
    let grown = [1, 2].map(|port| {
        let (now, before) = (seen(&world, port), before[usize::from(port) - 1]);
        [0, 1, 2, 3].map(|i| now[i] - before[i])
    });
    assert_eq!(grown[0], [10, 15_000, 5, 500], "the access port: without tags");
    assert_eq!(grown[1], [5, 520, 9, 13_500 + 9 * 4], "the trunk: with them, and without what was lost");
    assert_eq!(world.port(2).counters.drops.get(DropReason::TxError), 1);
    let flows = world.assist.report(ms(1151)).0;
    let back = flows.iter().find(|flow| flow.src.0[5] == 2).unwrap();
    assert_eq!((back.packets, back.bytes, back.vlan.get(), back.age), (5, 520, 20, Duration::from_secs(1)));
}

#[test]
fn what_user_space_must_see_is_refused_with_the_reason() {
    let limit = Some(Limit { bits: None, packets: None, queue: 0 });
    let refused = |change: fn(&mut Port, Option<Limit>), why: &[Why]| {
        let mut world = World::new(|port| change(port, limit));
        world.settle(ms(0));
        assert_eq!((world.flows(ms(151)), world.reasons()), (vec![], why.to_vec()));
    };
    let [one, two] = [0, 1].map(PortId);
    refused(|port, _| port.assisted = None, &[Why::NoDevice(one), Why::NoDevice(two)]);
    refused(
        |port, limit| port.limits = Limits { ingress: limit, egress: None },
        &[Why::RateLimit(one), Why::RateLimit(two)],
    );
    refused(
        |port, limit| port.limits = Limits { ingress: None, egress: limit },
        &[Why::RateLimit(two), Why::RateLimit(one)],
    );
    refused(|port, _| port.mtu = None, &[Why::UnknownMtu(two), Why::UnknownMtu(one)]);
    refused(|port, _| port.rules.priority_tags = PriorityTags::Always, &[Why::Tags, Why::Tags]);
}

#[test]
fn a_station_that_moves_takes_its_flows_out_and_no_others() {
    let mut world = World::new(|_| {});
    world.settle(ms(0));
    for later in [200, 201, 350] {
        world.send(3, 1, ms(later));
        world.send(1, 3, ms(later));
    }
    world.drained(ms(350));
    assert_eq!(world.flows(ms(350)), [(1, 2), (1, 3), (2, 1), (3, 1)]);
    // Station 2 turns up where station 3 is.
    world.receive(3, frame(2, 1, None), ms(360));
    assert_eq!(world.flows(ms(360)), [(1, 3), (3, 1)]);
    // What waits rests on it, too.
    for later in [500, 501] {
        world.send(1, 2, ms(later));
    }
    world.send(1, 2, ms(700));
    assert_eq!(world.assist.waiting.len(), 1);
    world.send(2, 1, ms(701));
    world.drained(ms(702));
    assert_eq!(world.flows(ms(702)), [(1, 3), (2, 1), (3, 1)]);
}

#[test]
fn after_every_change_all_begin_again_at_once() {
    let mut world = World::new(|_| {});
    world.settle(ms(0));
    for round in 1..10 {
        let now = ms(200 * round);
        world.assist.table.pretend(world.slot(1), [1, 100], [0, 0]);
        let before = world.port(1).counters.rx_packets.get();
        world.adopt(now);
        assert_eq!(world.flows(now), []);
        assert_eq!(world.port(1).counters.rx_packets.get(), before + 1, "nothing is lost to the counters");
        // Known from before, so the first frame of each is enough, and it gets the slot that it had.
        world.send(1, 2, now);
        world.send(2, 1, now);
        world.drained(now);
        assert_eq!((world.flows(now), world.assist.used.len()), (vec![(1, 2), (2, 1)], 2));
    }
}

#[test]
fn a_sender_stays_known_while_the_kernel_hears_it_and_goes_when_it_is_silent() {
    let mut world = World::new(|_| {});
    world.settle(ms(0));
    let age = |world: &World, station: u8, now| {
        let entries = world.switch.fdb(BridgeId(0), now);
        entries.iter().find(|e| e.mac.0[5] == station).map(|e| e.age.unwrap().as_secs())
    };
    // Longer than addresses live, only the kernel hears of station 1; station 2 is silent.
    for second in 1..=30 {
        let now = Instant::from_secs(second);
        if second < 9 {
            world.assist.table.pretend(world.slot(1), [1, 100], [0, 0]);
        }
        world.assist.look(&mut world.switch, now);
        let expected: &[_] = match second {
            0..11 => &[(1, 2), (2, 1)],
            11..18 => &[(1, 2)],
            _ => &[],
        };
        assert_eq!(world.flows(now), expected, "after {second} s");
    }
    assert_eq!((age(&world, 1, Instant::from_secs(25)), age(&world, 2, Instant::from_secs(25))), (Some(17), None));
    assert_eq!((world.assist.used.len(), world.assist.due), (0, None), "an empty table wakes nobody");
}

#[test]
fn a_receiver_that_has_expired_is_flooded_for() {
    let mut world = World::new(|_| {});
    world.settle(ms(0));
    let seconds = (1..=30).take_while(|&second| {
        let now = Instant::from_secs(second);
        world.assist.table.pretend(world.slot(1), [1, 100], [0, 0]);
        world.assist.look(&mut world.switch, now);
        let next = world.assist.due.unwrap() - now;
        assert_eq!(next, if second == 20 { Duration::ZERO } else { LOOK_EVERY }, "not later than it expires");
        world.flows(now).contains(&(1, 2))
    });
    assert_eq!(seconds.last(), Some(20), "so long after it was heard last");
}

#[test]
fn flows_that_share_a_set_do_not_push_each_other_out() {
    let mut world = World::new(|_| {});
    world.settle(ms(0));
    let slot = world.slot(1);
    let entry = world.assist.entries[slot].as_ref().unwrap();
    let (flow, key, places) = (entry.flow, entry.key, world.assist.table.places(&entry.key));
    // The other places are taken by flows of the same set.
    for place in places.clone().filter(|&place| place != slot) {
        let mut other = Entry::new(&flow, &world.snap, ms(200)).unwrap();
        other.key.head[3] = u8::try_from(place % 4 + 1).unwrap();
        world.assist.entries[place] = Some(other);
        world.assist.used.push(place);
    }
    assert_eq!(world.assist.put(&flow, &world.snap, ms(200)), Ok(()), "it is there");
    world.assist.entries[slot].as_mut().unwrap().key.head[3] = 9;
    assert_eq!(world.assist.put(&flow, &world.snap, ms(200)), Err(Why::NoRoom));
    // One that has gone leaves its slot to others after a rest.
    world.assist.remove(slot, ms(200));
    assert_eq!(world.assist.put(&flow, &world.snap, ms(1100)), Err(Why::NoRoom));
    assert_eq!(world.assist.put(&flow, &world.snap, ms(1200)), Ok(()));
    assert_eq!(world.assist.entries[slot].as_ref().unwrap().key, key);
}
