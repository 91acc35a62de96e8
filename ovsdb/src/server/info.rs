//! The `_Server` database (ovsdb-server(5)): what this server offers. Clients ask it first.

use crate::db::Database;
use crate::schema::DatabaseSchema;
use crate::value::Datum;
use crate::vswitch_schema::server_schema;

/// The `_Server` database of a server that offers `schema` and `_Server` itself.
pub(super) fn server_database(schema: &DatabaseSchema) -> Database {
    let mut database = Database::new(server_schema());
    let mut txn = database.begin();
    for schema in [schema, &server_schema()] {
        // The columns left out are for clustered databases.
        let columns = [
            ("name", Datum::string(&schema.name)),
            ("model", Datum::string("standalone")),
            ("connected", Datum::boolean(true)),
            ("leader", Datum::boolean(true)),
            ("schema", Datum::string(schema.to_json().to_string())),
        ];
        txn.insert("Database", columns).expect("our own row fits our own schema");
    }
    let prepared = txn.finish().expect("our own rows fit our own schema");
    database.apply(prepared);
    database
}
