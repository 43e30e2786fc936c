"""From a URL and the environment to a store of obstore: endpoints and credentials as users have set them elsewhere.

obstore reads the variables of each provider itself (``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS``,
``AZURE_STORAGE_ACCOUNT_NAME`` and so on), and asks the machine it runs on. What it does not read is added here: the
files of the AWS command line, fsspec's configuration, and Azure's connection string.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from obstore.store import AzureStore, GCSStore, S3Store

from castore.errors import InvalidInputError
from castore.store.obstore import ObstoreBackend

S3_PROTOCOLS = ("s3", "s3a")
GCS_PROTOCOLS = ("gs", "gcs")

_AZURE_NAMES = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
_TRUE = ("1", "true", "yes", "on")

# Every wait ends: of a connection after 10 s, of a request after 60 s, of all repetitions after about three minutes.
_CLIENT = {"connect_timeout": "10s", "timeout": "60s", "pool_max_idle_per_host": "32"}
_BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 3}
_RETRY = {"max_retries": 6, "retry_timeout": timedelta(seconds=180), "backoff": _BACKOFF}
_ONCE = {"max_retries": 0, "retry_timeout": timedelta(seconds=0)}


def open_obstore(url: str) -> ObstoreBackend:
    """The backend at a URL of S3, Google Cloud Storage or Azure. Nothing is read or written yet.

    Raises:
        InvalidInputError: No bucket can be meant, or the settings contradict each other.
    """
    protocol, _, path = url.partition("://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    if not bucket or "//" in prefix or any(part in (".", "..") for part in prefix.split("/")):
        raise InvalidInputError(f"{url!r} is no place of a repository: write {protocol}://bucket/folder")
    kind: Any
    if protocol in S3_PROTOCOLS:
        kind, config = S3Store, _s3_config()
        # Directory buckets list in an order of their own.
        traits = {"sorted_listing": not bucket.endswith("--x-s3"), "self_copy": False}
    elif protocol in GCS_PROTOCOLS:
        kind, config = GCSStore, _gcs_config()
        traits = {"sorted_listing": True, "self_copy": True}
    else:  # all others that ``urls`` sends here are Azure's
        bucket, _, host = bucket.partition("@")
        kind, config = AzureStore, _azure_config(host)
        traits = {"sorted_listing": False, "self_copy": True}
    client: dict[str, Any] = dict(_CLIENT)
    endpoint = str(config.get("endpoint") or config.get("base_url") or config.get("account_name") or "")
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    try:
        store, once = (
            kind(bucket, prefix=prefix or None, client_options=client, retry_config=retry, **config)
            for retry in (_RETRY, _ONCE)
        )
    except Exception as error:
        reason = " ".join(str(error).partition("Debug source")[0].split())
        raise InvalidInputError(f"{url}: {reason}") from error
    return ObstoreBackend(store, once, url, identity=f"{url} at {endpoint}", **traits)


def _s3_config() -> dict[str, Any]:
    ours = _fsspec_settings("s3")
    client = ours.get("client_kwargs") or {}
    config: dict[str, Any] = {
        "endpoint": ours.get("endpoint_url")
        or client.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL"),
        "access_key_id": ours.get("key"),
        "secret_access_key": ours.get("secret"),
        "session_token": ours.get("token"),
        "region": client.get("region_name") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "skip_signature": True if _is_true(ours.get("anon")) else None,
    }
    profile = ours.get("profile") or os.environ.get("AWS_PROFILE")
    known = config["access_key_id"] or config["skip_signature"] or _is_true(os.environ.get("AWS_SKIP_SIGNATURE"))
    if not known and (profile or not _aws_speaks()):
        _add_aws_files(config, profile or "default")
    return {name: value for name, value in config.items() if value is not None}


def _aws_speaks() -> bool:
    """Whether the environment has credentials that obstore finds itself."""
    names = ("ACCESS_KEY_ID", "WEB_IDENTITY_TOKEN_FILE", "CONTAINER_CREDENTIALS_RELATIVE_URI")
    return any(os.environ.get(f"AWS_{name}") for name in (*names, "CONTAINER_CREDENTIALS_FULL_URI"))


def _add_aws_files(config: dict[str, Any], profile: str) -> None:
    """Add what the files of the AWS command line say of a profile."""
    import configparser

    credentials, settings = configparser.RawConfigParser(), configparser.RawConfigParser()
    try:
        credentials.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or _home(".aws/credentials"))
        settings.read(os.environ.get("AWS_CONFIG_FILE") or _home(".aws/config"))
    except configparser.Error as error:
        raise InvalidInputError(f"cannot read the files of the AWS command line: {error}") from error
    section = profile if profile == "default" else f"profile {profile}"
    said = dict(settings[section]) if settings.has_section(section) else {}
    if credentials.has_section(profile):
        said.update(credentials[profile])
    config["region"] = config["region"] or said.get("region")
    config["endpoint"] = config["endpoint"] or said.get("endpoint_url")
    if "aws_access_key_id" in said:
        config["access_key_id"] = said["aws_access_key_id"]
        config["secret_access_key"] = said.get("aws_secret_access_key")
        config["session_token"] = said.get("aws_session_token")
    elif said:
        # Single sign-on, roles, programs: boto3 knows them all.
        try:
            import boto3
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError as error:
            raise InvalidInputError(
                f"the AWS profile {profile!r} has no plain keys, and what it has takes boto3: pip install boto3"
            ) from error
        config["credential_provider"] = Boto3CredentialProvider(boto3.Session(profile_name=profile))


def _gcs_config() -> dict[str, Any]:
    ours = _fsspec_settings("gs") | _fsspec_settings("gcs")
    emulator = ours.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")
    config: dict[str, Any] = {}
    if emulator:
        config["base_url"] = emulator if "://" in emulator else f"http://{emulator}"
    token = ours.get("token")
    if emulator and not token:
        config["bearer_token"] = "emulator"  # writes ask for a token even where nothing is to be signed
    elif token == "anon":
        config["skip_signature"] = True
    elif isinstance(token, str) and os.path.isfile(token):  # noqa: PTH113
        config["service_account"] = token
    return config


def _azure_config(host: str) -> dict[str, Any]:
    ours = _fsspec_settings("az") | _fsspec_settings("abfs")
    config: dict[str, Any] = {}
    text = ours.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    for field in text.split(";"):
        name, _, value = field.partition("=")
        if name in _AZURE_NAMES and value:
            config[_AZURE_NAMES[name]] = value
    for name in ("account_name", "account_key", "sas_token", "tenant_id", "client_id", "client_secret"):
        if ours.get(name):
            config["sas_key" if name == "sas_token" else name] = ours[name]
    if host:
        config["account_name"] = host.partition(".")[0]
    endpoint = ours.get("account_url") or config.get("endpoint") or os.environ.get("AZURE_STORAGE_ENDPOINT")
    if endpoint:
        config["endpoint"] = endpoint
    return config


def _fsspec_settings(protocol: str) -> dict[str, Any]:
    """What the user has configured for a protocol of fsspec, in its files or as ``FSSPEC_S3_ENDPOINT_URL``."""
    folder = os.environ.get("FSSPEC_CONFIG_DIR") or _home(".config/fsspec")
    if not any(name.startswith("FSSPEC_") for name in os.environ) and not os.path.isdir(folder):  # noqa: PTH112
        return {}
    from fsspec.config import conf

    found = conf.get(protocol)
    return found if isinstance(found, dict) else {}


def _is_true(value: object) -> bool:
    return str(value).lower() in _TRUE


def _home(path: str) -> str:
    return os.path.join(os.path.expanduser("~"), path)  # noqa: PTH111, PTH118 - pathlib costs start-up
