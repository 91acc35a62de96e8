//! Schemas, types and values: what is read and written again is the same, and a value that is accepted keeps to its type.
//!
//! Input is lines of JSON. The first is a database schema or a column's type, the others are values for that type.

use ovsdb::error::OpError;
use ovsdb::schema::{ColumnType, DatabaseSchema};
use ovsdb::value::{Datum, NoSymbols};
use serde_json::Value;

/// A schema or type, and values.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n').map(serde_json::from_slice::<Value>).map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    if let Ok(schema) = DatabaseSchema::from_json(&first) {
        assert_eq!(DatabaseSchema::from_json(&rewritten(&schema.to_json())).as_ref(), Ok(&schema));
        let columns = schema.tables.values().flat_map(|table| table.columns.values());
        columns.for_each(|column| check_type(&column.ty));
    }
    if let Ok(ty) = ColumnType::from_json(&first) {
        check_type(&ty);
        let data: Vec<Datum> = lines.filter_map(|value| read(&ty, &value).ok()).collect();
        for datum in &data {
            check_datum(&ty, datum);
            for other in &data {
                check_difference(&ty, datum, other);
            }
        }
    }
}

fn read(ty: &ColumnType, value: &Value) -> Result<Datum, OpError> {
    Datum::from_json(ty, value, &mut NoSymbols)
}

/// The value after it was written to a file or a socket.
fn rewritten(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).expect("what was written is JSON")
}

fn check_type(ty: &ColumnType) {
    assert_eq!(ColumnType::from_json(&rewritten(&ty.to_json())).as_ref(), Ok(ty));
    let default = ty.default_datum();
    assert!(ty.admits(&default) && ty.is_default(&default), "{ty:?}: default {default:?}");
    assert_eq!(ty.check_len(default.len()), Ok(()), "{ty:?}: default {default:?}");
    assert!(!ty.to_string().is_empty());
}

fn check_datum(ty: &ColumnType, datum: &Datum) {
    assert!(ty.admits(datum), "{ty:?}: {datum:?}");
    assert_eq!(ty.check(datum), Ok(()), "{ty:?}: {datum:?}");
    assert_eq!(read(ty, &rewritten(&datum.to_json())).as_ref(), Ok(datum), "{ty:?}");
    assert_eq!(ty.is_default(datum), *datum == ty.default_datum(), "{ty:?}: {datum:?}");
    ty.to_text(datum);
}

/// A difference leads from one value to the other, and back.
fn check_difference(ty: &ColumnType, old: &Datum, new: &Datum) {
    let difference = ty.diff(old, new);
    assert_eq!(ty.apply_diff(old, &difference), *new, "{ty:?}: {old:?} by {difference:?}");
    assert_eq!(ty.apply_diff(new, &ty.diff(new, old)), *old, "{ty:?}");
}
