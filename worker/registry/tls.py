"""TLS to the registry: what is trusted and shown, and what a handshake that fails asks for, in a sentence each."""

import re
import ssl

from worker.refusal import Refusal
from worker.settings.registry import Registry

# OpenSSL's numbers for what is wrong with a certificate
NOT_YET_VALID, EXPIRED, UNKNOWN_SIGNERS, OTHER_NAMES = 9, 10, (2, 18, 19, 20, 21), (62, 64)


def context_of(settings: Registry) -> ssl.SSLContext:
    """Return what the settings say of certificates. Raises Refusal where they cannot be read."""
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            password = settings.ssl_password.get_secret_value() if settings.ssl_password else ""
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    except OSError as error:
        names = "registry.ssl_cafile, ssl_certfile, ssl_keyfile or ssl_password"
        raise Refusal(f"the registry's certificates cannot be read ({error}): correct {names}") from None
    return context


def fix_for(error: BaseException, settings: Registry) -> str | None:
    """Return what a failed handshake asks for; None where it was not TLS that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error.verify_code, settings)
    reason = (getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    if re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)", reason):
        if settings.ssl_certfile is None:
            return "registry.ssl_certfile is not set, and the registry asks for the worker's certificate: set it"
        return f"the registry refuses registry.ssl_certfile {settings.ssl_certfile}: use a certificate that it trusts"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "registry.url is https, and what answers there does not speak TLS: write http, or name another port"
    return None


def _of_certificate(code: int, settings: Registry) -> str:
    if code in (NOT_YET_VALID, EXPIRED):
        state = "has expired" if code == EXPIRED else "is not valid yet"
        return f"the registry's certificate {state}: renew it there, or set this machine's clock"
    if code in OTHER_NAMES:
        return "write a name that the registry's certificate holds into registry.url, or have one made for this name"
    if code in UNKNOWN_SIGNERS and settings.ssl_cafile is None:
        return (
            "registry.ssl_cafile is not set, and this system does not trust who signed the registry's certificate: "
            "name a PEM file with the signer's"
        )
    if code in UNKNOWN_SIGNERS:
        return (
            f"registry.ssl_cafile {settings.ssl_cafile} does not hold who signed the registry's certificate: put the "
            "signer's there"
        )
    return "the registry's certificate cannot be trusted: replace it there"
