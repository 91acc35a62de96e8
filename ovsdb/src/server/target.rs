//! What a `Manager` row's `target` asks for (ovsdb(7) "Passive Connection Methods").

use crate::address::OVSDB_PORT;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where to listen for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At a TCP port; 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// At a Unix socket, by an absolute path.
    Unix(PathBuf),
}

impl Target {
    /// Reads `ptcp:[PORT][:IP]`, IPv6 in brackets, or `punix:FILE`. The error says why not, without naming `text`.
    pub fn parse(text: &str) -> Result<Target, String> {
        match text.split_once(':') {
            Some(("ptcp", place)) => parse_tcp(place).map(Target::Tcp),
            Some(("punix", path)) if path.starts_with('/') => Ok(Target::Unix(PathBuf::from(path))),
            Some(("punix", _)) => Err("punix: needs an absolute path".to_owned()),
            Some(("tcp" | "unix", _)) => {
                Err("connecting to a manager is not supported; let it connect to ptcp: or punix: here".to_owned())
            }
            Some(("ssl" | "pssl", _)) => {
                Err("TLS is not supported; use ptcp: on a trusted network or through a tunnel, or punix:".to_owned())
            }
            _ => Err("not a target; expected ptcp:[PORT][:IP] or punix:FILE".to_owned()),
        }
    }
}

fn parse_tcp(place: &str) -> Result<SocketAddr, String> {
    let (port, ip) = place.split_once(':').map_or((place, None), |(port, ip)| (port, Some(ip)));
    let port = match port {
        "" => OVSDB_PORT,
        port => port.parse().map_err(|_| format!("{port:?} is no TCP port; expected ptcp:[PORT][:IP]"))?,
    };
    let ip = match ip {
        None => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Some(ip) => {
            let bare = ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let parsed = bare.map_or_else(|| ip.parse().map(IpAddr::V4), |bare| bare.parse().map(IpAddr::V6));
            parsed.map_err(|_| format!("{ip:?} is no IPv4 address and no IPv6 address in brackets"))?
        }
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listened_on() {
        for (text, shown) in [
            ("ptcp:", "0.0.0.0:6640"),
            ("ptcp:0", "0.0.0.0:0"),
            ("ptcp:6641", "0.0.0.0:6641"),
            ("ptcp:6641:127.0.0.1", "127.0.0.1:6641"),
            ("ptcp::127.0.0.1", "127.0.0.1:6640"),
            ("ptcp:6641:[::1]", "[::1]:6641"),
        ] {
            assert_eq!(Target::parse(text), Ok(Target::Tcp(shown.parse().expect("an address"))), "{text}");
        }
        assert_eq!(Target::parse("punix:/run/a:b.sock"), Ok(Target::Unix("/run/a:b.sock".into())));
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "not a target"),
            ("ptcp", "not a target"),
            ("bogus:x", "not a target"),
            ("ptcp:70000", "\"70000\" is no TCP port"),
            ("ptcp:6640:localhost", "\"localhost\" is no IPv4 address"),
            ("ptcp:6640:::1", "\"::1\" is no IPv4 address"),
            ("ptcp:6640:[::1", "\"[::1\" is no IPv4 address"),
            ("ptcp:6640:[127.0.0.1]", "\"[127.0.0.1]\" is no IPv4 address"),
            ("ptcp:6640:", "\"\" is no IPv4 address"),
            ("punix:rel.sock", "punix: needs an absolute path"),
            ("punix:", "punix: needs an absolute path"),
            ("tcp:192.0.2.1:6640", "connecting to a manager is not supported"),
            ("unix:/run/x", "connecting to a manager is not supported"),
            ("ssl:192.0.2.1:6640", "TLS is not supported"),
            ("pssl:6640", "TLS is not supported"),
        ] {
            let refused = Target::parse(text).expect_err(text);
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }
}
