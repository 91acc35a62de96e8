//! What to tell when all is committed: interfaces in error, warnings; and what to tell when it took too long.

use std::time::Duration;

use ovsdb::address::Address;
use ovsdb::value::Datum;

use crate::error::{Error, Result, listing};
use crate::session::{MirrorState, Stage, State};

/// What `status` warns of, under keys that end in `_warning`: something works that was hardly meant so. And the error
/// of an interface that is set up all the same, such as one end of a patch whose other end is not there yet.
pub(crate) fn warnings(state: &State) -> Vec<String> {
    let has_number = state.ofport.is_some_and(|ofport| ofport >= 0);
    let incomplete = state.error.as_ref().filter(|_| has_number).map(|why| format!("warning: {}: {why}", state.name));
    let warning =
        |(key, text): (&str, &str)| key.ends_with("_warning").then(|| format!("warning: {}: {text}", state.name));
    state.status.string_pairs().filter_map(warning).chain(incomplete).collect()
}

/// The key in an interface's `status` under which it says that its packets may be too large for the way.
pub(crate) const MTU_WARNING: &str = "mtu_warning";

/// The warnings of an interface that it did not have before.
pub(crate) fn turned_up((before, state): &(Datum, State)) -> Vec<String> {
    let had = warnings(&State { status: before.clone(), ..state.clone() });
    warnings(state).into_iter().filter(|warning| !had.contains(warning)).collect()
}

/// What `status` says of a column that this run has set: that it has no effect (`unsupported_COLUMN`), or of a bridge that
/// it is wrong (`COLUMN_error`).
pub(crate) fn about_columns(state: &State, set: impl Fn(&str) -> bool) -> Vec<String> {
    let about = |key: &str| key.strip_prefix("unsupported_").or(key.strip_suffix("_error")).is_some_and(&set);
    let told = state.status.string_pairs().filter(|(key, _)| about(key));
    told.map(|(_, text)| format!("warning: {}: {text}", state.name)).collect()
}

/// An error if one of the interfaces could not be set up, or one of the mirrors is not in force.
pub(crate) fn check(states: &[State], mirrors: &[MirrorState]) -> Result<()> {
    let mut lines = failed_interfaces(states);
    lines.extend(failed_mirrors(mirrors));
    if lines.is_empty() { Ok(()) } else { Err(Error::Degraded(lines)) }
}

fn failed_mirrors(mirrors: &[MirrorState]) -> Vec<String> {
    let mut failures: Vec<_> = mirrors.iter().filter_map(|m| Some((&m.name, &m.bridge, m.error.as_ref()?))).collect();
    failures.sort_unstable();
    let line = |(name, _, why): &(&String, &String, &String)| {
        format!("Error detected while setting up mirror '{name}': {why}")
    };
    let mut lines: Vec<String> = failures.iter().map(line).collect();
    lines.extend(failures.first().map(|(name, bridge, _)| {
        format!(
            "The change is committed all the same; no traffic is affected. 'vsctl get bridge {bridge} status:mirror_{name}' \
             tells how it stands; 'vsctl clear bridge {bridge} mirrors' removes all mirrors of {bridge}."
        )
    }));
    lines
}

fn failed_interfaces(states: &[State]) -> Vec<String> {
    let mut failures: Vec<(&str, &str)> =
        states.iter().filter_map(|state| Some((state.name.as_str(), failure(state)?))).collect();
    failures.sort_unstable();
    let name = match failures.as_slice() {
        [] => return Vec::new(),
        [(name, _)] => name,
        _ => "IFACE",
    };
    let mut lines: Vec<String> =
        failures.iter().map(|(name, why)| format!("Error detected while setting up '{name}': {why}")).collect();
    lines.push(format!(
        "The change is committed all the same. 'vsctl get interface {name} error' tells how it stands; \
         'vsctl del-port {name}' (of a bridge: del-br) takes it back."
    ));
    lines
}

fn failure(state: &State) -> Option<&str> {
    match (&state.error, state.ofport) {
        (Some(error), None | Some(-1)) => Some(error),
        (None, None | Some(-1)) => Some("the switch gave it no port number and does not say why"),
        (_, Some(_)) => None,
    }
}

