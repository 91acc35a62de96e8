"""An IDL session of Open vSwitch's own Python library, driven by lines on standard input.

Prints "BRIDGE PORT TAG EXTERNAL_IDS" lines of what it sees, sorted, one block a change, each ended by an empty line. Usage: idl.py SOCKET
"""
