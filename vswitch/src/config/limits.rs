//! An Interface's policing columns and a Port's QoS → the datapath's rate limits, with what to tell. Pure.
//!
//! Units are Open vSwitch's: kbit/s and kbit on the way in; on the way out bit/s and bits for `max-rate` and `burst`, and
//! bytes for the egress-policer's own `cir` and `cbs`. Without OpenFlow nothing chooses a queue, so a port has the one
//! that unchosen traffic is in, queue 0.

use super::memo::Source;
use super::{Columns, Notes, Options, listed, unsupported};
use datapath::switch::bucket::Tokens;
use datapath::switch::shape::Limit;
use ovsdb::value::Atom;

/// The burst of a policer that is not told another, in bits, as in Open vSwitch.
const POLICER_BURST: u64 = 8_000_000;
/// The same in packets.
const POLICER_BURST_PACKETS: u64 = 16_000;
/// A super-frame of 64 KiB on the wire, in bytes: what a burst that nobody chose lets through at once.
const SUPER_FRAME: u64 = 70_000;
/// A packet of which there are so many a second, in bytes.
const PACKET: u64 = 1514;
/// What is in excess of a policer waits so long at most before it is dropped. Dropped at once, a TCP flow over a short
/// round trip loses all that it has under way, stops for 200 ms, and gets 40 % of 100 Mbit/s; with this it gets 100 %.
const POLICER_QUEUE_MS: u64 = 20;
/// A shaper's burst lasts so long at its rate: the worker may be late by a time slice or two without losing any of it.
const SHAPER_BURST_MS: u64 = 10;
/// Frames wait so long in a shaper at most.
const SHAPER_QUEUE_MS: u64 = 50;

/// How fast frames may come in by an interface.
pub(super) fn ingress(row: &Columns<'_>) -> Option<Limit> {
    let column = |name: &str| row.integer(name).and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    let tokens = |rate: &str, burst: &str, default: u64| {
        let (rate, burst) = (column(rate).saturating_mul(1000), column(burst).saturating_mul(1000));
        (rate > 0).then_some(Tokens { rate, burst: if burst > 0 { burst } else { default } })
    };
    let bits = tokens("ingress_policing_rate", "ingress_policing_burst", POLICER_BURST);
    let packets = tokens("ingress_policing_kpkts_rate", "ingress_policing_kpkts_burst", POLICER_BURST_PACKETS);
    (bits.is_some() || packets.is_some()).then(|| policer(bits, packets))
}

/// How fast frames may leave by a port.
pub(super) fn egress(source: &Source<'_>, port: &Columns<'_>, notes: &mut Notes) -> Option<Limit> {
    let (_, qos) = port.references(source, "qos", "QoS").next()?;
    let other_config = qos.options("other_config");
    match qos.text("type").unwrap_or_default() {
        "linux-htb" => {
            let mut read = Reader { told: vec![] };
            let mut limit = [read.number(&other_config, "max-rate"), read.number(&other_config, "burst")];
            read.unknown("", &other_config, &["max-rate", "burst"]);
            queue_zero(source, &qos, &mut limit, &mut read);
            let [rate, burst] = limit;
            if rate.is_none() {
                read.told
                    .push("no max-rate, so nothing is limited; set other_config:max-rate=BITS_PER_SECOND".to_owned());
            }
            read.tell(notes);
            rate.map(|rate| shaper(rate, burst))
        }
        "egress-policer" => {
            let mut read = Reader { told: vec![] };
            let bytes = |n: Option<u64>| n.map(|n| n.saturating_mul(8));
            let rate = bytes(read.number(&other_config, "cir")).or(read.number(&other_config, "max-rate"));
            let burst = bytes(read.number(&other_config, "cbs")).or(read.number(&other_config, "burst"));
            read.unknown("", &other_config, &["cir", "cbs", "max-rate", "burst"]);
            if rate.is_none() {
                read.told.push("no cir, so nothing is limited; set other_config:cir=BYTES_PER_SECOND".to_owned());
            }
            read.no_queues(&queues(&qos).map(|(number, _)| number).collect::<Vec<_>>());
            read.tell(notes);
            Some(policer(Some(Tokens { rate: rate?, burst: burst.unwrap_or(POLICER_BURST) }), None))
        }
        "linux-noop" => None,
        other => {
            let text = format!(
                "qos: type={other} has no effect: not supported by this version, so nothing is limited; use linux-htb or \
                 egress-policer"
            );
            notes.insert(unsupported::key("qos"), text);
            None
        }
    }
}

fn policer(bits: Option<Tokens>, packets: Option<Tokens>) -> Limit {
    let rate = bits.map_or(u64::MAX, |tokens| tokens.rate);
    let of_packets = packets.map_or(u64::MAX, |tokens| tokens.rate.saturating_mul(8 * PACKET));
    Limit { bits, packets, queue: queue(rate.min(of_packets), POLICER_QUEUE_MS) }
}

