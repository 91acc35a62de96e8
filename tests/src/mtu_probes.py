#!/usr/bin/env python3
"""IPv4 packets of exact sizes between the tests' pods and hosts, and how they get there.

mtu_probes.py listen DEVICE…                  answers UDP on port 6666, and prints 'ready', then for every IPv4 packet that
                                              comes in by one of these devices and is a probe or a fragment of one:
                                                DEVICE NUMBER LENGTH whole|fragment
mtu_probes.py send ADDRESS PORT PROBE…        sends probes, all at once, until each is answered or known to be too large;
                                              PROBE is PROTOCOL,SIZE,NUMBER: icmp-df, icmp, udp-df or udp, the size of the
                                              IP packet, and a number that tells it from all others. Prints for each:
                                                NUMBER answered
                                                NUMBER told MTU
                                                NUMBER lost

With DF every probe goes out, whatever has been learned of the path (IP_PMTUDISC_PROBE); without it, too, and is cut only
where a device is too narrow (IP_PMTUDISC_OMIT).
"""
import errno
import selectors
import socket
import struct
import sys

ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
# linux/in.h
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR = 8, 10, 11
IP_PMTUDISC_PROBE, IP_PMTUDISC_OMIT = 3, 5
EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err: errno, origin, type, code, pad, info, data
PORT = 6666
HEADERS = 28  # IPv4's, and 8 bytes of ICMP's or UDP's
ATTEMPTS, PATIENCE = 20, 0.5  # seconds


def open_device(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    sock.bind((device, ETH_P_IP))
    return sock


def probe_number(packet):
    """The number of the probe that begins in this packet, or None."""
    start = (packet[0] & 15) * 4
    rest = packet[start:]
    if packet[9] == socket.IPPROTO_ICMP and rest[0] == 8:
        return struct.unpack_from("!H", rest, 6)[0]
    if packet[9] == socket.IPPROTO_UDP and struct.unpack_from("!H", rest, 2)[0] == PORT:
        return struct.unpack_from("!H", rest, 8)[0]
    return None


def listen(*devices):
    selector = selectors.DefaultSelector()
    for device in devices:
        selector.register(open_device(device), selectors.EVENT_READ, device)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    server.bind(("0.0.0.0", PORT))
    selector.register(server, selectors.EVENT_READ, None)
    begun = {}
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                answer(server)
                continue
            packet, sender = key.fileobj.recvfrom(65536)
            if sender[2] != PACKET_OUTGOING:
                tell(key.data, packet, begun)


def answer(server):
    """Answers from the address that was asked."""
    data, control, _, client = server.recvmsg(65536, 64)
    _, _, asked = struct.unpack("=I4s4s", control[0][2])
    server.sendmsg([data[:2]], [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, asked, bytes(4)))], 0, client)


def tell(device, packet, begun):
    length, identity, flags = struct.unpack_from("!HHH", packet, 2)
    key = (device, identity, packet[9], packet[12:20])
    is_fragment, is_first = flags & 0x3FFF != 0, flags & 0x1FFF == 0
    number = probe_number(packet) if is_first else begun.get(key)
    if is_first and is_fragment:
        begun[key] = number
    if number is not None:
        print(device, number, length, "fragment" if is_fragment else "whole", flush=True)


class Probe:
    def __init__(self, text, address, port):
        protocol, size, number = text.split(",")
        self.number = int(number)
        payload = bytes(int(size) - HEADERS)
        if protocol.startswith("icmp"):
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
            self.data = struct.pack("!BBHHH", 8, 0, 0, 0, self.number) + payload
        else:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.data = struct.pack("!H", self.number) + payload[2:]
        mode = IP_PMTUDISC_PROBE if protocol.endswith("-df") else IP_PMTUDISC_OMIT
        self.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self.sock.connect((address, port))

    def send(self):
        try:
            self.sock.send(self.data)
        except OSError as error:
            # The error queue says more, also of the send before.
            if error.errno != errno.EMSGSIZE:
                print(self.number, error, file=sys.stderr)

    def outcome(self):
        """What has become of it, or None if that isn't known yet."""
        try:
            _, control, _, _ = self.sock.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            for level, kind, value in control:
                if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR):
                    number, _, _, _, _, info, _ = EXTENDED_ERROR.unpack(value[: EXTENDED_ERROR.size])
                    if number == errno.EMSGSIZE:
                        return f"told {info}"
                    print(self.number, errno.errorcode[number], file=sys.stderr)
        except BlockingIOError:
            pass
        try:
            self.sock.recv(65536, socket.MSG_DONTWAIT)
            return "answered"
        except OSError:
            return None


def send(address, port, *texts):
    probes = [Probe(text, address, int(port)) for text in texts]
    waiting = selectors.DefaultSelector()
    for probe in probes:
        waiting.register(probe.sock, selectors.EVENT_READ, probe)
    for _ in range(ATTEMPTS):
        for key in list(waiting.get_map().values()):
            key.data.send()
        while waiting.get_map() and (ready := waiting.select(PATIENCE)):
            for key, _ in ready:
                if outcome := key.data.outcome():
                    print(key.data.number, outcome)
                    waiting.unregister(key.fileobj)
    for key in waiting.get_map().values():
        print(key.data.number, "lost")


what, *arguments = sys.argv[1:]
listen(*arguments) if what == "listen" else send(*arguments)
