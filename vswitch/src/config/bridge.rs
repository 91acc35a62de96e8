//! A Bridge's settings → the datapath's, with what to tell about those out of range or not honoured. Pure.

use super::mtu_policy::MtuPolicy;
use super::{Notes, Options, fdb, listed};
use datapath::control::StaticSpec;
use datapath::time::Duration;
use datapath::types::MacAddr;
use std::ops::RangeInclusive;
use uuid::Uuid;

/// Seconds until a learned address is forgotten, as in Open vSwitch.
const MAC_AGING: (u64, RangeInclusive<u64>) = (300, 15..=3600);
/// Learned addresses kept: DESIGN's default, Open vSwitch's range.
const MAC_TABLE: (u64, RangeInclusive<u64>) = (8192, 10..=1_000_000);

/// A Bridge's `other_config`, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeSettings {
    /// How long a learned address stays without being heard from.
    pub mac_aging: Duration,
    /// How many addresses are kept at most.
    pub mac_table_size: usize,
    /// Addresses that are where they are configured to be.
    pub statics: Vec<StaticSpec>,
    /// The hardware address asked for the bridge's own port.
    pub hwaddr: Option<MacAddr>,
    /// The datapath identifier asked for.
    pub datapath_id: Option<u64>,
    /// What becomes of packets that are larger than a port carries.
    pub mtu_policy: MtuPolicy,
}

/// Reads `other_config`, with a note under `other_config_warning` for whatever is not done as asked, and
/// one under `other_config_error` for static addresses that are wrong.
pub fn settings(other_config: &Options, notes: &mut Notes) -> BridgeSettings {
    let mut told = Vec::new();
    let mut number = |key: &str, unit: &str, (default, range): (u64, RangeInclusive<u64>)| {
        let Some(&value) = other_config.get(key) else { return default };
        let (low, high) = (*range.start(), *range.end());
        match value.parse::<u64>() {
            Ok(n) if range.contains(&n) => n,
            Ok(n) => {
                let used = n.clamp(low, high);
                told.push(format!("{key}={value} is outside {low} to {high}{unit}; using {used}"));
                used
            }
            Err(_) => {
                told.push(format!("{key}={value} is not a number from {low} to {high}{unit}; using {default}"));
                default
            }
        }
    };
    let mac_aging = Duration::from_secs(number("mac-aging-time", " s", MAC_AGING));
    let mac_table_size = usize::try_from(number("mac-table-size", "", MAC_TABLE)).unwrap_or(usize::MAX);
    let hwaddr = other_config.get("hwaddr").and_then(|value| match unicast(value) {
        Ok(mac) => Some(mac),
        Err(why) => {
            told.push(format!("hwaddr={value}: {why}"));
            None
        }
    });
    let datapath_id = other_config.get("datapath-id").and_then(|value| {
        let id = datapath_id(value);
        if id.is_none() {
            told.push(format!("datapath-id={value} is not 16 hexadecimal digits, or all zeros"));
        }
        id
    });
    let mtu_policy = other_config.get("mtu-policy").map(|value| {
        MtuPolicy::of(value).unwrap_or_else(|| {
            told.push(format!("mtu-policy={value} is unknown, it is {}; using fit", MtuPolicy::WORDS));
            MtuPolicy::default()
        })
    });
    if let Some(other) = other_config.get("mac-move-action").filter(|v| **v != "report") {
        told.push(format!("mac-move-action={other} is unknown; using report"));
    }
    let honoured = ["mac-aging-time", "mac-table-size", "mac-move-action", "hwaddr", "datapath-id", "mtu-policy"];
    let honoured = |key: &str| honoured.contains(&key) || fdb::is_key(key);
    if let Some(rest) = listed(other_config.iter().filter(|(k, _)| !honoured(k))) {
        told.push(format!("not supported by this version, left out: {rest}"));
    }
    if !told.is_empty() {
        notes.insert("other_config_warning".to_owned(), told.join("; "));
    }
    let mut wrong = Vec::new();
    let statics = fdb::statics(other_config, &mut wrong);
    if !wrong.is_empty() {
        notes.insert("other_config_error".to_owned(), wrong.join("; "));
    }
    let mtu_policy = mtu_policy.unwrap_or_default();
    BridgeSettings { mac_aging, mac_table_size, statics, hwaddr, datapath_id, mtu_policy }
}