fn shaper(rate: u64, burst: Option<u64>) -> Limit {
    let burst = burst.unwrap_or_else(|| (rate / 1000 * SHAPER_BURST_MS).max(8 * SUPER_FRAME));
    Limit { bits: Some(Tokens { rate, burst }), packets: None, queue: queue(rate, SHAPER_QUEUE_MS) }
}

/// The bytes that so many bits a second make in this time, and room for two super-frames at least.
fn queue(rate: u64, ms: u64) -> u64 {
    (rate / 8000 * ms).max(2 * SUPER_FRAME)
}

/// The numbers and rows of a QoS's queues.
fn queues(qos: &Columns<'_>) -> impl Iterator<Item = (i64, uuid::Uuid)> {
    let pairs = qos.get("queues").into_iter().flat_map(ovsdb::value::Datum::pairs);
    pairs.filter_map(|(number, row)| match (number, row) {
        (Atom::Integer(number), Atom::Uuid(row)) => Some((*number, *row)),
        _ => None,
    })
}

/// All traffic is in queue 0: of its limit and that of the whole the smaller one counts.
fn queue_zero(source: &Source<'_>, qos: &Columns<'_>, [rate, burst]: &mut [Option<u64>; 2], read: &mut Reader) {
    let mut others = vec![];
    for (number, uuid) in queues(qos) {
        match source.row("Queue", uuid) {
            Some(queue) if number == 0 => {
                let other_config = queue.options("other_config");
                let own = read.number(&other_config, "max-rate");
                *rate = own.into_iter().chain(*rate).min();
                *burst = read.number(&other_config, "burst").or(*burst);
                // With one queue there is nobody to share with.
                read.unknown("queue 0: ", &other_config, &["max-rate", "burst", "min-rate", "priority"]);
                if let Some(dscp) = queue.integer("dscp") {
                    read.told.push(format!("queue 0: dscp={dscp} has no effect: packets are not marked"));
                }
            }
            _ => others.push(number),
        }
    }
    read.no_queues(&others);
}

/// Reads keys, and remembers what it could not.
struct Reader {
    told: Vec<String>,
}

impl Reader {
    fn number(&mut self, options: &Options<'_>, key: &str) -> Option<u64> {
        let text = options.get(key)?;
        let number = text.parse().ok().filter(|&n| n > 0);
        if number.is_none() {
            self.told.push(format!("{key}={text} is not a whole number from 1 on; left out"));
        }
        number
    }

    fn unknown(&mut self, of: &str, options: &Options<'_>, known: &[&str]) {
        if let Some(rest) = listed(options.iter().filter(|(k, _)| !known.contains(k))) {
            self.told.push(format!("{of}{rest} has no effect: not supported by this version"));
        }
    }

    fn no_queues(&mut self, numbers: &[i64]) {
        if !numbers.is_empty() {
            let list = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.told.push(format!("queues {list} have no effect: without OpenFlow nothing chooses them"));
        }
    }

