"""A name server on loopback that answers TXT questions from a table."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


@contextlib.contextmanager
def answering(records: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Give the server's address, `"127.0.0.1:5353"`. A name without records is not there; `["SERVFAIL"]` fails."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        host, port = listening.getsockname()
        thread = threading.Thread(target=_serve, args=(listening, records), daemon=True)
        thread.start()
        try:
            yield f"{host}:{port}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (host, port))
            thread.join()


def _serve(listening: socket.socket, records: Mapping[str, Sequence[str]]) -> None:
    while True:
        raw, client = listening.recvfrom(4096)
        if not raw:
            return
        question = dns.message.from_wire(raw)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        name = question.question[0].name
        texts = records.get(name.to_text(omit_final_dot=True), [])
        if texts == ["SERVFAIL"]:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not texts:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            answer.answer = [dns.rrset.from_text(name, 60, "IN", "TXT", *texts)]
        listening.sendto(answer.to_wire(), client)
