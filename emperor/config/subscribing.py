"""The words of the settings of the subscription server, which are uWSGI's. Pure."""

from __future__ import annotations

from typing import Any, Final

from emperor.config.problems import Mistake

LOCAL: Final = ("unix", "127.0.0.0/8", "::1")
"""From whom subscriptions without a signature are taken, unless said otherwise."""

DIGESTS: Final = ("SHA512", "SHA384", "SHA256", "SHA224", "SHA1", "MD5")
"""Those of uWSGI's names of digests that can be checked. The last two are for what is there: both are broken for texts that an
attacker has chosen, which nobody chooses here but who has the key."""


def digest_of(name: str) -> str:
    """A digest by any spelling of its name (`sha-256`, `RSA-SHA1`); empty: it is not known."""
    found = name.upper().removeprefix("RSA-").replace("-", "").replace("_", "")
    return found if found in DIGESTS else ""


def sign_check(value: Any) -> str:
    """``DIGEST:DIRECTORY``, as uWSGI has it. Raises `Mistake`."""
    digest, colon, directory = (value if isinstance(value, str) else "").strip().partition(":")
    found = digest_of(digest)
    if not colon or not found:
        raise Mistake(
            f"{value!r} is no digest and directory",
            f"write SHA256:/etc/emperor/keys; digests are {', '.join(DIGESTS)}",
        )
    if not directory.startswith("/") or "\0" in directory:
        raise Mistake(f"{directory!r} is no whole path of a directory", "write SHA256:/etc/emperor/keys")
    return f"{found}:{directory}"


def uids(value: Any) -> str:
    """Numbers of users, between commas or blanks, or in TOML a number or a list of them. Raises `Mistake`."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    found = text.replace(",", " ").split()
    if not found or isinstance(value, bool) or not all(_is_uid(each) for each in found):
        raise Mistake(f"{value!r} are no numbers of users", "write 1000, or 1000 1001")
    return " ".join(str(int(each)) for each in found)


def _is_uid(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1