/// The error for a run that took longer than it may.
pub(crate) fn out_of_patience(patience: Duration, remotes: &[Address], stage: &Stage) -> Error {
    let (secs, socket) = (
        patience.as_secs(),
        listing(remotes.iter().map(Address::to_string).collect::<Vec<_>>().iter().map(String::as_str)),
    );
    let what = match stage {
        Stage::Connecting => format!("no connection to {socket}; is vswitch running?"),
        Stage::Reading => format!("the switch at {socket} does not answer; nothing was changed"),
        Stage::Following => "that was as long as --timeout says".to_owned(),
        Stage::Until(not_yet) => format!("{not_yet}; nothing was changed"),
        Stage::Committing => {
            format!("the switch at {socket} does not say whether it made the change; 'vsctl show' tells")
        }
        Stage::Waiting { wanted, reached } => format!(
            "the change is committed, but the switch has not acted on it (it is at cur_cfg {reached} of {wanted}); \
             is vswitch running? --no-wait does not wait for it, --timeout=SECS waits longer"
        ),
    };
    Error::TimedOut(format!("timed out after {secs} s: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, ofport: Option<i64>, error: Option<&str>) -> State {
        let status =
            Datum::map_of_strings([("io", "packet"), ("address_warning", "192.0.2.1 is lost"), ("warning", "x")]);
        State { name: name.to_owned(), ofport, error: error.map(str::to_owned), status, interfaces: vec![] }
    }

    fn told(states: &[State]) -> String {
        check(states, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn errors_of_interfaces() {
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[state("p1", Some(1), None), state("br0", Some(65534), None)]), "");
        assert_eq!(
            told(&[state("p1", Some(-1), Some("no such device")), state("p2", Some(2), None)]),
            "Error detected while setting up 'p1': no such device\n\
             The change is committed all the same. 'vsctl get interface p1 error' tells how it stands; \
             'vsctl del-port p1' (of a bridge: del-br) takes it back."
        );
        let both =
            told(&[state("p2", None, None), state("p1", None, Some("half broken")), state("p3", Some(3), Some("x"))]);
        assert!(both.starts_with(
            "Error detected while setting up 'p1': half broken\n\
             Error detected while setting up 'p2': the switch gave it no port number and does not say why\n"
        ));
        assert!(both.contains("'vsctl get interface IFACE error'"));
    }

    #[test]
    fn errors_of_mirrors() {
        let mirror = |name: &str, error: Option<&str>| MirrorState {
            row: Default::default(),
            name: name.to_owned(),
            bridge_row: Default::default(),
            bridge: "br0".to_owned(),
            error: error.map(str::to_owned),
            warning: None,
        };
        assert_eq!(check(&[], &[mirror("m", None)]), Ok(()));
        let mirrors = [mirror("m2", Some("a loop")), mirror("m0", None), mirror("m1", Some("no output"))];
        let all = [state("p1", Some(-1), Some("no such device"))];
        let told = check(&all, &mirrors).unwrap_err();
        assert_eq!(told.exit_code(), 65);
        assert_eq!(
            told.to_string().lines().collect::<Vec<_>>()[2..],
            [
                "Error detected while setting up mirror 'm1': no output",
                "Error detected while setting up mirror 'm2': a loop",
                "The change is committed all the same; no traffic is affected. 'vsctl get bridge br0 status:mirror_m1' \
                 tells how it stands; 'vsctl clear bridge br0 mirrors' removes all mirrors of br0.",
            ]
        );
    }

    #[test]
    fn warnings_of_interfaces() {
        assert_eq!(warnings(&state("p1", Some(1), None)), ["warning: p1: 192.0.2.1 is lost"]);
        let patch = State { status: Datum::empty_map(), ..state("pa", Some(5), Some("no peer pb")) };
        assert_eq!(warnings(&patch), ["warning: pa: no peer pb"]);
        assert_eq!(warnings(&State { ofport: Some(-1), ..patch }), [""; 0]);
    }

    #[test]
    fn warnings_that_turned_up() {
        let before = Datum::map_of_strings([("address_warning", "192.0.2.1 is lost")]);
        let after = [("address_warning", "192.0.2.1 is lost"), (MTU_WARNING, "1500 is too large for vx0 (1450)")];
        let after = State { status: Datum::map_of_strings(after), ..state("p1", Some(1), None) };
        let told = turned_up(&(before, after.clone()));
        assert_eq!(told, ["warning: p1: 1500 is too large for vx0 (1450)"]);
        assert_eq!(turned_up(&(after.status.clone(), after)), [""; 0]);
    }

    #[test]
    fn only_of_columns_that_were_set() {
        let status = [
            ("unsupported_lacp", "lacp=active has no effect"),
            ("unsupported_qos", "qos has no effect"),
            ("datapath_type_error", "datapath_type=x is unknown"),
            ("fail_mode_warning", "it forwards nothing"),
        ];
        let state = State {
            name: "p1".to_owned(),
            ofport: None,
            error: None,
            status: Datum::map_of_strings(status),
            interfaces: vec![],
        };
        let told = about_columns(&state, |column| ["lacp", "datapath_type", "fail_mode"].contains(&column));
        assert_eq!(told, ["warning: p1: datapath_type=x is unknown", "warning: p1: lacp=active has no effect"]);
    }

    #[test]
    fn patience() {
        let told = |stage| out_of_patience(Duration::from_secs(3), &[Address::Unix("/s".into())], &stage).to_string();
        assert_eq!(told(Stage::Connecting), "timed out after 3 s: no connection to /s; is vswitch running?");
        assert_eq!(told(Stage::Reading), "timed out after 3 s: the switch at /s does not answer; nothing was changed");
        assert_eq!(
            told(Stage::Until("there is no Bridge br0".to_owned())),
            "timed out after 3 s: there is no Bridge br0; nothing was changed"
        );
        assert!(told(Stage::Committing).contains("does not say whether it made the change"));
        assert!(told(Stage::Waiting { wanted: 5, reached: 4 }).contains("it is at cur_cfg 4 of 5"));
    }
}
