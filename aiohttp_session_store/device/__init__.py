"""Sessions that are bound to the device that logged in, so that a copied cookie is soon worthless (experimental).

It uses Device Bound Session Credentials, which Chromium knows.  Needs the extra ``device``.  This module may change
with any version.
"""

from .devices import bind_devices, device_state

__all__ = ["bind_devices", "device_state"]
