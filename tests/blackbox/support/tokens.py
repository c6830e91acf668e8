"""Tokens as a back end makes them: with PyJWT, which is not ours."""

import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SECRETS = {"HS256": "h" * 32, "HS384": "i" * 48, "HS512": "j" * 64}
PRIVATE = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS = [*SECRETS, *PRIVATE]


def public_pem(private):
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def key_settings():
    """One key of each algorithm, named after it, as `auth.keys`."""
    return [{"alg": alg, "kid": alg, "secret": secret} for alg, secret in SECRETS.items()] + [
        {"alg": alg, "kid": alg, "public_key": public_pem(key)} for alg, key in PRIVATE.items()
    ]


def token(user="ada", alg="HS256", key=None, headers=None, **claims):
    """A token that is good for an hour. `claims` add to it; one that is None is left out."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + 3600, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    key = key or SECRETS.get(alg) or PRIVATE[alg]
    return jwt.encode(claims, key, alg, headers={"kid": alg} if headers is None else headers)


def own_token(server, user="ada", **claims):
    """A token with the key that the server made in its data directory."""
    secret = (server.directory / "data" / "token-key").read_text()
    return token(user, key=secret, headers={}, **claims)
