"""Ed25519 in plain Python, by RFC 8032: slow, and needs no library. For vectors, never for keys that matter."""

from __future__ import annotations

from hashlib import sha512

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates: X, Y, Z, T with x = X / Z, y = Y / Z, x · y = T / Z."""


def public_key(secret: bytes) -> bytes:
    """The public key of a secret of 32 bytes."""
    return _packed(_times(_scalar(secret)[0], BASE))


def sign(secret: bytes, message: bytes) -> bytes:
    """The signature of a message, 64 bytes."""
    scalar, prefix = _scalar(secret)
    public = public_key(secret)
    nonce = _number(sha512(prefix + message).digest()) % ORDER
    point = _packed(_times(nonce, BASE))
    challenge = _number(sha512(point + public + message).digest()) % ORDER
    return point + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a key over a message."""
    key, point = _unpacked(public), _unpacked(signature[:32])
    number = _number(signature[32:])
    if key is None or point is None or number >= ORDER:
        return False
    challenge = _number(sha512(signature[:32] + public + message).digest()) % ORDER
    return _packed(_times(number, BASE)) == _packed(_plus(point, _times(challenge, key)))


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _scalar(secret: bytes) -> tuple[int, bytes]:
    digest = sha512(secret).digest()
    return _number(digest[:32]) & (2**254 - 8) | 2**254, digest[32:]


def _plus(a: Point, b: Point) -> Point:
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    twist, double = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - twist, double + twist, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number: int, point: Point) -> Point:
    found: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = _plus(found, point)
        point, number = _plus(point, point), number >> 1
    return found


def _packed(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _unpacked(data: bytes) -> Point | None:
    y = _number(data) & (2**255 - 1)
    x = _root(y, data[31] >> 7)
    return None if x is None else (x, y, 1, x * y % P)


def _root(y: int, sign_bit: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if y >= P or (x * x - square) % P or (x == 0 and sign_bit):
        return None
    return P - x if x & 1 != sign_bit else x


_BASE_Y = 4 * pow(5, -1, P) % P
_BASE_X = _root(_BASE_Y, 0)
assert _BASE_X is not None
BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)