/// An address that a device can have.
pub fn unicast(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|e: datapath::types::BadMac| e.to_string())?;
    if mac.is_group() || mac == MacAddr::ZERO {
        return Err("a group address or all zeros, which no device can have".to_owned());
    }
    Ok(mac)
}

/// 16 hexadecimal digits, or `0x` and up to 16, not all zeros.
fn datapath_id(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let complete = digits.len() == 16 || (digits.len() < 16 && digits.len() < text.len());
    let id = u64::from_str_radix(digits, 16).ok()?;
    (complete && id != 0).then_some(id)
}

/// An address of our own making (locally administered) that stays with a row for ever.
#[must_use]
pub fn mac_of(row: Uuid) -> MacAddr {
    let b = row.as_bytes();
    // Bytes 6 and 8 of a random identifier hold fixed bits (RFC 9562 §5.4): leave them out.
    MacAddr([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&'static str, &'static str)]) -> (BridgeSettings, Option<String>) {
        let mut notes = Notes::new();
        let settings = settings(&options.iter().copied().collect(), &mut notes);
        (settings, notes.remove("other_config_warning"))
    }

    #[test]
    fn defaults_and_good_values() {
        let (s, told) = read(&[]);
        assert_eq!((s.mac_aging, s.mac_table_size), (Duration::from_secs(300), 8192));
        assert_eq!((s.hwaddr, s.datapath_id, told), (None, None, None));
        let (s, told) = read(&[
            ("mac-aging-time", "60"),
            ("mac-table-size", "100"),
            ("hwaddr", "02:00:00:00:00:07"),
            ("datapath-id", "0000000000000007"),
        ]);
        assert_eq!((s.mac_aging, s.mac_table_size), (Duration::from_secs(60), 100));
        assert_eq!((s.hwaddr, s.datapath_id), (Some(MacAddr([2, 0, 0, 0, 0, 7])), Some(7)));
        assert_eq!(told, None);
    }

    #[test]
    fn what_is_not_done_as_asked_is_told() {
        let (s, told) = read(&[("mac-aging-time", "5"), ("mac-table-size", "many"), ("forward-bpdu", "true")]);
        assert_eq!((s.mac_aging, s.mac_table_size), (Duration::from_secs(15), 8192));
        assert_eq!(
            told.as_deref(),
            Some(
                "mac-aging-time=5 is outside 15 to 3600 s; using 15; mac-table-size=many is not a number from 10 to \
                 1000000; using 8192; not supported by this version, left out: forward-bpdu=true"
            )
        );
        let (s, told) = read(&[("hwaddr", "01:00:00:00:00:07"), ("datapath-id", "7")]);
        assert_eq!((s.hwaddr, s.datapath_id), (None, None));
        let told = told.unwrap();
        assert!(told.contains("hwaddr=01:00:00:00:00:07: a group address") && told.contains("datapath-id=7"), "{told}");
    }

    #[test]
    fn a_policy_for_what_is_too_large() {
        let of = |value| {
            let (settings, told) = read(&[("mtu-policy", value)]);
            (settings.mtu_policy, told)
        };
        assert_eq!(of("icmp"), (MtuPolicy::Icmp, None));
        assert_eq!(of("strict"), (MtuPolicy::Strict, None));
        let told = "mtu-policy=cut is unknown, it is fit, icmp, drop or strict; using fit".to_owned();
        assert_eq!(of("cut"), (MtuPolicy::Fit, Some(told)));
        assert_eq!(read(&[]).0.mtu_policy, MtuPolicy::Fit);
    }

    #[test]
    fn datapath_identifiers() {
        assert_eq!(datapath_id("0x7"), Some(7));
        assert_eq!(datapath_id("00000000000000ff"), Some(255));
        for bad in ["", "7", "0x", "0000000000000000", "000000000000000g", "00000000000000000ff"] {
            assert_eq!(datapath_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn made_addresses_are_unicast_local_and_stable() {
        let row = Uuid::from_bytes([0xff; 16]);
        let mac = mac_of(row);
        assert_eq!(mac, MacAddr([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]));
        assert!(!mac.is_group());
        assert_eq!(mac_of(Uuid::nil()), MacAddr([2, 0, 0, 0, 0, 0]));
    }
}
