//! Where an OVSDB server is found: ovsdb(7)'s active connection methods.

use std::fmt;
use std::path::{Path, PathBuf};

/// The port of OVSDB unless another is named (IANA).
pub const OVSDB_PORT: u16 = 6640;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a Unix socket.
    Unix(PathBuf),
    /// At a TCP port of a host.
    Tcp {
        /// Its name or its address; of IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Address {
    /// Reads `unix:FILE` or `tcp:HOST[:PORT]`, IPv6 in brackets. The error says what is wrong with `text`, without
    /// naming it.
    pub fn parse(text: &str) -> Result<Address, String> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Address::Unix(PathBuf::from(path))),
            Some(("tcp", place)) => parse_tcp(place),
            Some(("ssl", _)) => {
                Err("TLS is not spoken here; use unix:FILE, or tcp:HOST:PORT through a tunnel".to_owned())
            }
            Some(("ptcp" | "pssl" | "punix", _)) => {
                Err("that waits to be called, while here a server is called: unix:FILE or tcp:HOST:PORT".to_owned())
            }
            _ => Err("expected unix:FILE or tcp:HOST:PORT".to_owned()),
        }
    }
}

/// The control socket that belongs to a database socket: beside it, `.sock` replaced by `.ctl`.
#[must_use]
pub fn control_socket(database: &Path) -> PathBuf {
    match database.extension() {
        Some(extension) if extension == "sock" => database.with_extension("ctl"),
        _ => {
            let mut path = database.as_os_str().to_owned();
            path.push(".ctl");
            path.into()
        }
    }
}

fn parse_tcp(place: &str) -> Result<Address, String> {
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        Some(None) => return Err("the address has no closing ']'".to_owned()),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, Some("")),
        },
    };
    let port = match port {
        Some("") => Some(OVSDB_PORT),
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    match (host, port) {
        ("", _) => Err("the host is missing; expected tcp:HOST:PORT".to_owned()),
        (host, Some(port)) => Ok(Address::Tcp { host: host.to_owned(), port }),
        (_, None) => Err("expected tcp:HOST:PORT, the port from 1 to 65535 and an IPv6 address in brackets".to_owned()),
    }
}

/// A Unix socket by its path alone, TCP as it is parsed.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        for (text, shown) in [
            ("unix:/run/db.sock", "/run/db.sock"),
            ("unix:a:b", "a:b"),
            ("tcp:192.0.2.1:6641", "tcp:192.0.2.1:6641"),
            ("tcp:host", "tcp:host:6640"),
            ("tcp:host:", "tcp:host:6640"),
            ("tcp:[2001:db8::1]:1", "tcp:[2001:db8::1]:1"),
            ("tcp:[fe80::1%eth0]", "tcp:[fe80::1%eth0]:6640"),
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("", "expected unix:FILE"),
            ("/run/db.sock", "expected unix:FILE"),
            ("unix:", "expected unix:FILE"),
            ("ssl:192.0.2.1:6640", "TLS is not spoken here"),
            ("ptcp:6640", "that waits to be called"),
            ("tcp:", "the host is missing"),
            ("tcp::6640", "the host is missing"),
            ("tcp:[]:6640", "the host is missing"),
            ("tcp:[::1", "the address has no closing ']'"),
            ("tcp:host:0", "expected tcp:HOST:PORT, the port"),
            ("tcp:host:65536", "expected tcp:HOST:PORT, the port"),
            ("tcp:::1:6640", "the host is missing"),
            ("tcp:2001:db8::1", "expected tcp:HOST:PORT, the port"),
            ("tcp:[::1]6640", "expected tcp:HOST:PORT, the port"),
        ] {
            let refused = Address::parse(text).expect_err(text);
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }

    #[test]
    fn the_control_socket_is_beside_the_databases() {
        for (socket, control) in [
            ("/run/vswitch/db.sock", "/run/vswitch/db.ctl"),
            ("db.sock", "db.ctl"),
            ("/tmp/x", "/tmp/x.ctl"),
            ("/tmp/x.y", "/tmp/x.y.ctl"),
        ] {
            assert_eq!(control_socket(Path::new(socket)), Path::new(control));
        }
    }
}
