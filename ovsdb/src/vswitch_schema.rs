//! The two schemas that the switch serves.
//!
//! The files beside this one list tables and columns by name, one column a line. The interface is
//! that of Open vSwitch's schema 8.3.1, complete, because its clients complain about every column
//! they know and do not find; which of the columns have an effect is the daemon's business. Own
//! settings go into `other_config`, `options` and `status`, never into columns of their own.

use crate::schema::DatabaseSchema;

/// The schema of the `Open_vSwitch` database.
pub fn vswitch_schema() -> DatabaseSchema {
    built_in(include_str!("vswitch.ovsschema"))
}

/// The schema of the `_Server` database, by which clients learn what a server offers
/// (ovsdb-server(5)).
pub fn server_schema() -> DatabaseSchema {
    built_in(include_str!("server.ovsschema"))
}

fn built_in(text: &str) -> DatabaseSchema {
    let json = serde_json::from_str(text).expect("a built-in schema is JSON");
    DatabaseSchema::from_json(&json).expect("a built-in schema is valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Limits, RefType, UNLIMITED};
    use serde_json::Value;

    #[test]
    fn vswitch_tables() {
        let schema = vswitch_schema();
        assert_eq!((schema.name.as_str(), schema.version.as_str()), ("Open_vSwitch", "8.3.1"));
        assert_eq!(schema.tables.len(), 19);
        assert_eq!(schema.tables.values().map(|t| t.columns.len()).sum::<usize>(), 184);
        let roots: Vec<_> = schema.tables.iter().filter(|t| t.1.is_root).map(|t| t.0.as_str()).collect();
        assert_eq!(roots, ["Flow_Sample_Collector_Set", "Open_vSwitch", "QoS", "Queue"]);
        assert_eq!(schema.tables["Open_vSwitch"].max_rows, Some(1));
        assert_eq!(schema.tables["Interface"].indexes, [["name"]]);
        let port = &schema.tables["Port"].columns;
        assert_eq!(port["interfaces"].ty.max, UNLIMITED);
        assert_eq!(port["tag"].ty.key.limits, Limits::Integer { min: 0, max: 4095 });
        assert!(!port["name"].mutable);
        assert!(port["statistics"].ephemeral && !port["tag"].ephemeral);
        let output = &schema.tables["Mirror"].columns["output_port"].ty;
        assert_eq!((output.key.ref_table.as_deref(), output.key.ref_type), (Some("Port"), RefType::Weak));
        assert!(output.is_optional());
    }

    /// Clients read the schema too: what we print is, member for member, what we were given.
    #[test]
    fn json_round_trip() {
        for text in [include_str!("vswitch.ovsschema"), include_str!("server.ovsschema")] {
            let json: Value = serde_json::from_str(text).unwrap();
            let schema = DatabaseSchema::from_json(&json).unwrap();
            assert_eq!(schema.to_json(), json);
            assert_eq!(DatabaseSchema::from_json(&schema.to_json()).unwrap(), schema);
        }
    }

    #[test]
    fn a_schema_without_roots_has_only_roots() {
        assert!(server_schema().tables["Database"].is_root);
    }
}
