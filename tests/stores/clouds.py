"""What the tests need to know of each kind of store: its adapter, its credentials, and its provider's own client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from worker.checkpoint.azure import AzureObjects
from worker.checkpoint.gcs import GcsObjects
from worker.checkpoint.objects import Objects
from worker.checkpoint.s3 import S3Objects

KEY, SECRET = "cellstream", "bm90IGEgc2VjcmV0IGF0IGFsbA=="  # Azure wants base64


class Cloud(ABC):
    """One kind of store.

    Attributes:
        extra: of cellstream, which brings the adapter.
        scheme: of its URLs, and its name in fsspec's configuration.
        adapter: fsspec's package for it.
        objects: what is tested.
    """

    extra: str
    scheme: str
    adapter: str
    objects: type[Objects]

    @abstractmethod
    def environment(self, endpoint: str) -> dict[str, str]:
        """What a worker finds its store by."""

    @abstractmethod
    def create(self, endpoint: str, bucket: str) -> None:
        """Make a bucket, or a container."""

    @abstractmethod
    def contents(self, endpoint: str, bucket: str) -> dict[str, bytes]:
        """All that is in it."""

    def timeouts(self, connect_s: float, read_s: float) -> dict[str, Any]:
        """As fsspec's configuration has them."""
        return {"connection_timeout": connect_s, "read_timeout": read_s}


class S3(Cloud):
    """Amazon's, or what speaks as it does."""

    extra, scheme, adapter, objects = "s3", "s3", "s3fs", S3Objects

    def environment(self, endpoint: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def timeouts(self, connect_s: float, read_s: float) -> dict[str, Any]:
        retries = {"total_max_attempts": 2, "mode": "standard"}
        return {"config_kwargs": {"connect_timeout": connect_s, "read_timeout": read_s, "retries": retries}}

    def create(self, endpoint: str, bucket: str) -> None:
        self._client(endpoint).create_bucket(Bucket=bucket)

    def contents(self, endpoint: str, bucket: str) -> dict[str, bytes]:
        client = self._client(endpoint)
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def _client(self, endpoint: str) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=endpoint)


class Gcs(Cloud):
    """Google's."""

    extra, scheme, adapter, objects = "gcs", "gcs", "gcsfs", GcsObjects

    def environment(self, endpoint: str) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": endpoint}

    def create(self, endpoint: str, bucket: str) -> None:
        self._client(endpoint).create_bucket(bucket)

    def contents(self, endpoint: str, bucket: str) -> dict[str, bytes]:
        return {blob.name: blob.download_as_bytes() for blob in self._client(endpoint).list_blobs(bucket)}

    def _client(self, endpoint: str) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        return Client("project", AnonymousCredentials(), client_options={"api_endpoint": endpoint})


class Azure(Cloud):
    """Microsoft's."""

    extra, scheme, adapter, objects = "azure", "abfs", "adlfs", AzureObjects

    def environment(self, endpoint: str) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection(endpoint, SECRET)}

    def create(self, endpoint: str, bucket: str) -> None:
        with self._client(endpoint) as client:
            client.create_container(bucket)

    def contents(self, endpoint: str, bucket: str) -> dict[str, bytes]:
        with self._client(endpoint) as client, client.get_container_client(bucket) as container:
            return {name: container.download_blob(name).readall() for name in container.list_blob_names()}

    def connection(self, endpoint: str, secret: str) -> str:
        """Endpoint and credentials in one."""
        return f"AccountName={KEY};AccountKey={secret};BlobEndpoint={endpoint}/{KEY}"

    def _client(self, endpoint: str) -> Any:
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(self.connection(endpoint, SECRET))


CLOUDS: dict[str, Cloud] = {cloud.extra: cloud for cloud in (S3(), Gcs(), Azure())}
