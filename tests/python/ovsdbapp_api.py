"""What Neutron, os-vif and others do through ovsdbapp's open_vswitch API: ovsdbapp_api.py SOCKET

Prints one line a step: its name, then what it returned or what it raised.
"""

import logging
import sys
import threading

from ovsdbapp.backend.ovs_idl import connection, idlutils
from ovsdbapp.schema.open_vswitch import impl_idl

logging.disable(logging.CRITICAL)


def plain(value):
    """A value as text: maps and sets sorted, a row by what it is called."""
    if hasattr(value, "_table"):
        return f"{value._table.name} {getattr(value, 'name', None) or getattr(value, 'target', None)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple, set)):
        return "[" + ", ".join(sorted(plain(item) for item in value)) + "]"
    return str(value)


class Steps:
    def __init__(self, api):
        self.api = api

    def step(self, name, *commands):
        """Runs the commands as one transaction."""
        try:
            with self.api.transaction(check_error=True, log_errors=False) as txn:
                for command in commands:
                    txn.add(command)
            print(f"{name}: {plain([command.result for command in commands])}")
        except Exception as raised:
            print(f"{name}: raised {type(raised).__name__}: {raised}")

    def read(self, name, command):
        try:
            print(f"{name}: {plain(command.execute(check_error=True, log_errors=False))}")
        except Exception as raised:
            print(f"{name}: raised {type(raised).__name__}: {raised}")


def build(steps, api):
    steps.step("add_br", api.add_br("br0", datapath_type="netdev"))
    steps.step("add_br again", api.add_br("br0"))
    steps.read("br_exists", api.br_exists("br0"))
    steps.read("br_exists not", api.br_exists("nope"))
    # As os-vif plugs: everything of a port in one transaction.
    ids = {"iface-id": "f1", "iface-status": "active", "attached-mac": "fa:16:3e:00:00:01", "vm-uuid": "u1"}
    steps.step(
        "plug",
        api.add_port("br0", "vx1"),
        api.db_set("Port", "vx1", ("tag", 7)),
        api.db_set(
            "Interface",
            "vx1",
            ("external_ids", ids),
            ("type", "vxlan"),
            ("options", {"remote_ip": "10.0.0.9", "key": "7", "dst_port": "4790"}),
        ),
    )
    steps.step("add_port again", api.add_port("br0", "vx1", may_exist=True))
    steps.step("add_port must not exist", api.add_port("br0", "vx1", may_exist=False))
    steps.step("add_port no bridge", api.add_port("nope", "p9"))
    steps.step(
        "patch pair",
        api.add_br("br1", datapath_type="netdev"),
        api.add_port("br0", "to-br1"),
        api.db_set("Interface", "to-br1", ("type", "patch"), ("options", {"peer": "to-br0"})),
        api.add_port("br1", "to-br0"),
        api.db_set("Interface", "to-br0", ("type", "patch"), ("options", {"peer": "to-br1"})),
    )


def look(steps, api):
    steps.read("list_br", api.list_br())
    steps.read("list_ports", api.list_ports("br0"))
    steps.read("list_ifaces", api.list_ifaces("br1"))
    steps.read("iface_to_br", api.iface_to_br("vx1"))
    steps.read("port_to_br", api.port_to_br("to-br0"))
    steps.read("db_get tag", api.db_get("Port", "vx1", "tag"))
    steps.read("db_get options", api.db_get("Interface", "vx1", "options"))
    steps.read("db_list", api.db_list("Port", ["vx1", "to-br1"], columns=["name", "tag", "trunks", "qos"]))
    steps.read("db_find type", api.db_find("Interface", ("type", "=", "patch"), columns=["name", "options"]))
    steps.read("db_find map", api.db_find("Interface", ("external_ids", "=", {"iface-id": "f1"}), columns=["name"]))
    steps.read("db_find not", api.db_find("Port", ("tag", "!=", 7), columns=["name", "tag"]))
    steps.read("db_find none", api.db_find("Interface", ("name", "=", "nope"), columns=["name"]))
    steps.read("db_list no record", api.db_list("Port", ["nope"]))


