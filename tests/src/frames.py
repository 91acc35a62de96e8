#!/usr/bin/env python3
"""Raw Ethernet frames for the tests, in hexadecimal from the destination address on.

frames.py send DEVICE FRAME…   sends them
frames.py flood DEVICE TO COUNT  sends small frames to one station, each from another random one
frames.py storm DEVICE COUNT FILE  sends the frames in FILE, one a line, so many times over
frames.py listen DEVICE        prints 'ready', then every received frame of the experimental ethertype 0x88b5,
                               with the VLAN tag that the kernel keeps beside the data put back
frames.py exchange SCRIPT      does what each line of the file says, in order:
                                 listen DEVICE…           opens these devices
                                 marker DEVICE FRAME…     what 'settle' sends by DEVICE: broadcasts of which each other
                                                          open device is to get one at least
                                 send DEVICE FRAME…       sends them
                                 settle N                 sends markers, numbered in their last four bytes, until all
                                                          devices have got N of them, one after the other: a switch
                                                          that visits its ports in turn has then forwarded what was
                                                          sent before
                               and prints 'DEVICE FRAME' for every received frame that is no marker
"""
import random
import selectors
import socket
import struct
import sys

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/socket.h, linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
TP_STATUS_VLAN_VALID = 1 << 4
PACKET_OUTGOING = 4
AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
MARKER = bytes.fromhex("88b5ffffffff")
PATIENCE = 15  # seconds without any frame


def open_device(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((device, ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    return sock


def receive(sock):
    """The next frame, or None if it isn't one of ours."""
    data, control, _, sender = sock.recvmsg(65536, socket.CMSG_SPACE(AUXDATA.size))
    for level, kind, value in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(value[: AUXDATA.size])
            if status & TP_STATUS_VLAN_VALID:
                data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
    return data if sender[2] != PACKET_OUTGOING and b"\x88\xb5" in data[12:30] else None


def send(device, frames):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    for frame in frames:
        sock.send(bytes.fromhex(frame))


def flood(device, to, count):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    to, rest = bytes.fromhex(to.replace(":", "")), b"\x88\xb6" + bytes(46)
    random.seed(1)
    for _ in range(int(count)):
        # Locally administered, and of no group.
        sock.send(to + b"\x06" + random.randbytes(5) + rest)


def storm(device, count, file):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    frames = [bytes.fromhex(line) for line in open(file)]
    for _ in range(int(count)):
        for frame in frames:
            sock.send(frame)


def listen(device):
    sock = open_device(device)
    print("ready", flush=True)
    while True:
        if data := receive(sock):
            print(data.hex(), flush=True)


class Exchange:
    def __init__(self):
        self.sockets, self.selector = {}, selectors.DefaultSelector()
        self.markers, self.round = [], 0

    def listen(self, *devices):
        for device in devices:
            sock = open_device(device)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            self.sockets[device] = sock
            self.selector.register(sock, selectors.EVENT_READ, device)

    def marker(self, device, *frames):
        self.markers.append((device, [bytes.fromhex(frame) for frame in frames]))

    def send(self, device, *frames):
        for frame in frames:
            self.sockets[device].send(bytes.fromhex(frame))
        self.wait(lambda device, data: None, 0)

    def settle(self, rounds):
        for _ in range(int(rounds)):
            self.round += 1
            mark = struct.pack("!I", self.round)
            missing = set(self.sockets)
            for device, frames in self.markers:
                missing.discard(device)
                for frame in frames:
                    self.sockets[device].send(frame[:-4] + mark)
            while missing:
                heard = lambda device, data: missing.discard(device) if data[-4:] == mark else None
                if not self.wait(heard, PATIENCE):
                    sys.exit(f"marker {self.round} never came to {' '.join(sorted(missing))}")

    def wait(self, marked, patience):
        """Takes what has come, waiting for the first; prints it, or has it marked. Whether there was any."""
        ready = self.selector.select(patience)
        for key, _ in ready:
            data = receive(key.fileobj)
            if data and MARKER in data:
                marked(key.data, data)
            elif data:
                print(key.data, data.hex())
        return bool(ready)


what, argument, *frames = sys.argv[1:]
if what == "send":
    send(argument, frames)
elif what == "flood":
    flood(argument, *frames)
elif what == "storm":
    storm(argument, *frames)
elif what == "listen":
    listen(argument)
else:
    exchange = Exchange()
    for line in open(argument):
        verb, *arguments = line.split()
        getattr(exchange, verb)(*arguments)
