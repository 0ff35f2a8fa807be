"""Spreads the DNS queries of one client over the sockets of a reuseport group.

Without a program the kernel chooses the member by addresses and ports, so a resolver that asks from one port keeps one
worker busy.  The program (socket(7), SO_ATTACH_REUSEPORT_CBPF) chooses by the query's ID, the first two octets of the
datagram: different queries reach different workers, and a retransmission, which has the same ID, reaches the worker
that still waits for the answer.  A datagram shorter than that goes to the first member.

The program belongs to the group in the kernel, whichever process holds the sockets.  It needs no privilege.
"""

import array
import errno
import socket
import struct
from collections.abc import Sequence

from proxy.config.model import Service

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
SO_DETACH_REUSEPORT_BPF = 68

# linux/filter.h and linux/bpf_common.h
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog: instructions, where they are
_LOAD_HALF = 0x28  # BPF_LD | BPF_H | BPF_ABS: 16 bits of the UDP payload, in network order
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_RETURN = 0x16  # BPF_RET | BPF_A


def spreads(service: Service) -> bool:
    """Returns True if each UDP datagram of a service begins with the ID of a DNS query.

    A PROXY header comes before the query, so that a service with `accept-proxy` has other octets there.
    """
    return service.protocol == "dns" and not service.accept_proxy


def spread(group: Sequence[socket.socket]) -> None:
    """Let the kernel choose the member of a group of two or more by the query's ID.  OSError if the kernel refuses."""
    steps = (_LOAD_HALF, 0), (_MODULO, len(group)), (_RETURN, 0)
    code = array.array("B", b"".join(_INSTRUCTION.pack(step, 0, 0, operand) for step, operand in steps))
    program = _PROGRAM.pack(len(steps), code.buffer_info()[0])
    group[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def gather(group: Sequence[socket.socket]) -> None:
    """Let the kernel choose by addresses and ports again.  OSError if the kernel refuses."""
    try:
        group[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # the group had no program
            raise