def change(steps, api):
    steps.step("br_set_external_id", api.br_set_external_id("br0", "bridge-id", "br-int"))
    steps.read("br_get_external_id", api.br_get_external_id("br0", "bridge-id"))
    steps.step("iface_set_external_id", api.iface_set_external_id("vx1", "iface-id", "f2"))
    steps.read("iface_get_external_id", api.iface_get_external_id("vx1", "iface-id"))
    steps.step("set_controller", api.set_controller("br0", ["tcp:127.0.0.1:6653", "ptcp:6654:127.0.0.1"]))
    steps.read("get_controller", api.get_controller("br0"))
    steps.step("del_controller", api.del_controller("br0"))
    steps.read("get_controller none", api.get_controller("br0"))
    steps.step("set_fail_mode", api.set_fail_mode("br0", "secure"))
    steps.read("fail_mode", api.db_get("Bridge", "br0", "fail_mode"))
    steps.step("db_clear", api.db_clear("Bridge", "br0", "fail_mode"))
    steps.step("db_add", api.db_add("Port", "vx1", "trunks", 10, 20, 30))
    steps.step("db_remove", api.db_remove("Port", "vx1", "trunks", 20))
    steps.step("db_set map", api.db_set("Bridge", "br0", ("other_config", {"mac-aging-time": "60"})))
    steps.step("db_add map", api.db_add("Bridge", "br0", "other_config", {"mac-table-size": "512"}))
    steps.step("db_remove key", api.db_remove("Bridge", "br0", "other_config", "mac-aging-time"))
    steps.read("other_config", api.db_get("Bridge", "br0", "other_config"))
    steps.read("trunks", api.db_get("Port", "vx1", "trunks"))
    steps.step("add_manager", api.add_manager("ptcp:6640:127.0.0.1"))
    steps.read("get_manager", api.get_manager())
    steps.step("remove_manager", api.remove_manager("ptcp:6640:127.0.0.1"))
    # A row of a table that is no root goes with the last reference to it.
    steps.step("qos", api.db_create("QoS", type="linux-htb", external_ids={"id": "q1"}))
    qos = api.db_find("QoS", ("external_ids", "=", {"id": "q1"}), columns=["_uuid"]).execute(check_error=True)
    steps.step("port qos", api.db_set("Port", "vx1", ("qos", qos[0]["_uuid"])))
    steps.step("port qos gone", api.db_clear("Port", "vx1", "qos"))
    steps.read("qos stays", api.db_find("QoS", ("external_ids", "=", {"id": "q1"}), columns=["type"]))
    steps.step("db_destroy", api.db_destroy("QoS", qos[0]["_uuid"]))


def fail(steps, api):
    # The server refuses: a bridge's name is taken, a port must have an interface. Nothing of the rest is done.
    steps.step("duplicate", api.set_fail_mode("br1", "secure"), api.add_port("br1", "vx1", may_exist=False))
    steps.step("no interface", api.set_fail_mode("br1", "secure"), api.db_create("Port", name="lonely"))
    steps.read("nothing done", api.db_get("Bridge", "br1", "fail_mode"))
    steps.step("no row", api.db_set("Bridge", "nope", ("fail_mode", "secure")))


def race(steps, api, server):
    """Two sessions that write the same column: both get through, one after the other."""
    others = [impl_idl.OvsdbIdl(connect(server)) for _ in range(3)]

    def work(which, mine):
        for n in range(5):
            mine.db_add("Bridge", "br1", "external_ids", {f"{which}-{n}": "x"}).execute(check_error=True)
            mine.db_add("Port", "vx1", "trunks", 100 * (which + 1) + n).execute(check_error=True)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waiter = idlutils.wait_for_change
    while len(api.db_get("Port", "vx1", "trunks").execute()) < 17:
        waiter(api.idl, 10)
    steps.read("raced external_ids", api.db_get("Bridge", "br1", "external_ids"))
    steps.read("raced trunks", api.db_get("Port", "vx1", "trunks"))


def clear(steps, api):
    steps.step("del_port", api.del_port("vx1", "br0"))
    steps.step("del_port again", api.del_port("vx1", "br0"))
    steps.step("del_port must exist", api.del_port("vx1", if_exists=False))
    steps.step("del_port wrong bridge", api.del_port("to-br0", "br0"))
    steps.step("del_br", api.del_br("br0"), api.del_br("br1"))
    steps.step("del_br again", api.del_br("br0"))
    steps.read("nothing left", api.list_br())
    for table in "Port", "Interface", "Controller", "QoS":
        steps.read(f"no {table}", api.db_list(table, columns=["name"] if table in ("Port", "Interface") else None))


def connect(server):
    return connection.Connection(connection.OvsdbIdl.from_server(server, "Open_vSwitch"), timeout=10)


def main(server):
    api = impl_idl.OvsdbIdl(connect(server))
    steps = Steps(api)
    build(steps, api)
    look(steps, api)
    change(steps, api)
    fail(steps, api)
    race(steps, api, server)
    clear(steps, api)


main(sys.argv[1])
