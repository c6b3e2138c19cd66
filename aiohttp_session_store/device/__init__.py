"""Sessions that are bound to the device that logged in, so that a copied cookie is soon worthless (experimental).

It uses Device Bound Session Credentials, which Chromium knows.  Needs the extra ``device``.  This module may change
with any version.
"""

try:
    from .devices import bind_devices, device_state
except ImportError as _missing:
    raise ImportError(f"bind_devices needs cryptography ({_missing}): pip install 'cryptography>=44'") from _missing

__all__ = ["bind_devices", "device_state"]