    fn tell(self, notes: &mut Notes) {
        if !self.told.is_empty() {
            notes.insert("qos_warning".to_owned(), self.told.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{br0_p1, database};
    use super::*;
    use serde_json::{Value, json};

    /// The limits of p1, and the notes of its port.
    fn read(port: Value, interface: Value, rows: &[Value]) -> (datapath::switch::shape::Limits, Notes) {
        let mut ops = br0_p1(json!({}), json!({}), port, interface);
        ops.extend_from_slice(rows);
        let bridge = Config::read(&database(&ops)).bridges.remove(0);
        assert_eq!(bridge.interfaces[1].notes, Notes::new());
        let wanted = bridge.interfaces[1].wanted.as_ref().unwrap();
        (wanted.limits, bridge.ports[1].notes.clone())
    }

    fn map(pairs: &[(&str, &str)]) -> Value {
        json!(["map", pairs])
    }

    /// The egress limit and the note of a port whose QoS is of this type, with queues 0 and 1 of these settings.
    fn qos(ty: &str, other_config: &[(&str, &str)], queues: &[&[(&str, &str)]]) -> (Option<Limit>, Notes) {
        let queue = |i: usize| json!([i, ["named-uuid", format!("queue{i}")]]);
        let references: Vec<_> = (0..queues.len()).map(queue).collect();
        let row = json!({"type": ty, "other_config": map(other_config), "queues": ["map", references]});
        let mut rows = vec![json!({"op": "insert", "table": "QoS", "uuid-name": "qos", "row": row})];
        for (i, settings) in queues.iter().enumerate() {
            let row = json!({"other_config": map(settings)});
            rows.push(json!({"op": "insert", "table": "Queue", "uuid-name": format!("queue{i}"), "row": row}));
        }
        let (limits, notes) = read(json!({"qos": ["named-uuid", "qos"]}), json!({}), &rows);
        (limits.egress, notes)
    }

    fn bits(rate: u64, burst: u64) -> Option<Tokens> {
        Some(Tokens { rate, burst })
    }

    #[test]
    fn ingress_policing_has_the_units_and_defaults_of_open_vswitch() {
        let ingress = |row: Value| read(json!({}), row, &[]).0.ingress;
        assert_eq!(ingress(json!({"ingress_policing_burst": 5})), None);
        let limit = ingress(json!({"ingress_policing_rate": 100_000})).unwrap();
        assert_eq!((limit.bits, limit.packets), (bits(100_000_000, 8_000_000), None));
        assert_eq!(limit.queue, 250_000, "20 ms");
        let limit = ingress(json!({"ingress_policing_rate": 10, "ingress_policing_burst": 5})).unwrap();
        assert_eq!((limit.bits, limit.queue), (bits(10_000, 5_000), 140_000));
        let limit = ingress(json!({"ingress_policing_kpkts_rate": 3})).unwrap();
        assert_eq!((limit.bits, limit.packets), (None, bits(3_000, 16_000)));
        let both =
            json!({"ingress_policing_rate": 9, "ingress_policing_kpkts_rate": 3, "ingress_policing_kpkts_burst": 1});
        let limit = ingress(both).unwrap();
        assert_eq!((limit.bits, limit.packets), (bits(9_000, 8_000_000), bits(3_000, 1_000)));
    }

    #[test]
    fn linux_htb_is_a_shaper_of_all_traffic() {
        let (limit, told) = qos("linux-htb", &[("max-rate", "100000000")], &[]);
        let expected = Limit { bits: bits(100_000_000, 1_000_000), packets: None, queue: 625_000 };
        assert_eq!((limit, told), (Some(expected), Notes::new()));
        let (limit, told) = qos("linux-htb", &[("max-rate", "8000"), ("burst", "12000")], &[]);
        assert_eq!((limit.unwrap().bits, limit.unwrap().queue, told.len()), (bits(8000, 12_000), 140_000, 0));
    }

    #[test]
    fn unchosen_traffic_is_in_queue_0_and_the_others_are_told() {
        let whole = [("max-rate", "1000000000")];
        let zero = [("max-rate", "10000000"), ("min-rate", "1000"), ("burst", "90000")];
        let (limit, told) = qos("linux-htb", &whole, &[&zero]);
        assert_eq!((limit.unwrap().bits, told), (bits(10_000_000, 90_000), Notes::new()));
        let (limit, told) = qos("linux-htb", &[("max-rate", "5000000")], &[&zero, &zero]);
        assert_eq!(limit.unwrap().bits, bits(5_000_000, 90_000));
        assert_eq!(told["qos_warning"], "queues 1 have no effect: without OpenFlow nothing chooses them");
    }

    #[test]
    fn an_egress_policer_counts_bytes() {
        let (limit, told) = qos("egress-policer", &[("cir", "12500000"), ("cbs", "20000")], &[]);
        assert_eq!((limit.unwrap().bits, told), (bits(100_000_000, 160_000), Notes::new()));
        let (limit, told) = qos("egress-policer", &[("max-rate", "100000000")], &[]);
        assert_eq!((limit.unwrap().bits, told), (bits(100_000_000, 8_000_000), Notes::new()));
    }

    #[test]
    fn what_limits_nothing_is_told() {
        for (ty, other_config, key, text) in [
            ("linux-htb", &[][..], "qos_warning", "no max-rate, so nothing is limited; set other_config:max-rate="),
            ("linux-htb", &[("max-rate", "fast")], "qos_warning", "max-rate=fast is not a whole number from 1 on"),
            ("linux-htb", &[("max-rate", "0")], "qos_warning", "max-rate=0 is not"),
            ("egress-policer", &[], "qos_warning", "no cir, so nothing is limited"),
            (
                "linux-hfsc",
                &[("max-rate", "1")],
                "unsupported_qos",
                "qos: type=linux-hfsc has no effect: not supported",
            ),
            ("", &[], "unsupported_qos", "qos: type= has no effect"),
        ] {
            let (limit, told) = qos(ty, other_config, &[]);
            assert_eq!((limit, told.len()), (None, 1), "{ty}");
            assert!(told[key].contains(text), "{told:?}");
        }
        assert_eq!(qos("linux-noop", &[], &[]), (None, Notes::new()));
        let (limit, told) = qos("egress-policer", &[("cir", "1000"), ("eir", "5")], &[&[("max-rate", "1")]]);
        assert!(limit.is_some());
        let expected = "eir=5 has no effect: not supported by this version; queues 0 have no effect: without OpenFlow \
                        nothing chooses them";
        assert_eq!(told["qos_warning"], expected);
        let (_, told) = qos("linux-htb", &[("max-rate", "1000")], &[&[("colour", "red")]]);
        assert_eq!(told["qos_warning"], "queue 0: colour=red has no effect: not supported by this version");
    }
}
