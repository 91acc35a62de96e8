//! Our schema against the schema file of Debian's openvswitch-common.

use ovsdb::schema::{ColumnSchema, DatabaseSchema};
use std::collections::BTreeMap;
use std::fs;
use vswitch_tests::ovs::Ovs;

/// Every table and column by name, as JSON text.
fn columns(schema: &DatabaseSchema) -> BTreeMap<String, ColumnSchema> {
    let columns = schema
        .tables
        .iter()
        .flat_map(|(table, t)| t.columns.iter().map(move |(column, c)| (format!("{table}.{column}"), c.clone())));
    columns.collect()
}

#[test]
fn the_schema_is_open_vswitch_s() {
    let Some(ovs) = Ovs::find() else { return };
    let text = fs::read_to_string(ovs.schema()).expect("the schema file");
    let theirs = DatabaseSchema::from_json(&serde_json::from_str(&text).expect("JSON")).expect("a schema");
    let ours = ovsdb::vswitch_schema::vswitch_schema();

    assert_eq!(ours.name, theirs.name);
    assert_eq!(ours.tables.keys().collect::<Vec<_>>(), theirs.tables.keys().collect::<Vec<_>>(), "the tables differ");
    let (our_columns, their_columns) = (columns(&ours), columns(&theirs));
    for (name, theirs) in &their_columns {
        assert_eq!(our_columns.get(name), Some(theirs), "{name}");
    }
    assert_eq!(our_columns.len(), their_columns.len(), "we have columns of our own");
    for (name, table) in &theirs.tables {
        let ours = &ours.tables[name];
        assert_eq!(ours.is_root, table.is_root, "{name}: isRoot");
        assert_eq!(ours.max_rows, table.max_rows, "{name}: maxRows");
        assert_eq!(ours.indexes, table.indexes, "{name}: indexes");
    }
    assert_eq!(ours.version, theirs.version);
}
