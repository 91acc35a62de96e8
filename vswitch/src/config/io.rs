//! An Interface's type and options → how its device is attached: by a packet socket, or by AF_XDP with Open vSwitch's
//! settings for that. Pure.

use super::{Notes, Options, Refusal};
use datapath::control::{XdpBackend, XdpMode};

/// How a network device is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    /// By a packet socket.
    Packet,
    /// By AF_XDP sockets.
    Xdp(Xdp),
}

/// What is asked of AF_XDP.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Xdp {
    /// `xdp-mode`
    pub mode: XdpMode,
    /// `xdp-backend`
    pub backend: XdpBackend,
    /// `n_rxq`
    pub queues: Option<u32>,
    /// `busy-poll`, in µs
    pub busy_poll: u32,
}

/// The options that a device by a packet socket has, and those that one by AF_XDP has besides.
const OPTIONS: &[&str] = &["io"];
const XDP_OPTIONS: &[&str] = &["io", "xdp-mode", "xdp-backend", "n_rxq", "busy-poll", "use-need-wakeup"];

/// The longest `busy-poll`: past a millisecond it only takes time from others.
const MAX_BUSY_POLL: u32 = 1000;

/// Reads the options of a device of this type: `system`, or one of Open vSwitch's types for AF_XDP.
pub(super) fn read(ty: &str, options: &Options<'_>, notes: &mut Notes) -> Result<Io, Refusal> {
    let asked = options.get("io").copied();
    let by_type = ty.starts_with("afxdp");
    let xdp = match asked {
        Some("af_xdp") => true,
        None | Some("auto") => by_type,
        Some("packet") if by_type => {
            return Err(format!("type={ty} means io=af_xdp, and there is io=packet; clear one of them"));
        }
        Some("packet") => false,
        Some(other) => return Err(format!("io={other} is unknown; use auto, packet or af_xdp")),
    };
    super::interface::note_options(options, if xdp { XDP_OPTIONS } else { OPTIONS }, notes);
    if !xdp {
        return Ok(Io::Packet);
    }
    if options.get("use-need-wakeup").is_some_and(|value| *value != "true") {
        let text = "has no effect: the kernel is always asked whether it must be woken".to_owned();
        notes.insert("unsupported_use-need-wakeup".to_owned(), text);
    }
    let busy_poll = number(options, "busy-poll", 0, MAX_BUSY_POLL)?.unwrap_or(0);
    let queues = number(options, "n_rxq", 1, 64)?;
    Ok(Io::Xdp(Xdp { mode: mode(options)?, backend: backend(options)?, queues, busy_poll }))
}

/// The name of the backend that is there only if it was built in.
const BY_FEATURE: &str = "afxdp";

fn backend(options: &Options<'_>) -> Result<XdpBackend, Refusal> {
    let Some(word) = options.get("xdp-backend").copied() else { return Ok(XdpBackend::default()) };
    XdpBackend::ALL.iter().copied().find(|backend| backend.name() == word).ok_or_else(|| {
        if word == BY_FEATURE {
            return format!(
                "xdp-backend={word}: this vswitch was built without the cargo feature '{BY_FEATURE}'; use xdp-backend=own, \
                 or build it by 'cargo build --release -p vswitch --features {BY_FEATURE}'"
            );
        }
        let words: Vec<_> = XdpBackend::ALL.iter().map(|backend| backend.name()).collect();
        format!("xdp-backend={word} is unknown; use one of {}", words.join(", "))
    })
}

fn mode(options: &Options<'_>) -> Result<XdpMode, Refusal> {
    let Some(word) = options.get("xdp-mode").copied() else { return Ok(XdpMode::default()) };
    XdpMode::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| {
        let words = XdpMode::ALL.map(XdpMode::name).join(", ");
        format!("xdp-mode={word} is unknown; use one of {words}")
    })
}

