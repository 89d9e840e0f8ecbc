"""The environment variables that the HTTP client reads: proxies and certificates."""

import os
import re
import ssl
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PROXY = re.compile(
    r"(https?://)?([^\s/?#@\"']+@)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?", re.IGNORECASE
)


def proxy_for(url: str) -> str | None:
    """Return the address of the proxy through which to reach a URL, if there is one."""
    _, proxy = _proxy_setting(url)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def invalid_variables(url: str) -> list[str]:
    """Return a sentence for each invalid variable that counts when a client opens a URL."""
    sentences = []
    variable, proxy = _proxy_setting(url)
    if proxy is not None and not _is_proxy(proxy):
        sentences.append(
            f"{variable}: give an HTTP proxy such as http://proxy:3128 (SOCKS is not supported), "
            f"unset it, or add {urlsplit(url).hostname} to NO_PROXY"
        )
    return sentences + _invalid_tls_variables()


def _invalid_tls_variables() -> list[str]:
    sentences = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR", "")
    if file:
        try:
            context.load_verify_locations(file)
        except OSError:
            sentences.append("SSL_CERT_FILE: give a PEM file of certificates, or unset it")
    elif folders and not all(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        sentences.append("SSL_CERT_DIR: give a folder of certificates, or unset it")
    try:
        context.keylog_filename = os.environ.get("SSLKEYLOGFILE") or None  # type: ignore[assignment]
    except OSError:
        sentences.append("SSLKEYLOGFILE: give a file that can be written, or unset it")
    return sentences


def _proxy_setting(url: str) -> tuple[str, str | None]:
    """Return the variable that sets a proxy for a URL, and its value."""
    parts = urlsplit(url)
    proxies = getproxies()
    for scheme in (parts.scheme, "all"):
        if proxy := proxies.get(scheme):
            if _is_bypassed(parts.netloc, parts.hostname or "", proxies.get("no", "")):
                break
            name = f"{scheme}_proxy"
            names = [variable for variable in os.environ if variable.lower() == name]
            return max(names, key=str.islower, default=name), proxy
    return "", None


def _is_bypassed(netloc: str, host: str, bypassed: str) -> bool:
    """Return whether NO_PROXY names this host, or a network that its address belongs to."""
    if proxy_bypass(netloc):
        return True
    for network in bypassed.split(","):
        with suppress(ValueError):
            if ip_address(host) in ip_network(network.strip(), strict=False):
                return True
    return False


def _is_proxy(proxy: str) -> bool:
    found = _PROXY.fullmatch(proxy)
    return found is not None and int((found[4] or ":80")[1:]) <= 65535
