"""HTTP/1.1 of uvicorn, with an end for connections on which no request comes: uvicorn itself waits for ever."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0  # until a request's head is there, from the beginning of a connection or from the request before


class PatientProtocol(H11Protocol):
    """Looks every `HEAD_S` seconds whether a request is answered or was; where none came since, the connection ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._seen: Any = None
        self._look_later()

    def _look_later(self) -> None:
        self.loop.call_later(HEAD_S, self._look)

    def _look(self) -> None:
        transport = cast(asyncio.Transport, self.transport)
        if transport.is_closing():
            return
        cycle = self.cycle
        if cycle is self._seen and (cycle is None or cycle.response_complete):
            transport.close()
            return
        self._seen = cycle
        self._look_later()