fn number(options: &Options<'_>, key: &str, least: u32, most: u32) -> Result<Option<u32>, Refusal> {
    let Some(text) = options.get(key).copied() else { return Ok(None) };
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.map(Some).ok_or_else(|| format!("{key}={text} is no number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ty: &str, options: &[(&'static str, &'static str)]) -> (Result<Io, Refusal>, Notes) {
        let mut notes = Notes::new();
        (super::read(ty, &options.iter().copied().collect(), &mut notes), notes)
    }

    #[test]
    fn type_and_io_agree() {
        let xdp = Ok(Io::Xdp(Xdp::default()));
        for (ty, io, expected) in [
            ("", None, Ok(Io::Packet)),
            ("system", Some("auto"), Ok(Io::Packet)),
            ("", Some("packet"), Ok(Io::Packet)),
            ("", Some("af_xdp"), xdp.clone()),
            ("afxdp", None, xdp.clone()),
            ("afxdp-nonpmd", Some("auto"), xdp.clone()),
            ("afxdp", Some("af_xdp"), xdp),
            ("", Some("fast"), Err("io=fast is unknown; use auto, packet or af_xdp".to_owned())),
            (
                "afxdp",
                Some("packet"),
                Err("type=afxdp means io=af_xdp, and there is io=packet; clear one of them".to_owned()),
            ),
        ] {
            let options: Vec<_> = io.map(|io| ("io", io)).into_iter().collect();
            assert_eq!(read(ty, &options), (expected, Notes::new()), "{ty} {io:?}");
        }
    }

    #[test]
    fn settings_as_open_vswitch_spells_them() {
        let all = [
            ("xdp-mode", "native-with-zerocopy"),
            ("xdp-backend", "own"),
            ("n_rxq", "4"),
            ("busy-poll", "20"),
            ("use-need-wakeup", "true"),
        ];
        let mode = XdpMode::NativeWithZeroCopy;
        let xdp = Xdp { mode, backend: XdpBackend::Own, queues: Some(4), busy_poll: 20 };
        assert_eq!(read("afxdp", &all), (Ok(Io::Xdp(xdp)), Notes::new()));
        for (key, value, why) in [
            (
                "xdp-mode",
                "drv",
                "xdp-mode=drv is unknown; use one of best-effort, native-with-zerocopy, native, generic",
            ),
            ("xdp-backend", "dpdk", "xdp-backend=dpdk is unknown; use one of own"),
            ("n_rxq", "0", "n_rxq=0 is no number from 1 to 64"),
            ("n_rxq", "many", "n_rxq=many is no number"),
            ("busy-poll", "9999", "busy-poll=9999 is no number from 0 to 1000"),
        ] {
            let refusal = read("afxdp", &[(key, value)]).0.unwrap_err();
            assert!(refusal.starts_with(why), "{refusal}");
        }
        let (io, notes) = read("afxdp", &[("use-need-wakeup", "false"), ("speed", "fast")]);
        assert_eq!(io, Ok(Io::Xdp(Xdp::default())));
        assert_eq!(notes.keys().collect::<Vec<_>>(), ["options_warning", "unsupported_use-need-wakeup"]);
        let (io, notes) = read("system", &[("n_rxq", "4")]);
        assert_eq!((io, notes["options_warning"].contains("n_rxq=4")), (Ok(Io::Packet), true));
    }

    #[test]
    fn the_crate_is_there_or_its_feature_is_named() {
        let asked = read("afxdp", &[("xdp-backend", "afxdp")]).0;
        match XdpBackend::ALL.iter().find(|backend| backend.name() == "afxdp") {
            Some(&backend) => assert_eq!(asked, Ok(Io::Xdp(Xdp { backend, ..Xdp::default() }))),
            None => {
                let refusal = asked.unwrap_err();
                let why =
                    "xdp-backend=afxdp: this vswitch was built without the cargo feature 'afxdp'; use xdp-backend=own";
                assert!(refusal.starts_with(why), "{refusal}");
            }
        }
    }
}
