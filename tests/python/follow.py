"""A session of Open vSwitch's Python library that follows a database: follow.py SOCKET [BRIDGE]

Prints, as one line of JSON, what it sees of bridges, ports and interfaces whenever that has changed; with BRIDGE, its
condition is that bridges have that name. Runs until it is ended.
"""

import json
import sys

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.stream

COLUMNS = {
    "Bridge": ["name", "ports", "external_ids", "fail_mode"],
    "Port": ["name", "interfaces", "tag", "trunks"],
    "Interface": ["name", "type", "options", "error"],
}


def schema(server):
    error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(server))
    assert not error, error
    connection = ovs.jsonrpc.Connection(stream)
    error, reply = connection.transact_block(ovs.jsonrpc.Message.create_request("get_schema", ["Open_vSwitch"]))
    connection.close()
    assert not error and not reply.error, (error, reply)
    return reply.result


def names(rows):
    return sorted(row.name for row in rows)


def seen(idl):
    rows = {table: sorted(idl.tables[table].rows.values(), key=lambda row: row.name) for table in COLUMNS}
    return {
        "Bridge": [[b.name, names(b.ports), b.external_ids, b.fail_mode] for b in rows["Bridge"]],
        "Port": [[p.name, names(p.interfaces), p.tag, sorted(p.trunks)] for p in rows["Port"]],
        "Interface": [[i.name, i.type, i.options, i.error] for i in rows["Interface"]],
    }


def main(server, bridge=None):
    helper = ovs.db.idl.SchemaHelper(schema_json=schema(server))
    for table, columns in COLUMNS.items():
        helper.register_columns(table, columns)
    idl = ovs.db.idl.Idl(server, helper)
    if bridge:
        idl.cond_change("Bridge", [["name", "==", bridge]])
    last = None
    while True:
        idl.run()
        now = json.dumps(seen(idl), sort_keys=True) if idl.has_ever_connected() else None
        if now != last:
            print(now, flush=True)
            last = now
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.block()


main(*sys.argv[1:])
