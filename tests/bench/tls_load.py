"""The load of the cases with client certificates, which wrk cannot show: one request again and again on kept connections.

usage: python -m tests.bench.tls_load PORT FOLDER CLIENT CONNECTIONS SECONDS; prints requests, seconds, p50 and p99 in ms.
"""

import asyncio
import ssl
import statistics
import sys
import time
from pathlib import Path

import uvloop


async def main() -> None:
    """Send, count, print. Raises RuntimeError for an answer that is not 200."""
    port, folder, client, connections, seconds = sys.argv[1:]
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    context.load_cert_chain(f"{folder}/{client}.pem", f"{folder}/{client}.key")
    request = Path(folder, "request.bin").read_bytes()
    times: list[float] = []
    began = time.perf_counter()
    until = began + float(seconds)
    await asyncio.gather(
        *(_caller(int(port), context, request, until, times) for _ in range(int(connections)))
    )
    took = time.perf_counter() - began
    times.sort()
    late = times[int(len(times) * 0.99)]
    print(len(times), took, statistics.median(times) * 1e3, late * 1e3)


async def _caller(
    port: int, context: ssl.SSLContext, request: bytes, until: float, times: list[float]
) -> None:
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head[:20]:
                raise RuntimeError(head.decode("latin-1"))
            lines = head.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            times.append(time.perf_counter() - began)
    finally:
        writer.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
