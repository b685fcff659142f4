from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, nothing

if TYPE_CHECKING:
    from pgwerk.db import Call


class SessionStore(Catalogue):
    def pin(self, synchronous_commit: str | None = None) -> Call[None]:
        return self._call("pin", nothing, synchronous_commit=synchronous_commit)

    def whoami(self) -> Call[int]:
        return self._call("whoami", lambda rows: int(rows[0]["pg_backend_pid"]))

    def listen(self) -> Call[None]:
        return self._call("listen", nothing)

    def ping(self, token: str) -> Call[None]:
        return self._call("ping", nothing, channel=self.channel, token=token)
