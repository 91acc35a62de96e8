#!/usr/bin/env python3
"""What of BPF a process has loaded, and whether the kernel still has it.

bpf_ids.py of PID                prints 'prog ID', 'map ID' and 'link ID' of every descriptor of the process
bpf_ids.py alive prog ID map ID …  prints those that the kernel knows
"""
import ctypes
import os
import platform
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[platform.machine()]
GET_FD_BY_ID = {"prog": 13, "map": 14, "link": 30}  # linux/bpf.h
LIBC = ctypes.CDLL(None, use_errno=True)


def loaded(pid):
    found = set()
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{name}") as info:
            for line in info:
                kind, _, value = line.partition("_id:")
                if kind in GET_FD_BY_ID:
                    found.add((kind, int(value)))
    return sorted(found)


def is_alive(kind, number):
    attr = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0))
    fd = LIBC.syscall(SYS_BPF, GET_FD_BY_ID[kind], attr, 12)
    if fd >= 0:
        os.close(fd)
    elif ctypes.get_errno() != 2:  # ENOENT
        raise OSError(ctypes.get_errno(), f"{kind} {number}")
    return fd >= 0


if sys.argv[1] == "of":
    pairs = loaded(int(sys.argv[2]))
else:
    words = sys.argv[2:]
    pairs = [(kind, int(number)) for kind, number in zip(words[::2], words[1::2]) if is_alive(kind, int(number))]
for kind, number in pairs:
    print(kind, number)
