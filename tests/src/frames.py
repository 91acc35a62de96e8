#!/usr/bin/env python3
"""Raw Ethernet frames for the tests, in hexadecimal from the destination address on.

frames.py send DEVICE FRAME…   sends them
frames.py listen DEVICE        prints 'ready', then every received frame of the experimental ethertype 0x88b5,
                               with the VLAN tag that the kernel keeps beside the data put back
"""
import socket
import struct
import sys

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/socket.h, linux/if_packet.h
TP_STATUS_VLAN_VALID = 1 << 4
PACKET_OUTGOING = 4
AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata

what, device, *frames = sys.argv[1:]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
sock.bind((device, ETH_P_ALL))
if what == "send":
    for frame in frames:
        sock.send(bytes.fromhex(frame))
    sys.exit()

sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
print("ready", flush=True)
while True:
    data, control, _, sender = sock.recvmsg(65536, socket.CMSG_SPACE(AUXDATA.size))
    for level, kind, value in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(value[: AUXDATA.size])
            if status & TP_STATUS_VLAN_VALID:
                data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
    if sender[2] != PACKET_OUTGOING and b"\x88\xb5" in data[12:22]:
        print(data.hex(), flush=True)
