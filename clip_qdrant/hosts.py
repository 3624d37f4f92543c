"""Hosts: which of them are this computer itself, and where a server listens."""

from __future__ import annotations

from ipaddress import ip_address

from clip_qdrant.errors import ConfigError

__all__ = ["is_loopback", "parse_address"]


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is reached from this computer alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(setting: str, text: str) -> tuple[str, int]:
    """Host and port of "host:port", "[::1]:8080" or "8080", which is 127.0.0.1's. ConfigError naming the setting."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{setting} is {text!r}: it must be host:port, such as 127.0.0.1:8080, or a port")
    return host.strip("[]") or "127.0.0.1", int(port)
