from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, nothing

if TYPE_CHECKING:
    from pgwerk.wire import Call


class SessionStore(Catalogue):
    def listen(self) -> Call[None]:
        return self._call("listen", nothing)

    def ping(self, token: str) -> Call[None]:
        return self._call("ping", nothing, channel=self.channel, token=token)
