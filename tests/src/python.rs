//! Python clients of Open vSwitch: its own library and OpenStack's `ovsdbapp`, from PyPI.
//!
//! `tests/setup.sh test` fetches what `tests/python/NAME.txt` lists into the directory NAME under `PEERS_PYTHON` (default
//! `target/peers-python`); the scripts that use it stand beside the lists.

use crate::process::skip;
use std::path::{Path, PathBuf};

/// Packages of PyPI that are here.
pub struct Python {
    packages: PathBuf,
}

impl Python {
    /// Finds the packages that `tests/python/NAME.txt` lists; `None` (said on standard error, or a panic if nothing may be
    /// skipped) where they are missing.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let under = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers-python");
        let packages = std::env::var_os("PEERS_PYTHON").map_or(under, PathBuf::from).join(name);
        if packages.join("installed").is_file() {
            return Some(Self { packages });
        }
        skip(&format!("no {}; fetch it with: tests/setup.sh test", packages.display()));
        None
    }

    /// The command line that runs a Python program on these packages.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &str) -> String {
        format!("env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={} python3 {program} {arguments}", self.packages.display())
    }

    /// The command line that runs the script `tests/python/NAME.py`.
    #[must_use]
    pub fn script(&self, name: &str, arguments: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name).with_extension("py");
        self.command(&script.display().to_string(), arguments)
    }
}
